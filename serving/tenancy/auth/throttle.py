"""Auth throttle: delays answers to wrong keys, longer with each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from cachetools import TTLCache

_FREE = 5
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0
_FORGET_S = 60.0
_MOST_ADDRESSES = 10_000
_MOST_WAITING = 256


class AuthThrottle:
    """Throttle on failed authentication: counts failures by address, and delays those after the first five, by 50 ms
    that double up to 2 s.

    Only failed requests are delayed, so that no client locks out another that shares its address. After a minute
    without a failure an address is forgotten. Memory is bounded: the throttle keeps the 10,000 addresses that failed
    last (IPv6 by its /64, of which one host has all), and at most 256 requests wait at a time; it delays no further
    ones, as holding them would cost more than it gains. `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        # A failure puts its address last: the first to go when the map is full is the one that failed longest ago.
        self._failures: TTLCache[str, int] = TTLCache(_MOST_ADDRESSES, _FORGET_S, clock)
        self._waiting = 0
        self.total = 0

    def count(self, address: str) -> float:
        """Count a failure; returns how many seconds its answer should wait."""
        self.total += 1
        network = _network(address)
        count = self._failures.pop(network, 0) + 1
        self._failures[network] = count
        if count <= _FREE:
            return 0.0
        return float(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(count - _FREE - 1, 10)))

    async def delay(self, address: str) -> None:
        """Count a failure, and return when it may be answered."""
        delay = self.count(address)
        if not delay or self._waiting >= _MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 64)
    return address
