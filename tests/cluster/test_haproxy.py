from __future__ import annotations

from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from serving.cluster.haproxy import confine

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


def test_rays_template_still_has_what_is_mended() -> None:
    template = HAPROXY_CONFIG_TEMPLATE
    for line in ("    bind :{{ config.metrics_port }}", "  bind *:{{ config.stats_port }}", "frontend http_frontend\n"):
        assert line in template
