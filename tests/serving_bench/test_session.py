"""Whole measurements: a plan, servers, and the report that comes of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from rich.console import Console

from serving.errors import BenchError
from serving_bench.lengths import Lengths
from serving_bench.report import Report
from serving_bench.runner import Load
from serving_bench.session import Plan, Server, Session
from serving_bench.table import print_report
from serving_bench.target import Target
from serving_bench.workload import Workload

REASONING_WORDS, CONTENT_WORDS = 20, 30
HARMONY = (
    f"<|channel|>analysis<|message|>{' word' * REASONING_WORDS}<|end|>"
    f"<|start|>assistant<|channel|>final<|message|>{' word' * CONTENT_WORDS}<|return|>"
)
USAGE = {"prompt_tokens": 5, "completion_tokens": 4}
MakeServer = Callable[[int, str], Server]


async def run(plan: Plan, progress: Any, stop: asyncio.Event | None = None) -> Report:
    async with asyncio.timeout(60):
        return await Session(plan, progress, stop or asyncio.Event()).run()


class TestOurOwnServer:
    async def test_counts_are_exact(self, serve_app: Any, server: MakeServer, quiet: Any) -> None:
        step_ms = 4.0
        async with serve_app(HARMONY, step_ms=step_ms) as port:
            loads = [Load(concurrency=3, requests=9)]
            report = await run(Plan([server(port, "target")], Workload(), loads, warm_up=2), quiet)
        (measured,) = report.runs
        assert (measured.requests.sent, measured.requests.completed, measured.failures) == (9, 9, [])
        assert measured.requests.finish_reasons == {"stop": 9}
        assert measured.tokens.reasoning == 9 * REASONING_WORDS
        assert measured.tokens.replies_without_usage == 0
        assert measured.chunks.by_channel == {
            "content": 9 * CONTENT_WORDS,
            "reasoning": 9 * REASONING_WORDS,
            "commentary": 0,
            "tool": 0,
        }
        assert measured.latency.itl.count == 9 * (CONTENT_WORDS + REASONING_WORDS - 1)
        assert measured.latency.ttft.count == measured.latency.e2e.count == 9
        assert measured.timeline is not None
        assert measured.tokens.completion is not None
        in_time = sum(measured.timeline.tokens_per_s) * measured.timeline.step_s
        assert in_time == pytest.approx(measured.tokens.completion, rel=0.01)

    async def test_times_are_not_shorter_than_the_engine_takes(
        self, serve_app: Any, server: MakeServer, quiet: Any
    ) -> None:
        step_s = 0.004
        async with serve_app(HARMONY, step_ms=step_s * 1000) as port:
            loads = [Load(concurrency=1, requests=3)]
            report = await run(Plan([server(port, "target")], Workload(), loads, warm_up=1), quiet)
        latency = report.runs[0].latency
        tokens = REASONING_WORDS + CONTENT_WORDS
        assert (latency.e2e.p50 or 0) > tokens * step_s * 0.95
        assert (latency.ttft_final.p50 or 0) > REASONING_WORDS * step_s * 0.95
        assert 0 < (latency.ttft.p50 or 0) < (latency.ttft_final.p50 or 0) < (latency.e2e.p50 or 0)

    async def test_whole_replies(self, serve_app: Any, server: MakeServer, quiet: Any) -> None:
        async with serve_app(HARMONY) as port:
            workload = Workload(stream=False)
            plan = Plan([server(port, "target")], workload, [Load(concurrency=2, requests=4)])
            report = await run(plan, quiet)
        (measured,) = report.runs
        assert measured.requests.completed == 4
        assert (measured.chunks.count, measured.latency.ttft.count, measured.latency.e2e.count) == (0, 0, 4)
        assert measured.tokens.reasoning == 4 * REASONING_WORDS

    async def test_the_responses_api(self, serve_app: Any, server: MakeServer, quiet: Any) -> None:
        async with serve_app(HARMONY) as port:
            plan = Plan([server(port, "target")], Workload(api="responses"), [Load(concurrency=2, requests=4)])
            report = await run(plan, quiet)
        (measured,) = report.runs
        assert (measured.requests.completed, measured.failures) == (4, [])
        assert measured.chunks.by_channel["content"] == 4 * CONTENT_WORDS
        assert measured.chunks.by_channel["reasoning"] == 4 * REASONING_WORDS

    async def test_a_reply_length_cuts(self, serve_app: Any, server: MakeServer, quiet: Any) -> None:
        async with serve_app(HARMONY) as port:
            workload = Workload(reply=Lengths("fixed", 12))
            report = await run(Plan([server(port, "target")], workload, [Load(concurrency=1, requests=2)]), quiet)
        (measured,) = report.runs
        assert measured.tokens.completion == 24
        assert measured.requests.finish_reasons == {"length": 2}

    async def test_a_request_the_server_refuses_ends_it_with_the_servers_words(
        self, serve_app: Any, server: MakeServer, quiet: Any
    ) -> None:
        async with serve_app(HARMONY) as port:
            plan = Plan([server(port, "target")], Workload(temperature=9.0), [Load(requests=4)])
            with pytest.raises(BenchError, match=r"warm-up.*status 400.*temperature"):
                await run(plan, quiet)


class TestTurns:
    async def test_rounds_go_forth_and_back_with_the_same_requests(
        self, serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any
    ) -> None:
        async with AsyncExitStack() as stack:
            answer = chat_reply([{"content": "a"}, {"content": "b"}], usage=USAGE)
            servers = [await stack.enter_async_context(serve_scripted(answer)) for _ in range(2)]
            workload = Workload(prompt=Lengths("fixed", 12))
            plan = Plan(
                [server(servers[0].port, "target"), server(servers[1].port, "baseline")],
                workload,
                [Load(concurrency=1, requests=3), Load(concurrency=2, requests=4)],
                rounds=3,
                warm_up=2,
            )
            report = await run(plan, quiet)
        asked = [[request.body["messages"][0]["content"] for request in each.requests] for each in servers]
        assert asked[0][:11] == asked[1][:11], "warm-up and the level of one stream at a time"
        assert sorted(asked[0]) == sorted(asked[1])
        assert len(set(asked[0])) == 2 + 3 * 3 + 3 * 4, "no request comes twice, prefix caches cannot help"
        assert [comparison.order for comparison in report.comparisons] == ["ABBAAB", "ABBAAB"]
        assert [(run.target, run.rounds, run.requests.completed) for run in report.runs] == [
            ("target", 3, 9),
            ("baseline", 3, 9),
            ("target", 3, 12),
            ("baseline", 3, 12),
        ]
        metrics = {ratio.metric: ratio for ratio in report.comparisons[0].ratios}
        assert (metrics["chunks/token"].ratio, metrics["chunks/token"].target) == (1.0, 0.5)
        assert metrics["tokens/s"].rounds == 3
        assert all(run.timeline is None for run in report.runs), "several rounds have no one time"

    async def test_several_baselines(
        self, serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any
    ) -> None:
        async with AsyncExitStack() as stack:
            answer = chat_reply([{"content": "a"}], usage=USAGE)
            names = ("target", "baseline 1", "baseline 2")
            servers = [server((await stack.enter_async_context(serve_scripted(answer))).port, name) for name in names]
            report = await run(Plan(servers, Workload(), [Load(requests=1)], rounds=2, warm_up=0), quiet)
        assert [(each.baseline, each.order) for each in report.comparisons] == [
            ("baseline 1", "ABCCBA"),
            ("baseline 2", "ABCCBA"),
        ]


class TestModelsOfOneServer:
    @pytest.fixture
    def compare(self, serve_scripted: Any, event: Any, quiet: Any) -> Any:
        """The report of comparing "quick" with "slow" and "broken", which one server answers for."""

        async def run_all(models: Sequence[str], **plan: Any) -> Report:
            async def answer(request: Any, say: Any) -> None:
                if request.body["model"] == "broken":
                    await say(b'data: {"error": {"message": "its server is away"}}\n\n')
                    return
                await asyncio.sleep(0.02 if request.body["model"] == "slow" else 0.0)
                await say(event(choices=[{"delta": {"content": "a"}}]))
                await say(event(choices=[], usage=USAGE) + b"data: [DONE]\n\n")

            async with serve_scripted(answer) as scripted:
                servers = [
                    Server(Target(model, "http", "127.0.0.1", scripted.port, "/v1"), model, "sk-1") for model in models
                ]
                report = await run(
                    Plan(servers, Workload(), [Load(1, requests=3)], measure_cpu=False, compare=True, **plan), quiet
                )
            assert {request.headers["authorization"] for request in scripted.requests} == {"Bearer sk-1"}
            return report

        return run_all

    async def test_the_others_are_held_against_the_first(self, compare: Any) -> None:
        report = await compare(["quick", "slow"], rounds=4)
        (comparison,) = report.comparisons
        assert (comparison.target, comparison.baseline, comparison.order) == ("slow", "quick", "ABBAABBA")
        assert {ratio.metric: ratio for ratio in comparison.ratios}["E2E p50 s"].ratio > 1
        assert [target.model for target in report.targets] == ["quick", "slow"]

    async def test_one_whose_server_fails_stays_in_the_table(self, compare: Any) -> None:
        report = await compare(["quick", "broken"], rounds=2)
        assert [(run.target, run.requests.completed, run.requests.failed) for run in report.runs] == [
            ("quick", 6, 0),
            ("broken", 0, 6),
        ]
        table = _printed(report)
        assert re.search(r"^  errors +0 +6 \(100\.0 %\)$", table, re.MULTILINE)
        assert "error: broken, 1 stream: 6 x error in stream, for example: its server is away" in table

    async def test_one_table_has_every_level_and_ratios_over_the_first(self, compare: Any) -> None:
        table = _printed(await compare(["quick", "slow"], rounds=2))
        assert re.search(r"^ +quick +slow$", table, re.MULTILINE)
        assert re.search(r"^    over quick \[95 %\] +0\.\d\d \[0\.\d\d to \d\.\d\d\]$", table, re.MULTILINE)
        assert "quality" in table
        assert "CPU" not in table

    async def test_a_name_that_nobody_has_ends_it_before_anything_is_measured(self, serve_app: Any, quiet: Any) -> None:
        async with serve_app(HARMONY) as port:
            servers = [Server(Target(model, "http", "127.0.0.1", port, "/v1"), model) for model in ("demo", "demmo")]
            with pytest.raises(BenchError, match=r"for demmo failed: status 404"):
                await run(Plan(servers, Workload(), [Load(requests=2)], compare=True), quiet)
        assert quiet.begun == ["demo, warm-up", "demmo, warm-up"]


def _printed(report: Report) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        print_report(report, console)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


class TestCtrlC:
    async def test_results_until_then_are_kept(
        self, serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any, until: Any
    ) -> None:
        stop = asyncio.Event()
        async with serve_scripted(chat_reply([{"content": "a"}] * 5, pause=0.02, usage=USAGE)) as scripted:
            plan = Plan([server(scripted.port, "target")], Workload(), [Load(concurrency=4), Load(concurrency=8)])
            measuring = asyncio.create_task(run(plan, quiet, stop))
            await until(lambda: len(scripted.requests) > 8 + 12)
            stop.set()
            report = await measuring
        assert report.interrupted
        (measured,) = report.runs
        assert measured.requests.completed >= 8
        assert measured.requests.interrupted == 4
        assert measured.requests.failed == 0
        assert measured.latency.e2e.count == measured.requests.completed

    async def test_a_round_that_was_cut_short_is_not_compared(
        self, serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any
    ) -> None:
        stop = asyncio.Event()

        def stop_in_third_round(what: str, runner: Any) -> None:
            if "round 3" in what:
                stop.set()

        quiet.on_begin = stop_in_third_round
        async with AsyncExitStack() as stack:
            answer = chat_reply([{"content": "a"}], usage=USAGE)
            ports = [(await stack.enter_async_context(serve_scripted(answer))).port for _ in range(2)]
            servers = [server(ports[0], "target"), server(ports[1], "baseline")]
            plan = Plan(servers, Workload(), [Load(requests=2)], rounds=9, warm_up=0)
            report = await run(plan, quiet, stop)
        (comparison,) = report.comparisons
        assert {ratio.rounds for ratio in comparison.ratios} == {2}
        assert comparison.order == "ABBAA"

    async def test_before_anything_was_measured(
        self, serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any
    ) -> None:
        stop = asyncio.Event()
        stop.set()
        async with serve_scripted(chat_reply([])) as scripted:
            report = await run(Plan([server(scripted.port, "target")], Workload(), [Load(requests=2)]), quiet, stop)
        assert (report.runs, report.comparisons, report.interrupted) == ([], [], True)


async def test_errors_are_counted_by_kind(serve_scripted: Any, server: MakeServer, quiet: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        number = len(scripted.requests)
        await say(event(choices=[{"delta": {"content": "a"}}]))
        if number % 3 == 1:
            raise ConnectionError
        if number % 3 == 2:
            await say(b"data: nonsense\n\n")
        await say(event(choices=[], usage=USAGE) + b"data: [DONE]\n\n")

    async with serve_scripted(answer) as scripted:
        plan = Plan([server(scripted.port, "target")], Workload(), [Load(concurrency=1, requests=9)], warm_up=0)
        report = await run(plan, quiet)
    (measured,) = report.runs
    assert {failure.kind: failure.count for failure in measured.failures} == {"broken stream": 3, "bad chunk": 3}
    assert measured.requests.completed == 3
    assert (measured.tokens.completion, measured.tokens.estimated) == (12, 24), "4 tokens a chunk, 6 broken chunks"


async def test_cpu_is_not_claimed_for_a_server_in_this_process(
    serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any
) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}])) as scripted:
        report = await run(Plan([server(scripted.port, "target")], Workload(), [Load(requests=1)]), quiet)
    (measured,) = report.runs
    assert measured.cpu.roles == []
    assert measured.cpu.missing is not None
    assert "--cpu-roles" in measured.cpu.missing


async def test_the_report_survives_json(serve_scripted: Any, server: MakeServer, quiet: Any, chat_reply: Any) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}], usage=USAGE)) as scripted:
        servers = [server(scripted.port, "target"), server(scripted.port, "baseline")]
        report = await run(Plan(servers, Workload(), [Load(requests=1)], rounds=2), quiet)
    text = report.model_dump_json(by_alias=True)
    assert Report.model_validate_json(text) == report
    assert '"schema":"gpt-oss-serving/bench/1"' in text
