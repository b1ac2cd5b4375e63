"""Prometheus on the configuration that compose uses, against a live stack under mixed load: do all panels show data?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from openai import APIError, APITimeoutError, AsyncOpenAI
from playwright.async_api import async_playwright, expect

from grafana import generate
from grafana.lint import queries, substituted
from grafana.pictures import draw
from serving.cluster.run.process_tree import die_with_parent
from serving.settings.keys import Key, new_key, new_salt
from tests.e2e.conftest import Stack, free_port, started
from tests.programs import program

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.needs("prometheus"),
]

GRAFANA = Path(generate.__file__).parent
LOAD_S = 45.0
_SCRAPE_S = 3
_FAILED_OVER = re.compile(r'serving_failovers_total\{[^}]*outcome="(resumed|restarted)"[^}]*\} [1-9]')

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]

# Panels that cannot have data here, and why.
EMPTY: dict[str, str] = {
    "Time to load": "no model is unloaded and loaded again here, which takes vLLM a minute",
    "Effort changed": "efforts are lowered while a queue passes a team's marks, which a demo this fast never reaches",
}


@dataclass(frozen=True)
class Keys:
    admin: Key
    search: Key
    tight: Key


@dataclass(frozen=True)
class Monitored:
    """A stack with two engines and three teams, and the Prometheus that watches it."""

    stack: Stack
    prometheus: str
    keys: Keys
    places: set[int] = field(default_factory=set)
    """How many places the ingress replica's line had, while the load ran."""

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What Prometheus says to `expr` now; fails where it does not understand it."""
        # All of the load lies within five minutes, the killed engine's failovers too.
        expr = substituted(expr).replace("[1m]", "[5m]")
        reply = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expr}, timeout=30)
        assert reply.status_code == 200, f"{expr}\n{reply.text}"
        result: list[dict[str, Any]] = reply.json()["data"]["result"]
        return [sample for sample in result if sample["value"][1] != "NaN"]

    def without_data(self, expressions: list[str]) -> list[str]:
        """Those that have none for so long that no replica can just have been too busy to answer a scrape."""
        deadline = time.monotonic() + 10 * _SCRAPE_S
        empty = [expr for expr in expressions if not self.query(expr)]
        while empty and time.monotonic() < deadline:
            time.sleep(_SCRAPE_S / 3)
            empty = [expr for expr in empty if not self.query(expr)]
        return empty


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    directory = tmp_path_factory.mktemp("dashboards")
    keys = Keys(new_key(), new_key(), new_key())
    environment = {"ITSELF_API_KEY": keys.search.text}
    config = str(_settings(directory, keys))
    with (
        started(directory, "--config", config, environment=environment) as running,
        _prometheus(directory, running.port, keys.admin) as address,
    ):
        watched = Monitored(running, address, keys)
        _until_scraped(watched)
        _register_itself(watched)
        asyncio.run(_load(watched))
        # rate() wants two scrapes after everything has happened.
        _until_scraped_after(watched, time.time() + _SCRAPE_S)
        yield watched


@pytest.mark.parametrize("name", generate.BUILDERS)
def test_every_query_of_a_dashboard_returns_data(monitored: Monitored, name: str) -> None:
    asked = [(title, expr) for title, expr in queries(generate.built(name)) if title not in EMPTY]
    empty = monitored.without_data([expr for _, expr in asked])
    assert [f"{title}: {expr}" for title, expr in asked if expr in empty] == []


def test_what_is_said_to_be_empty_is_empty(monitored: Monitored) -> None:
    filled = {
        title
        for name in generate.BUILDERS
        for title, expr in queries(generate.built(name))
        if title in EMPTY and monitored.query(expr)
    }
    assert filled == set(), "take these from EMPTY"


def test_every_recording_rule_records(monitored: Monitored) -> None:
    groups = yaml.safe_load((GRAFANA / "rules" / "recording.yaml").read_text())["groups"]
    names = [rule["record"] for group in groups for rule in group["rules"]]
    assert monitored.without_data(names) == []


def test_every_rule_is_healthy_and_a_killed_engine_raises_its_alert(monitored: Monitored) -> None:
    reply = httpx.get(f"{monitored.prometheus}/api/v1/rules").json()
    rules = [rule for group in reply["data"]["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    active = {rule["name"] for rule in rules if rule.get("state") in ("pending", "firing")}
    assert {"Failover", "KeyExpiring"} <= active


def test_a_scrape_answers_for_every_replica_and_vllm(monitored: Monitored) -> None:
    _until_replaced(monitored)
    up = monitored.query("serving_scrape_replica_up == 1")
    assert sorted(sample["metric"]["deployment"] for sample in up) == ["engine-demo", "engine-demo", "ingress"]
    assert monitored.query('sum by (replica) (vllm:generation_tokens_total{deployment="engine-demo"})')


def test_the_line_had_half_its_places_while_one_of_two_engines_was_away(monitored: Monitored) -> None:
    assert len(monitored.places) == 2, "Serve's routers tell how many replicas run"
    assert max(monitored.places) == pytest.approx(2 * min(monitored.places), abs=1)


def test_counters_never_go_back(monitored: Monitored) -> None:
    assert monitored.query("sum(resets(serving_requests_total[10m]))")[0]["value"][1] == "0"
    assert monitored.query("sum(resets(vllm:generation_tokens_total[10m]))")[0]["value"][1] == "0"


def test_a_replica_that_hangs_is_left_out_within_two_seconds(monitored: Monitored) -> None:
    _until_replaced(monitored)
    [hanging, _] = _engines(monitored.stack)
    hanging.suspend()
    try:
        began = time.monotonic()
        reply = _scrape(monitored)
        took = time.monotonic() - began
    finally:
        hanging.resume()
    ups = [line for line in reply.splitlines() if line.startswith("serving_scrape_replica_up{")]
    assert sorted(line[-1] for line in ups) == ["0", "1", "1"], ups
    assert took < 3


@pytest.mark.needs("chromium")
def test_the_dashboards_and_the_status_page_can_be_drawn_for_documents(monitored: Monitored, tmp_path: Path) -> None:
    # `make pictures` names another folder
    folder = Path(os.environ.get("PICTURES", tmp_path))
    _until_replaced(monitored)
    asyncio.run(draw(monitored.prometheus, folder, LOAD_S + 60))
    asyncio.run(_draw_status_page(monitored, folder / "status.png"))
    assert {path.stem for path in folder.glob("*.png")} == {*generate.BUILDERS, "status"}


async def _draw_status_page(monitored: Monitored, picture: Path) -> None:
    """As it is just after an answer in the playground."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1100, "height": 800})
        await page.goto(monitored.stack.root)
        await page.fill("#admin-key", monitored.keys.admin.text)
        await page.fill("#team-key", monitored.keys.search.text)
        await page.click("text=Use them")
        await page.click("#send")
        await expect(page.locator("#outcome")).to_contain_text("tokens", timeout=60_000)
        await page.screenshot(path=picture, full_page=True)
        await browser.close()


