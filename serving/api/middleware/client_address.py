"""Client address of a request, seen through trusted proxies."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope


class ClientAddress:
    """Reader of x-forwarded-for from its end, as long as a trusted proxy wrote what stands there.

    A client can send that header too; its part lies before the part of the first trusted proxy, and is never read.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        """`trusted` are networks, such as 10.0.0.0/8."""
        self._trusted: list[IPv4Network | IPv6Network] = [ip_network(each) for each in trusted]

    def __call__(self, scope: Scope) -> str:
        """Return the address; "unknown" where the server gives none."""
        address = scope["client"][0] if scope.get("client") else "unknown"
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        for hop in reversed([hop.strip() for hop in forwarded.split(",")] if forwarded else []):
            if not self._is_trusted(address) or not _is_address(hop):
                break
            address = hop
        return str(address)

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
