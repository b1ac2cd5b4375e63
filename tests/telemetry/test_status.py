"""Figures of the whole service, from what its processes expose."""

from __future__ import annotations

from serving.telemetry.exposition import Exposition
from serving.telemetry.status import BackendStatus, ReplicaStatus, StatusBoard

INGRESS = {"deployment": "ingress", "replica": "a"}
ENGINE = {"deployment": "engine-demo", "model": "demo"}


class Source:
    def __init__(self) -> None:
        self.expositions: list[Exposition] = []
        self.asked = 0

    async def collect(self, *, openmetrics: bool) -> list[Exposition]:
        self.asked += 1
        return self.expositions


def ingress(final: int, replica: str = "a") -> Exposition:
    body = (
        'serving_engine_ready{model="demo"} 1.0\n'
        'serving_requests_in_flight{model="demo",team="none"} 2.0\n'
        'serving_requests_queued{model="demo",team="none"} 1.0\n'
        f'serving_tokens_total{{channel="final",model="demo",team="none"}} {final}.0\n'
    )
    return Exposition({**INGRESS, "replica": replica}, body.encode())


def engine(replica: str, running: int | None) -> Exposition:
    body = f'vllm:num_requests_running{{engine="0"}} {running}.0\nvllm:kv_cache_usage_perc{{engine="0"}} 0.25\n'
    return Exposition({**ENGINE, "replica": replica}, None if running is None else body.encode())


async def test_how_a_model_is_comes_with_it() -> None:
    body = (
        'serving_model_state{model="demo",state="loaded"} 0.0\nserving_model_state{model="demo",state="unloaded"} 1.0\n'
    )
    source = Source()
    source.expositions = [Exposition({**INGRESS, "replica": "a"}, body.encode())]
    status = await StatusBoard(source, ["demo"], Clock()).look()
    assert (status.models["demo"].state, status.models["demo"].ready) == ("unloaded", False)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_replicas_add_up() -> None:
    source = Source()
    source.expositions = [ingress(5), ingress(7, "b"), engine("x", 3), engine("y", 4), engine("z", None)]
    status = await StatusBoard(source, ["demo"], Clock()).look()
    model = status.models["demo"]
    assert (model.ready, model.replicas, model.silent) == (True, 2, 1)
    assert (model.in_flight, model.queued, model.running, model.kv_cache) == (4, 2, 7, 0.25)
    assert status.tokens["final"] == 12
    assert status.ingress_replicas == 2
    assert status.rates is None


async def test_each_replica_stands_there_by_itself() -> None:
    source = Source()
    source.expositions = [ingress(5), engine("x", 3), engine("z", None)]
    status = await StatusBoard(source, ["demo"], Clock()).look()
    assert status.replicas == [
        ReplicaStatus("ingress", "a", None, answers=True, in_flight=2, queued=1),
        ReplicaStatus("engine-demo", "x", "demo", answers=True, running=3, kv_cache=0.25),
        ReplicaStatus("engine-demo", "z", "demo", answers=False),
    ]


async def test_backends_are_counted_over_all_ingress_replicas() -> None:
    source = Source()
    for replica, ready in (("a", 1), ("b", 0)):
        body = (
            f'serving_backend_ready{{backend="lab"}} {ready}.0\n'
            'serving_backend_requests_total{backend="lab",outcome="ok"} 3.0\n'
            'serving_backend_requests_total{backend="lab",outcome="failed"} 1.0\n'
        )
        source.expositions.append(Exposition({**INGRESS, "replica": replica}, body.encode()))
    status = await StatusBoard(source, ["demo"], Clock()).look()
    assert status.backends == {"lab": BackendStatus(ready_for=1, asked={"ok": 6, "failed": 2})}


async def test_rates_are_growth_and_a_restarted_replica_does_not_make_them_negative() -> None:
    source, clock = Source(), Clock()
    board = StatusBoard(source, ["demo"], clock)
    source.expositions = [ingress(1000), ingress(50, "b")]
    await board.look()
    clock.now += 10
    # Replica b was replaced by c, and a has counted its first prompt tokens since.
    prompt = b'serving_tokens_total{channel="prompt",model="demo",team="none"} 30.0\n'
    grown = Exposition(INGRESS, (ingress(1100).body or b"") + prompt)
    source.expositions = [grown, ingress(20, "c")]
    status = await board.look()
    assert status.rates is not None
    assert (status.rates["final"], status.rates["prompt"]) == (10.0, 3.0)


async def test_many_who_look_ask_the_replicas_once() -> None:
    source, clock = Source(), Clock()
    board = StatusBoard(source, ["demo"], clock)
    for _ in range(5):
        await board.look()
        clock.now += 0.1
    assert source.asked == 1
    clock.now += 1
    await board.look()
    assert source.asked == 2
