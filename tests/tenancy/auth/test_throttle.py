from __future__ import annotations

import asyncio
import time

from serving.tenancy.auth.throttle import FailureBrake


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_failures_cost_nothing_and_later_ones_ever_more() -> None:
    brake = FailureBrake(Clock())

    delays = [brake.count("10.0.0.1") for _ in range(20)]

    assert delays[:5] == [0.0] * 5
    assert delays[5:] == sorted(delays[5:])
    assert (delays[5], delays[-1]) == (0.05, 2.0)


def test_another_address_is_not_slowed() -> None:
    brake = FailureBrake(Clock())
    for _ in range(20):
        brake.count("10.0.0.1")

    assert brake.count("10.0.0.2") == 0


def test_a_host_cannot_hide_among_its_own_ipv6_addresses() -> None:
    brake = FailureBrake(Clock())

    delays = [brake.count(f"2001:db8:0:1::{number:x}") for number in range(1, 10)]

    assert delays[-1] > 0
    assert brake.count("2001:db8:0:2::1") == 0


def test_a_quiet_minute_is_forgiven() -> None:
    clock = Clock()
    brake = FailureBrake(clock)
    for _ in range(20):
        brake.count("10.0.0.1")

    clock.now += 61

    assert brake.count("10.0.0.1") == 0


def test_a_million_addresses_take_no_more_room_than_ten_thousand() -> None:
    brake = FailureBrake(Clock())
    for number in range(20_000):
        brake.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(brake._failures) == 10_000


async def test_only_so_many_are_held_at_a_time() -> None:
    brake = FailureBrake(Clock())
    for _ in range(30):
        brake.count("10.0.0.1")
    held = [asyncio.create_task(brake.punish("10.0.0.1")) for _ in range(256)]
    await asyncio.sleep(0)

    began = time.perf_counter()
    await brake.punish("10.0.0.1")

    assert time.perf_counter() - began < 1  # 2 s for those that are held
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert brake._waiting == 0
