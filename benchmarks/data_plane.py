"""The two ways of a request from ingress to engine, in turns: `python -m benchmarks.data_plane`.

One engine replica with the scripted engine, on Ray and Ray Serve as `serving up` starts them, and one process that asks
it as an ingress replica does, without HTTP in front: 32 requests at once, replies of 8 tokens, `frames.requests:
connection` and `call` in the order ABBA. The engine costs nothing, so that what is measured is the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.servers import free_port, nothing_left
from serving.cluster.run.environment import ray_environment
from serving.engine.base import Engine, EngineRequest, Sampling
from serving.errors import EngineNotReadyError
from serving.settings.tree import Settings

MODEL = "demo"
AT_ONCE = 32
TOKENS = 8


@dataclass(frozen=True, slots=True)
class Round:
    """What a request cost in one round."""

    requests_s: float
    ingress_us: float
    engine_us: float
    first_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU time of both processes."""
        return self.ingress_us + self.engine_us


def main() -> None:
    """Start, measure, print, and stop everything."""
    parser = argparse.ArgumentParser(description="Measure both ways of a request from ingress to engine.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=640)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, nothing_left():
        script = Path(folder) / "script.jsonl"
        script.write_text(json.dumps({"completion": "<|channel|>final<|message|>" + "word " * 20}) + "\n")
        engine = {"engine": "scripted", "script": str(script), "models": {MODEL: {}}}
        settings = Settings.model_validate({**engine, "open": True, "port": free_port()})
        # Ray and Serve read it when they are imported.
        os.environ.update(ray_environment(settings, os.cpu_count() or 1))
        from serving.cluster.run.console import Console
        from serving.cluster.run.server import deploy, start_ray, take_down

        with Console() as console:
            start_ray(settings, console)
            deploy(settings, console)
            rounds = asyncio.run(_measured(arguments.rounds, arguments.requests))
            asyncio.run(take_down(settings, console))
    _tell(rounds)


async def _measured(rounds: int, requests: int) -> dict[str, list[Round]]:
    from ray import serve

    from serving.cluster.fleet import RoutedReplicas, running_replicas
    from serving.cluster.names import APPLICATION, engine_deployment
    from serving.cluster.routing.power_of_two import PowerOfTwo
    from serving.cluster.transport.framed_calls import FramedCalls
    from serving.cluster.transport.inbox import Inbox
    from serving.cluster.transport.remote_engine import RemoteEngine
    from serving.cluster.transport.unary_calls import UnaryCalls

    handle = serve.get_deployment_handle(engine_deployment(MODEL), APPLICATION)
    handle.options()
    inbox = Inbox("127.0.0.1", lambda model, loss: None)
    framed = FramedCalls(
        MODEL, RoutedReplicas(handle), PowerOfTwo(random.Random(1)), inbox.on_loss, node_address="127.0.0.1"
    )
    engines = {
        "connection": RemoteEngine(MODEL, handle, UnaryCalls(MODEL, handle, inbox, lambda: None), framed),
        "call": RemoteEngine(MODEL, handle, UnaryCalls(MODEL, handle, inbox, lambda: running_replicas(handle))),
    }
    (replica,) = (each for each in psutil.process_iter() if _is_replica(each))
    measured: dict[str, list[Round]] = {way: [] for way in engines}
    for engine in engines.values():
        await engine.start()
        await _ready(engine)
        await _round(engine, replica, 4 * AT_ONCE)  # not counted
    for number in range(rounds):
        for way in ("connection", "call") if number % 2 else ("call", "connection"):
            measured[way].append(await _round(engines[way], replica, requests))
    for engine in engines.values():
        await engine.close()
    inbox.close()
    return measured


def _is_replica(process: psutil.Process) -> bool:
    try:
        return (process.cmdline() or [""])[0].startswith(f"ray::ServeReplica:gpt-oss-serving:engine-{MODEL}")
    except psutil.Error:
        return False


async def _ready(engine: Engine) -> None:
    async with asyncio.timeout(300):
        while True:
            try:
                await engine.prepare()
            except EngineNotReadyError:
                await asyncio.sleep(0.05)
            else:
                return


async def _round(engine: Engine, replica: psutil.Process, requests: int) -> Round:
    left, firsts = iter(range(requests)), []

    async def ask() -> None:
        for number in left:
            request = EngineRequest(f"r{number}", list(range(200)), Sampling(TOKENS))
            asked, first = time.perf_counter(), True
            async with aclosing(engine.generate(request)) as deltas:
                async for _ in deltas:
                    if first:
                        firsts.append(time.perf_counter() - asked)
                        first = False

    began, mine, its = time.perf_counter(), time.process_time(), _cpu_s(replica)
    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    passed, mine, its = time.perf_counter() - began, time.process_time() - mine, _cpu_s(replica) - its
    return Round(requests / passed, mine / requests * 1e6, its / requests * 1e6, statistics.median(firsts) * 1e3)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tell(rounds: dict[str, list[Round]]) -> None:
    ways = {way: [asdict(each) | {"cpu_us": each.cpu_us} for each in measured] for way, measured in rounds.items()}
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {len(rounds['call'])} rounds each")
    for name in ("requests_s", "cpu_us", "ingress_us", "engine_us", "first_ms"):
        new, old = ([each[name] for each in ways[way]] for way in ("connection", "call"))
        ratio = statistics.median(a / b for a, b in zip(new, old, strict=True))
        lowest, *_, highest = sorted(a / b for a, b in zip(new, old, strict=True))
        print(
            f"{name:>10}: connection {statistics.median(new):8.1f}  call {statistics.median(old):8.1f}  "
            f"ratio {ratio:.2f} ({lowest:.2f} to {highest:.2f})"
        )


if __name__ == "__main__":
    main()
