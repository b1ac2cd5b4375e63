"""Environment variables of Ray and Ray Serve that have no other setting; they must be set before Ray is imported."""

from __future__ import annotations

import errno
import os
import socket

from serving.cluster.run.console_scripts import console_script
from serving.settings.http import LOOPBACK
from serving.settings.tree import Settings

# Ports on each node beside the API's; the defaults are Ray's. The fallback proxy, to which HAProxy turns while it knows
# no replica, shares its port with whoever asks: with that of another server on this machine it would share requests.
SIDE_PORTS = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
}

_START_S = 300

# Idle, Ray takes a third less CPU so. Serve's controller looks at everything, and asks the GCS,
# 10 times a second otherwise; as often Ray's log monitor looks for logs to print, which we have nobody print
# (`log_to_driver=False`).
_CONTROL_LOOP = {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25"}
_LOG_MONITOR = {"RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0", "LOG_NAME_UPDATE_INTERVAL_S": "86400"}


def patience_environment() -> dict[str, str]:
    """Variables that give the processes of our own Ray more time to start than its 30 and 60 s, as under load."""
    return {
        "RAY_gcs_server_port_wait_time_s": str(_START_S),
        "RAY_worker_register_timeout_seconds": str(_START_S),
    }


def ray_environment(settings: Settings, cores: int) -> dict[str, str]:
    """Variables for the process that starts Ray; every process of the cluster inherits them.

    Intervals of polling stay as this process's own environment has them.

    HAProxy and throughput mode must be on in all of them. On loopback Ray is made to take 127.0.0.1 for the node's
    address: it otherwise looks for one that other machines reach, and several of its own ports answer HTTP there
    (`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` is its switch for that, ray/_private/services.py, get_node_ip_address).
    """
    timeout = str(max(3600, settings.http.longest_answer_s + 60))
    environment = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(console_script("serving-haproxy")),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, cores)),
        # A stream that says nothing gets a comment line now and then, but nothing should depend on that alone.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": timeout,
        # HAProxy is reloaded whenever replicas come or go; the old process ends its streams after 120 s by default.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": timeout,
        # An ingress replica answers for so long after it was told to go; 30 s by default. HAProxy hears of it within
        # one, and takes to another replica what cannot connect.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.cluster.middleware:outermost",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if settings.host in LOOPBACK and settings.ray_address is None:
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    seldom = _CONTROL_LOOP | (_LOG_MONITOR if settings.ray_address is None else {})
    environment |= {variable: os.environ.get(variable, value) for variable, value in seldom.items()}
    for variable, port in SIDE_PORTS.items():
        chosen = os.environ.get(variable)
        environment[variable] = chosen or str(port if port_is_free("", port) else _any_free_port())
    return environment


def port_is_free(host: str, port: int) -> bool:
    """True if a server could listen there now; "" is every interface. Raises OSError when the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
