"""A throttle on wrong keys: answers to an address that keeps sending them come more and more slowly."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

_FREE = 5
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0
_FORGET_S = 60.0
_MOST_ADDRESSES = 10_000
_MOST_WAITING = 256


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class AuthThrottle:
    """Counts failures by address, and makes those after the first five wait: 50 ms, doubling up to 2 s.

    Failures alone wait, so a client cannot be locked out by another one behind the same address. After a minute without
    a failure an address is forgotten. Memory is bounded: the 10,000 addresses seen last are kept (IPv6 by its /64, of
    which one host has all), and at most 256 requests wait at a time; the rest are answered at once, as holding them
    would cost more than it gains. `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._waiting = 0
        self.total = 0

    def count(self, address: str) -> float:
        """Note a failure; returns how many seconds its answer should wait."""
        self.total += 1
        now, network = self._clock(), _network(address)
        failures = self._failures.pop(network, None)
        if failures is None or now - failures.last > _FORGET_S:
            failures = _Failures(0, now)
        failures.count += 1
        failures.last = now
        self._failures[network] = failures
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)
        if failures.count <= _FREE:
            return 0.0
        return float(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures.count - _FREE - 1, 10)))

    async def punish(self, address: str) -> None:
        """Note a failure, and return when it may be answered."""
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
