"""`serving bench` as its user runs it: another process, a real server, a real Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from serving_bench.report import Report

USAGE = {"prompt_tokens": 5, "completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 2}}
TEXTS = [{"reasoning": "Hm"}, {"content": "Yes"}, {"content": "."}]


class Bench:
    """One run of the command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def result(self) -> tuple[int, str, str]:
        async with asyncio.timeout(60):
            out, err = await self.process.communicate()
        return self.process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def bench() -> Any:
    async def start(port: int | None, *flags: str) -> Bench:
        command = Path(sys.executable).with_name("serving")
        target = [] if port is None else [f"http://127.0.0.1:{port}", "--model", "demo"]
        arguments = ["bench", *target, *flags]
        pipe = asyncio.subprocess.PIPE
        return Bench(await asyncio.create_subprocess_exec(str(command), *arguments, stdout=pipe, stderr=pipe))

    return start


async def test_the_table_has_the_numbers_and_the_json_all_of_them(
    serve_scripted: Any, chat_reply: Any, bench: Any, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    async with serve_scripted(chat_reply(TEXTS, usage=USAGE)) as server:
        running = await bench(server.port, "--concurrency", "1,4", "--requests", "12", "--json", str(file))
        status, out, err = await running.result()
    assert status == 0, err
    report = Report.model_validate_json(file.read_text())
    assert [str(run.level) for run in report.runs] == ["1 stream", "4 streams"]
    assert [run.tokens.completion for run in report.runs] == [72, 72]
    assert [run.chunks.per_token for run in report.runs] == [0.5, 0.5]
    assert report.runs[0].cpu.front_end_us_per_token is not None, "the server is in another process"
    assert re.search(r"^requests +12 +12$", out, re.MULTILINE)
    for row in ("tokens/s", "first text (TTFT)", "per token (TPOT)", "CPU us/token", "client, cores"):
        assert row in out
    assert "4 streams" in err, "progress is not in the way of the table"


async def test_json_can_be_piped(serve_scripted: Any, chat_reply: Any, bench: Any) -> None:
    async with serve_scripted(chat_reply(TEXTS, usage=USAGE)) as server:
        status, out, err = await (await bench(server.port, "--requests", "3", "--json", "-")).result()
    assert status == 0
    assert json.loads(out)["schema"] == "gpt-oss-serving/bench/1"
    assert "tokens/s" in err


async def test_ctrl_c_keeps_the_results(
    serve_scripted: Any, chat_reply: Any, bench: Any, until: Any, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    async with serve_scripted(chat_reply(TEXTS, pause=0.02, usage=USAGE)) as server:
        running = await bench(server.port, "--concurrency", "4", "--duration", "60", "--json", str(file))
        await until(lambda: len(server.requests) > 8 + 8)
        running.process.send_signal(signal.SIGINT)
        status, out, _ = await running.result()
    report = Report.model_validate_json(file.read_text())
    assert status == 130
    assert report.interrupted
    assert report.runs[0].requests.completed >= 4
    assert report.runs[0].requests.interrupted == 4
    assert "interrupted; this is what there was" in out


async def test_ratios_and_a_page_that_needs_nothing_else(
    serve_scripted: Any, chat_reply: Any, bench: Any, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    answer = chat_reply(TEXTS, usage=USAGE)
    async with serve_scripted(answer) as server, serve_scripted(answer) as other:
        against = f"http://127.0.0.1:{other.port}"
        flags = ("--against", against, "--rounds", "2", "--concurrency", "1,2", "--requests", "4", "--html", str(page))
        status, out, err = await (await bench(server.port, *flags)).result()
    assert status == 0, err
    assert "target / baseline, 1 stream, order ABBA" in out
    assert re.search(r"^chunks/token +0\.500 +0\.500 +1\.000", out, re.MULTILINE)
    text = page.read_text()
    assert text.count("<figure>") >= 6
    assert _outside(text) == [], "nothing is fetched from elsewhere"


async def test_models_of_one_server_in_one_table(
    serve_scripted: Any, chat_reply: Any, bench: Any, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    async with serve_scripted(chat_reply(TEXTS, usage=USAGE)) as server:
        url = f"http://127.0.0.1:{server.port}"
        words = (url, "--compare", "local:demo", "other:demo", "--rounds", "2", "--requests", "4", "--html", str(page))
        status, out, err = await (await bench(None, *words)).result()
    assert status == 0, err
    assert re.search(r"^ +local:demo +other:demo *$", out, re.MULTILINE)
    assert re.search(r"^  requests +8 +8 *$", out, re.MULTILINE)
    assert "over local:demo" in page.read_text()


async def test_what_the_server_says_is_not_markup(serve_scripted: Any, bench: Any, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    error = json.dumps({"error": {"message": "<script>alert(1)</script> [red]x[/red]"}}).encode()
    async with serve_scripted(None, status=503, error=error) as server:
        flags = ("--requests", "2", "--warm-up", "0", "--html", str(page))
        status, out, _ = await (await bench(server.port, *flags)).result()
    assert status == 1, "not one request succeeded"
    assert "2 x status 503, for example: <script>alert(1)</script> [red]x[/red]" in out
    assert "<script>" not in page.read_text()


async def test_mistakes_are_told_in_a_line(bench: Any, tmp_path: Path) -> None:
    status, out, err = await (await bench(1, "--ramp", "5")).result()
    assert (status, out) == (2, "")
    assert "--ramp: should be FROM:TO:SECONDS" in err
    status, _, err = await (await bench(1, "--requests", "2")).result()
    assert (status, "Traceback" in err) == (1, False)
    assert "cannot connect" in err


def _outside(page: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "iframe", "img"):
                found.append(tag)
            found.extend(value or "" for name, value in attrs if name in ("src", "href") and value != "data:,")

    Parser().feed(page)
    return found + re.findall(r"url\([^)]*\)|@import", page)
