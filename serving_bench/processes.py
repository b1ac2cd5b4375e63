"""Processes of this machine that are the server at an address, and the role of each.

They are the process that listens, what started it as long as that is a part of the server too, and all below. Roles
are told by titles and command lines, as Ray 2.60, vLLM 0.32 and this project set them.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from serving.errors import SettingsError

Group = Literal["front end", "engine", "upkeep", "other"]


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process. `pattern` is searched in the command line; the first of a list that matches wins."""

    name: str
    group: Group
    pattern: re.Pattern[str]


SERVE_PROXY = "Serve proxy"


def _role(name: str, group: Group, pattern: str) -> Role:
    return Role(name, group, re.compile(pattern))


ROLES: Sequence[Role] = (
    _role("ingress replica", "front end", r"^ray::ServeReplica:[^:]*:ingress\b"),
    _role("engine replica", "front end", r"^ray::ServeReplica:[^:]*:(engine|LLMServer|.*[Ll][Ll][Mm])"),
    _role("other replica", "front end", r"^ray::ServeReplica:"),
    _role(SERVE_PROXY, "front end", r"^ray::ProxyActor"),
    _role("HAProxy", "front end", r"^(\S*/)?haproxy\b"),
    _role("engine core", "engine", r"^VLLM::(EngineCore|DPCoordinator)"),
    _role("engine worker", "engine", r"^VLLM::Worker|^ray::RayWorkerWrapper|^sglang::scheduler"),
    _role("API server", "front end", r"^(?i:VLLM::APIServer)|^\S*python\S* .*(vllm\.entrypoints|/vllm serve|sglang)"),
    _role("Serve controller", "upkeep", r"^ray::(ServeController|HAProxyManager|ServeReplica.*Manager)"),
    # Before the agents: the raylet's command line has theirs in it.
    _role("raylet", "upkeep", r"^\S*\braylet( |$)"),
    _role("GCS", "upkeep", r"^\S*\bgcs_server\b"),
    _role("Ray agents", "upkeep", r"^\S*python\S* .*(dashboard/agent\.py|runtime_env/agent)|^ray::\w+Agent"),
    _role("Ray dashboard", "upkeep", r"^ray-dashboard|^\S*python\S* .*/(dashboard|log_monitor|monitor)\.py"),
    _role("other actors", "upkeep", r"^ray::"),
    _role("serving up", "upkeep", r"^\S*python\S* (\S*/serving up\b|.*\bserving\.cluster\.run\b)"),
)
"""What is known by default."""


def parse_roles(texts: Iterable[str]) -> Sequence[Role]:
    """Read `NAME=REGEX`, `engine:NAME=REGEX` or `upkeep:NAME=REGEX`; raises SettingsError."""
    roles = []
    for text in texts:
        name, equals, pattern = text.partition("=")
        prefix, colon, rest = name.partition(":")
        groups: dict[str, Group] = {"engine": "engine", "upkeep": "upkeep", "front end": "front end"}
        group = groups.get(prefix, "front end") if colon else "front end"
        try:
            if not (name and equals and pattern):
                raise re.error("nothing to look for")
            roles.append(Role(rest if colon else name, group, re.compile(pattern)))
        except re.error as error:
            message = f"should be NAME=REGEX, such as proxy=envoy or engine:server=trtllm; got {text!r} ({error})"
            raise SettingsError([("--cpu-roles", message)]) from error
    return roles


def role_of(command_line: str, roles: Sequence[Role]) -> Role | None:
    """First of `roles` that fits."""
    return next((role for role in roles if role.pattern.search(command_line)), None)


def is_local(address: str) -> bool:
    """Whether the IP address is one of this machine's."""
    if address in ("0.0.0.0", "::") or address.startswith("127.") or address == "::1":
        return True
    families = (socket.AF_INET, socket.AF_INET6)
    found = psutil.net_if_addrs().values()
    return any(each.family in families and each.address.partition("%")[0] == address for all in found for each in all)


def listeners(port: int) -> list[psutil.Process]:
    """Processes that listen on a TCP port, as far as this user may see them."""
    pids = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid is not None
    }
    return [process for pid in sorted(pids) if (process := _process(pid)) is not None]


def server_processes(port: int) -> list[psutil.Process]:
    """Processes of the server on `port`; none where that is this process itself."""
    tops = {_top(process) for process in listeners(port) if process.pid != os.getpid()}
    found: dict[int, psutil.Process] = {}
    for top in tops:
        try:
            found |= {process.pid: process for process in [top, *top.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return [process for process in found.values() if process.pid != os.getpid()]


def matching_processes(roles: Sequence[Role]) -> list[psutil.Process]:
    """Every process of this machine that one of `roles` fits, but for this one."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and role_of(command_line(process), roles) is not None
    ]


def command_line(process: psutil.Process) -> str:
    """Title or arguments; "" for one that has ended or may not be seen."""
    try:
        return " ".join(process.cmdline()).strip() or process.name()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def _top(process: psutil.Process) -> psutil.Process:
    while True:
        try:
            parent = process.parent()
        except psutil.NoSuchProcess:
            return process
        if parent is None or role_of(command_line(parent), ROLES) is None:
            return process
        process = parent


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
