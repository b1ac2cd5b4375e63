"""benchmarks/RESULTS.md from reports of real, small measurements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Comparison, FrontEnd, Idle
from benchmarks.results import write
from benchmarks.scale_model import load_costs
from benchmarks.servers import Running
from serving_bench.machine import this_machine
from serving_bench.report import Report
from serving_bench.runner import Load
from serving_bench.session import Plan, Server, Session
from serving_bench.workload import Workload

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


@pytest.fixture
def measured(serve_scripted: Any, server: Callable[[int, str], Server], quiet: Any, chat_reply: Any) -> Any:
    """A report of two servers at 1 and 32 streams; an argument leaves the second out."""

    async def run(*, alone: bool = False) -> Report:
        async with AsyncExitStack() as stack:
            answer = chat_reply([{"reasoning": "a"}, {"content": "b"}], usage=USAGE)
            names = ["target"] if alone else ["target", "baseline"]
            servers = [server((await stack.enter_async_context(serve_scripted(answer))).port, name) for name in names]
            loads = [Load(concurrency=1, requests=4), Load(concurrency=32, requests=32)]
            plan = Plan(servers, Workload(), loads, rounds=1 if alone else 2, warm_up=1)
            return await Session(plan, quiet, asyncio.Event()).run()

    return run


async def test_the_page_has_every_table_and_the_model_starts_from_its_data(measured: Any, tmp_path: Path) -> None:
    both, alone = await measured(), await measured(alone=True)
    ours = Running("http://127.0.0.1:1", "/some/where/bin/serving up --config /tmp/x/serving-up.json", 61.0)
    bare = Running("http://127.0.0.1:2", "A=1 /some/where/python -m vllm.entrypoints.openai.api_server", 42.0)
    idle = Idle({"Serve controller": 0.03, "raylet": 0.01}, {"ingress replica": 0.01})
    busier = Idle({"Serve controller": 0.06, "raylet": 0.01}, {})
    comparison = Comparison(both, both, None, ours, bare, idle)
    front_ends = [FrontEnd(1, alone, ours, idle), FrontEnd(4, alone, ours, busier)]
    page, data = write(this_machine(), comparison, front_ends, "make bench", tmp_path)
    text = page.read_text()
    for heading in ("### 1 stream", "### 32 streams", "## The front end alone", "## A model of many engines"):
        assert heading in text
    assert "serving up --config serving-up.json   # ready after 61 s" in text
    assert "/some/where" not in text, "no paths of one machine"
    assert "| chunks/token | 1.00 | 1.00 | 1.000 |" in text
    assert "| without pacing: chunks/token, 32 streams, >= 0.9 | not measured | |" in text
    assert "| Ray's own upkeep, idle, <= 0.1 core | 0.040 (Serve controller 0.030, raylet 0.010) | reached |" in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("| 4 |")] == [13, 13]
    costs = load_costs(data)
    assert (costs.many_streams, costs.controller_cores) == (32, 0.03)
    assert costs.controller_cores_per_replica == pytest.approx(0.01)


async def test_goals_without_pacing_are_judged_by_their_own_run(measured: Any, tmp_path: Path) -> None:
    both, alone = await measured(), await measured(alone=True)
    running, idle = Running("http://127.0.0.1:1", "serving up", 1.0), Idle({}, {})
    comparison = Comparison(both, both, both, running, running, idle)
    page, _ = write(this_machine(), comparison, [FrontEnd(1, alone, running, idle)], "make bench", tmp_path)
    text = page.read_text()
    assert "| without pacing: chunks/token, 32 streams, >= 0.9 | 1.000 | reached |" in text
    assert "### 32 streams, without pacing" in text
