"""Lines that grow and shrink with the replicas that run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from serving.settings.admission import AdmissionSettings
from serving.settings.models import ModelSettings, ReplicaSettings
from serving.settings.tree import Settings
from serving.tenancy.flow_control.fleet import FleetSize
from serving.tenancy.tenancy import Tenancy

SETTINGS = Settings(
    models={
        "big": ModelSettings(source="demo", max_num_seqs=8, replicas=ReplicaSettings(min=1, max=4)),
        "sleepy": ModelSettings(source="demo", max_num_seqs=10, replicas=ReplicaSettings(min=0, max=2)),
    },
    ingress_replicas=2,
    admission=AdmissionSettings(margin=0),
)


class Replicas:
    """A Fleet that says what the test says."""

    def __init__(self) -> None:
        self.now = FleetSize({}, None)

    def size(self) -> FleetSize:
        return self.now


def places(tenancy: Tenancy) -> Mapping[str, int]:
    return {name: tenancy.admission(name).slots for name in SETTINGS.models}


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> Replicas:
    monkeypatch.setattr("serving.tenancy.tenancy._LOOK_EVERY_S", 0.005)
    return Replicas()


@pytest.fixture
async def tenancy(fleet: Replicas) -> AsyncIterator[Tenancy]:
    tenancy = Tenancy(SETTINGS, clock=time.time, monotonic=time.monotonic, fleet=fleet)
    tenancy.start()
    yield tenancy
    await tenancy.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_lines_begin_with_the_fewest_replicas_and_follow_those_that_run(
    tenancy: Tenancy, fleet: Replicas
) -> None:
    assert places(tenancy) == {"big": 4, "sleepy": 5}
    fleet.now = FleetSize({"big": 4, "sleepy": 2}, 2)
    await until(lambda: places(tenancy) == {"big": 16, "sleepy": 10})
    fleet.now = FleetSize({"big": 4, "sleepy": 2}, 4)
    await until(lambda: places(tenancy) == {"big": 8, "sleepy": 5})
    fleet.now = FleetSize({"big": 3, "sleepy": 2}, 4)
    await until(lambda: places(tenancy) == {"big": 6, "sleepy": 5})


async def test_engines_say_how_many_sequences_they_decode_together(tenancy: Tenancy) -> None:
    tenancy.resize(FleetSize({}, None, {"big": 100}))
    assert places(tenancy) == {"big": 50, "sleepy": 5}
    tenancy.resize(FleetSize({"big": 2}, 2))
    assert places(tenancy) == {"big": 100, "sleepy": 5}


async def test_what_is_not_known_stays_as_it_was(tenancy: Tenancy) -> None:
    tenancy.resize(FleetSize({"big": 4}, 2))
    tenancy.resize(FleetSize({}, None))
    assert places(tenancy) == {"big": 16, "sleepy": 5}
    tenancy.resize(FleetSize({"sleepy": 2}, None))
    assert places(tenancy) == {"big": 16, "sleepy": 10}


async def test_a_model_without_a_replica_keeps_the_places_of_one(tenancy: Tenancy) -> None:
    tenancy.resize(FleetSize({"big": 0, "sleepy": 0}, 2))
    assert places(tenancy) == {"big": 4, "sleepy": 5}
