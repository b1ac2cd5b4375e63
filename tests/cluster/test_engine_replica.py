"""An engine replica's calls, on the scripted engine and without Serve around it."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.cluster import engine_replica as module
from serving.cluster.engine_replica import EngineReplica, build_engine
from serving.cluster.stores import start_failures, start_stages
from serving.cluster.transport.frames import Address
from serving.engine.base import EngineRequest, Sampling, TokenDelta
from serving.engine.load import EngineLoad
from serving.engine.scripted import ScriptedEngine
from serving.engine.vllm.engine import VllmEngine
from serving.errors import ConflictError, EngineDiedError, EngineNotReadyError
from serving.harmony.vocabulary import encode_harmony
from serving.settings.tree import Settings

# Serve awaits the finalizer of a replica that it retires; without Serve nobody does.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'EngineReplica.__del__' was never awaited")

COMPLETION = "<|channel|>final<|message|>Four words of text.<|return|>"
IDS = encode_harmony(COMPLETION)
ADDRESS = Address("tcp://127.0.0.1:1", b"stream")


class Sent:
    """Outbox that keeps what it is to send."""

    def __init__(self, *_: object) -> None:
        self.added: list[tuple[Address, int, TokenDelta]] = []
        self.closed = False

    def add(self, address: Address, offset: int, delta: TokenDelta) -> None:
        self.added.append((address, offset, delta))

    def greet(self, address: Address) -> None:
        assert address == ADDRESS

    def report(self, load: EngineLoad) -> None:
        assert load.kv_cache is None

    def close(self) -> None:
        self.closed = True


class Alone:
    """What a replica tells its cluster at its start, in a process without one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stages: list[str] = []
        self.failures: list[Any] = []
        self.cleared = 0
        monkeypatch.setattr(module, "bind_to_node_address", lambda: None)
        monkeypatch.setattr(module, "configure_logging", lambda *_, **__: None)
        monkeypatch.setattr(module, "replica_labels", lambda: {"deployment": "engine-m", "replica": "one"})
        monkeypatch.setattr(module, "describe_orphans", list)
        monkeypatch.setattr(module, "_place", lambda: " on node 10.0.0.1")
        monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
        monkeypatch.setattr(module, "Outbox", Sent)
        monkeypatch.setattr(start_stages, "report", lambda _, stage: self.stages.append(stage))
        monkeypatch.setattr(start_failures, "record", lambda _, failure: self.failures.append(failure))
        monkeypatch.setattr(start_failures, "clear", lambda _: self._clear())

    def _clear(self) -> None:
        self.cleared += 1


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alone]:
    yield Alone(monkeypatch)
    gc.collect()  # replicas are parts of circles, and their finalizers nobody's to await


def settings(tmp_path: Path, **model: Any) -> Settings:
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"completion": COMPLETION}) + "\n")
    return Settings.model_validate({"engine": "scripted", "script": str(script), "models": {"m": model}})


async def start(settings: Settings) -> EngineReplica:
    """As Serve does: it makes the object, then awaits the constructor."""
    replica = object.__new__(EngineReplica)
    await EngineReplica.__init__(replica, settings, "m")
    return replica


@pytest.fixture
async def replica(alone: Alone, tmp_path: Path) -> AsyncIterator[EngineReplica]:
    each = await start(settings(tmp_path))
    yield each
    await each.close()


def request_for(**sampling: Any) -> EngineRequest:
    return EngineRequest("r", [1], Sampling(100, **sampling))


def sent(replica: EngineReplica) -> list[tuple[Address, int, TokenDelta]]:
    outbox = replica._outbox
    assert isinstance(outbox, Sent)
    return outbox.added


async def test_a_ready_replica_says_so_and_forgets_earlier_failures(replica: EngineReplica, alone: Alone) -> None:
    assert (alone.stages[-1], alone.cleared, alone.failures) == ("ready", 1, [])
    assert (await replica.info()).model == "m"
    await replica.check_health()


async def test_the_reply_has_every_token_and_frames_all_but_the_last_ones(replica: EngineReplica) -> None:
    reply = await replica.generate(request_for(), ADDRESS)
    assert (reply.token_ids, reply.finish_reason, reply.logprobs) == (IDS, "stop", None)
    frames = sent(replica)
    assert [offset for _, offset, _ in frames] == list(range(len(IDS) - 1))
    assert [token for _, _, delta in frames for token in delta.token_ids] == IDS[:-1]
    assert all(address == ADDRESS for address, _, _ in frames)


async def test_without_an_address_nothing_is_sent(replica: EngineReplica) -> None:
    assert (await replica.generate(request_for(), None)).token_ids == IDS
    assert sent(replica) == []


async def test_log_probabilities_come_with_the_reply_where_they_are_asked_for(replica: EngineReplica) -> None:
    reply = await replica.generate(request_for(logprobs=0), None)
    assert reply.logprobs is not None
    assert [each.token_id for each in reply.logprobs] == IDS


async def test_an_engine_that_stops_without_an_end_has_died(
    replica: EngineReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: ScriptedEngine, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        push(TokenDelta([1]))

    monkeypatch.setattr(ScriptedEngine, "run", run)
    with pytest.raises(EngineDiedError, match="before the answer was complete"):
        await replica.generate(request_for(), ADDRESS)


async def test_a_request_wakes_a_replica_that_sleeps(replica: EngineReplica) -> None:
    await replica.sleep()
    assert [report.asleep for report in await replica.reports()] == [True]
    assert (await replica.generate(request_for(), None)).finish_reason == "stop"
    assert [report.asleep for report in await replica.reports()] == [False]


async def test_an_engine_that_does_not_start_leaves_its_reason_in_the_cluster(
    alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: ScriptedEngine) -> None:
        raise ConflictError("no luck today")

    monkeypatch.setattr(ScriptedEngine, "start", fail)
    with pytest.raises(ConflictError):
        await start(settings(tmp_path))
    assert ["no luck today" in " ".join(failure.lines()) for failure in alone.failures] == [True]
    assert alone.stages == []


async def test_serve_retires_a_replica_by_its_finalizer(replica: EngineReplica) -> None:
    await replica.__del__()
    with pytest.raises(EngineNotReadyError):
        await replica.check_health()
    outbox = replica._outbox
    assert isinstance(outbox, Sent)
    assert outbox.closed


def test_the_settings_say_which_engine_it_is(tmp_path: Path) -> None:
    assert isinstance(build_engine(settings(tmp_path), "m"), ScriptedEngine)
    assert isinstance(build_engine(Settings.model_validate({"models": {"m": {"source": "demo"}}}), "m"), VllmEngine)