def _scrape(monitored: Monitored) -> str:
    reply = httpx.get(
        f"{monitored.stack.root}/metrics",
        headers={"authorization": f"Bearer {monitored.keys.admin.text}"},
        timeout=10,
    )
    assert reply.status_code == 200, reply.text
    return reply.text


def _register_itself(monitored: Monitored) -> None:
    """Make the stack a backend of itself, and say that it is outside: what is asked there is answered here."""
    url = f"{monitored.stack.root}/v1"
    body = {"name": "itself", "type": "serving", "url": url, "models": ["demo"], "external": True}
    reply = httpx.post(
        f"{monitored.stack.root}/backends/register",
        headers={"authorization": f"Bearer {monitored.keys.admin.text}"},
        json={**body, "api_key_env": "ITSELF_API_KEY"},
        timeout=30,
    )
    assert reply.status_code == 201, reply.text


def _settings(directory: Path, keys: Keys) -> Path:
    soon = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def stored(key: Key) -> dict[str, str]:
        return {"id": key.id, "hash": str(key.hashed(new_salt())), "expires": soon}

    teams = {
        "search": {
            "requests_per_minute": 100_000,
            "tokens_per_minute": 100_000_000,
            "external": True,
            "keys": [stored(keys.search)],
        },
        "tight": {"requests_per_minute": 5, "keys": [stored(keys.tight)]},
    }
    (directory / "teams.yaml").write_text(json.dumps({"teams": teams}))
    settings = {
        "models": {"demo": {"source": "demo", "replicas": {"min": 2}}},
        "teams_file": str(directory / "teams.yaml"),
        "admin_key_hash": str(keys.admin.hashed(new_salt())),
        "backends": {"key_variables": ["ITSELF_API_KEY"]},
    }
    path = directory / "serving.yaml"
    path.write_text(json.dumps(settings))
    return path


