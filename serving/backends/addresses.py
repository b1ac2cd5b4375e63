"""Addresses that a backend may have: neither an administrator's mistake nor a name's owner can widen them.

Source of the ranges: IANA's special-purpose address registries, and what clouds say of their metadata services.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from serving.errors import InvalidValueError

Address = IPv4Address | IPv6Address

# Metadata services that are not link-local: AWS over IPv6, Alibaba, Oracle, Azure's wire server.
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))
_NAT64 = ip_network("64:ff9b::/96")
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


def plain(address: Address) -> Address:
    """IPv4 address inside an IPv6 one, where it is only wrapped: mapped, 6to4, Teredo or NAT64."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_forbidden(address: Address) -> bool:
    """Whether no backend is ever at `address`: link-local (most metadata services), metadata, multicast, nowhere."""
    inner = plain(address)
    return (
        inner in _METADATA
        or inner.is_link_local
        or inner.is_multicast
        or inner.is_unspecified
        or (inner.is_reserved and not inner.is_loopback)
        or (isinstance(inner, IPv4Address) and int(inner) >> 24 == 0)
    )


class AllowList:
    """Allow list of hosts, `*.domains` and networks. A host allowed by name may be anywhere that is not forbidden."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._names: list[str] = []
        self._networks = []
        for each in allowed:
            try:
                self._networks.append(ip_network(each))
            except ValueError:
                self._names.append(each.lower())

    def by_name(self, host: str) -> bool:
        """Whether the host itself is allowed."""
        host = host.lower().rstrip(".")
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self._names)

    def by_address(self, address: Address) -> bool:
        """Whether a network with `address` in it is allowed."""
        inner = plain(address)
        return any(inner in network for network in self._networks)


class Gate:
    """Gate for the connections of one backend: checks the addresses that its name has at that moment.

    `trusted` are backends of the settings: their host was chosen by who runs this. Others must be in `allowed`.
    """

    def __init__(self, allowed: AllowList, *, trusted: bool) -> None:
        self._allowed = allowed
        self._trusted = trusted

    async def open(self, host: str, port: int) -> list[str]:
        """Addresses of `host` to connect to; raises InvalidValueError unless every one of them is allowed.

        One that may and one that may not is how a name's owner would get around a check. Raises OSError for a name
        that has no address.
        """
        addresses = await resolve(host, port)
        trusted = self._trusted or self._allowed.by_name(host)
        for address in addresses:
            if is_forbidden(address) or not (trusted or self._allowed.by_address(address)):
                raise InvalidValueError(
                    f"'{host}' is not among the addresses that backends may have. "
                    "The setting `backends.allow` has the hosts and networks they may be at; "
                    "link-local and metadata addresses are never allowed.",
                    param="url",
                    code="address_not_allowed",
                )
        return [str(address) for address in addresses]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """All addresses of `host`; raises OSError where there is none."""
    host = host.strip("[]")
    try:
        return [ip_address(host.partition("%")[0])]
    except ValueError:
        pass
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    return list(dict.fromkeys(addresses))


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine, as far as its text says."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return plain(ip_address(host)).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES
