from __future__ import annotations

import asyncio
import time

from serving.tenancy.auth.throttle import AuthThrottle


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_failures_cost_nothing_and_later_ones_ever_more() -> None:
    throttle = AuthThrottle(Clock())

    delays = [throttle.count("10.0.0.1") for _ in range(20)]

    assert delays[:5] == [0.0] * 5
    assert delays[5:] == sorted(delays[5:])
    assert (delays[5], delays[-1]) == (0.05, 2.0)


def test_another_address_is_not_slowed() -> None:
    throttle = AuthThrottle(Clock())
    for _ in range(20):
        throttle.count("10.0.0.1")

    assert throttle.count("10.0.0.2") == 0


def test_a_host_cannot_hide_among_its_own_ipv6_addresses() -> None:
    throttle = AuthThrottle(Clock())

    delays = [throttle.count(f"2001:db8:0:1::{number:x}") for number in range(1, 10)]

    assert delays[-1] > 0
    assert throttle.count("2001:db8:0:2::1") == 0


def test_a_quiet_minute_is_forgiven() -> None:
    clock = Clock()
    throttle = AuthThrottle(clock)
    for _ in range(20):
        throttle.count("10.0.0.1")

    clock.now += 61

    assert throttle.count("10.0.0.1") == 0


def test_a_million_addresses_take_no_more_room_than_ten_thousand() -> None:
    throttle = AuthThrottle(Clock())
    for number in range(20_000):
        throttle.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(throttle._failures) == 10_000


async def test_only_so_many_are_held_at_a_time() -> None:
    throttle = AuthThrottle(Clock())
    for _ in range(30):
        throttle.count("10.0.0.1")
    held = [asyncio.create_task(throttle.delay("10.0.0.1")) for _ in range(256)]
    await asyncio.sleep(0)

    began = time.perf_counter()
    await throttle.delay("10.0.0.1")

    assert time.perf_counter() - began < 1  # 2 s for those that are held
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert throttle._waiting == 0