@contextlib.contextmanager
def _prometheus(directory: Path, target: int, admin: Key) -> Iterator[str]:
    """The folder as compose mounts it, with another target, a key, and scrapes as often as a short test needs.

    Yields the address of the Prometheus that runs on it.
    """
    home = directory / "prometheus"
    shutil.copytree(GRAFANA / "rules", home / "rules")
    config = yaml.safe_load((GRAFANA / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{_SCRAPE_S}s", "evaluation_interval": f"{_SCRAPE_S}s"}
    config["scrape_configs"][0] |= {"scrape_timeout": "3s", "authorization": {"credentials": admin.text}}
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    (home / "targets.yaml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{target}"]}]))
    for rules in (home / "rules").glob("*.yaml"):
        rules.write_text(rules.read_text().replace("interval: 30s", f"interval: {_SCRAPE_S}s"))
    command = ["prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}"]
    address = f"127.0.0.1:{free_port()}"
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(
            [*command, f"--web.listen-address={address}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        ) as server,
    ):
        try:
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait(30)


def _until_scraped(monitored: Monitored) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if monitored.query("serving_scrape_replica_up"):
                return
        time.sleep(0.5)
    pytest.fail(f"Prometheus has no data: {httpx.get(f'{monitored.prometheus}/api/v1/targets').text}")


def _until_scraped_after(monitored: Monitored, moment: float) -> None:
    """Return once Prometheus has a scrape that began after `moment`, in seconds since the epoch."""
    deadline = time.monotonic() + 60
    while not monitored.query(f"timestamp(serving_scrape_replica_up) > {moment}"):
        assert time.monotonic() < deadline, "Prometheus scrapes no more"
        time.sleep(0.2)


def _until_replaced(monitored: Monitored) -> None:
    """Return once the killed engine's replacement gives metrics."""
    deadline = time.monotonic() + 180
    # Prometheus may not have looked since.
    while len(_engines(monitored.stack)) < 2 or len(monitored.query("serving_scrape_replica_up == 1")) < 3:
        assert time.monotonic() < deadline, _scrape(monitored)
        time.sleep(1)


def _engines(stack: Stack) -> list[psutil.Process]:
    return [process for process in stack.processes() if "engine-demo" in " ".join(process.cmdline())]


async def _load(monitored: Monitored) -> None:
    """Chats, streams, tools, mistakes, refusals, clients that leave, and halfway an engine that is killed."""
    deadline = time.monotonic() + LOAD_S
    async with _client(monitored, monitored.keys.search) as client, _client(monitored, monitored.keys.tight) as tight:
        users = [asyncio.create_task(_user(client, number, deadline)) for number in range(6)]
        users += [asyncio.create_task(_user(tight, 0, deadline)), asyncio.create_task(_leaver(client, deadline))]
        users.append(asyncio.create_task(_elsewhere(client, deadline)))
        users.append(asyncio.create_task(_watch_places(monitored, deadline)))
        await _repeat_a_long_prompt(client)
        await asyncio.sleep(LOAD_S / 2)
        await _lose_an_engine(monitored, client)
        await asyncio.gather(*users)


async def _lose_an_engine(monitored: Monitored, client: AsyncOpenAI) -> None:
    """Kill one in the middle of answers; another one later, where it had just come to the end of all of its own."""
    for _ in range(3):
        begun = [asyncio.Event() for _ in range(6)]
        counting = [asyncio.create_task(_count(client, each)) for each in begun]
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.wait() for each in begun))
        (await _busiest(_engines(monitored.stack))).kill()
        await asyncio.gather(*counting)
        if _FAILED_OVER.search(await asyncio.to_thread(_scrape, monitored)):
            return
        await asyncio.to_thread(_until_replaced, monitored)
    pytest.fail("no engine that was killed had an answer to lose")


