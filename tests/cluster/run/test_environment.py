from __future__ import annotations

import os
import socket

import pytest

from serving.cluster.run.environment import port_is_free, ray_environment
from serving.settings.tree import Settings


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
    assert port_is_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="address"):
        port_is_free("192.0.2.77", 0)


def test_ray_stays_on_loopback_unless_asked_out() -> None:
    switch = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert ray_environment(Settings(), cores=2)[switch] == "0"
    assert switch not in ray_environment(Settings(host="0.0.0.0"), cores=2)


def test_haproxy_is_ours_and_waits_for_the_longest_answer() -> None:
    environment = ray_environment(Settings.model_validate({"http": {"longest_answer_s": 7200}}), cores=2)
    assert os.access(environment["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
    assert int(environment["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"]) > 7200
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"


def test_an_operator_can_have_the_controller_look_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "RAY_SERVE_CONTROL_LOOP_INTERVAL_S"
    assert ray_environment(Settings(), cores=2)[variable] == "0.25"
    monkeypatch.setenv(variable, "0.05")
    assert ray_environment(Settings(), cores=2)[variable] == "0.05"


def test_a_port_that_the_environment_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two servers that start in the same second would both find the usual one free.
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "18404")
    assert ray_environment(Settings(), cores=2)["RAY_SERVE_HAPROXY_STATS_PORT"] == "18404"


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_two_servers_on_one_machine_share_no_port(host: str) -> None:
    # Given what Ray takes for HAProxy's last resort, taken in the way that lets others listen too
    variable, port = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", 8500
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            other.bind((host, port))
        except OSError:
            pass  # another server has it: just as well
        else:
            other.listen()
        # When a server starts, then it takes another one
        assert ray_environment(Settings(), cores=2)[variable] != str(port)