async def _busiest(engines: list[psutil.Process]) -> psutil.Process:
    """The one that has used most of the processor, with its processes, within a moment: it is at work on answers."""
    before = [_cpu_s(each) for each in engines]
    await asyncio.sleep(0.5)
    used = [_cpu_s(each) - earlier for each, earlier in zip(engines, before, strict=True)]
    return engines[used.index(max(used))]


def _cpu_s(engine: psutil.Process) -> float:
    times = [each.cpu_times() for each in (engine, *engine.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextlib.asynccontextmanager
async def _client(monitored: Monitored, key: Key) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{monitored.stack.root}/v1", api_key=key.text, max_retries=0, timeout=60
    ) as client:
        yield client


async def _count(client: AsyncOpenAI, begun: asyncio.Event) -> None:
    say: Any = [{"role": "user", "content": "Count from 1 to 150."}]
    async for _ in await client.chat.completions.create(model="demo", messages=say, temperature=0, stream=True):
        begun.set()


async def _repeat_a_long_prompt(client: AsyncOpenAI) -> None:
    """Often enough that one of two engines sees it twice and has its blocks in the cache."""
    for _ in range(3):
        await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Tell me more. " * 200}], max_tokens=1
        )


async def _user(client: AsyncOpenAI, number: int, deadline: float) -> None:
    efforts = ("low", "medium", "high")
    turn = number
    while time.monotonic() < deadline:
        turn += 1
        fields: dict[str, Any] = {
            "model": "demo" if turn % 7 else "gpt-17",
            "messages": [{"role": "user", "content": "What is the weather in Paris?" if turn % 3 else "What is 2+2?"}],
            "reasoning_effort": efforts[turn % 3],
            # Random tokens are what breaks the format.
            "temperature": 2.0 if turn % 4 == 0 else 0,
            "max_tokens": 200,
            "extra_body": {"max_reasoning_tokens": 4} if turn % 5 == 0 else {},
        }
        if turn % 2:
            fields["tools"] = TOOLS
        with contextlib.suppress(APIError):
            if turn % 4 == 1:
                await client.chat.completions.create(**fields)
            elif turn % 11 == 0:
                await client.responses.create(model="demo", input="What is 2+2?", max_output_tokens=200)
            else:
                async for _ in await client.chat.completions.create(**fields, stream=True):
                    pass
        await asyncio.sleep(0.1)


async def _watch_places(monitored: Monitored, deadline: float) -> None:
    headers = {"authorization": f"Bearer {monitored.keys.admin.text}"}
    async with httpx.AsyncClient(base_url=monitored.stack.root, headers=headers, timeout=10) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                reply = await client.get("/queue/status")
                monitored.places.add(reply.json()["models"]["demo"]["places"])
            await asyncio.sleep(0.5)


async def _elsewhere(client: AsyncOpenAI, deadline: float) -> None:
    """Asks the backend."""
    while time.monotonic() < deadline:
        with contextlib.suppress(APIError):
            await client.chat.completions.create(
                model="itself:demo", messages=[{"role": "user", "content": "What is 2+2?"}], max_tokens=100
            )
        await asyncio.sleep(1.0)


async def _leaver(client: AsyncOpenAI, deadline: float) -> None:
    """Leaves streams after their first chunk, and whole answers before anything came."""
    say: list[Any] = [{"role": "user", "content": "Tell me everything."}]
    while time.monotonic() < deadline:
        with contextlib.suppress(APIError):
            stream = await client.chat.completions.create(model="demo", messages=say, stream=True, temperature=2.0)
            async for _ in stream:
                break
            await stream.close()
        with contextlib.suppress(APIError):
            # Cannot be done in time: refused at once, or stopped.
            headers = {"x-request-timeout": "0.01"}
            await client.chat.completions.create(model="demo", messages=say, extra_headers=headers)
        with contextlib.suppress(APITimeoutError):
            await client.chat.completions.create(model="demo", messages=say, temperature=2.0, timeout=0.05)
        await asyncio.sleep(0.5)
