"""`make load`. Teams on one endpoint: a flood, a limit, a race by weight and overload, on four ingress replicas."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from statistics import quantiles

import httpx
import pytest

from serving.settings.keys import Key, new_key, new_salt
from tests.e2e.conftest import Stack, started

pytestmark = [pytest.mark.load, pytest.mark.timeout(400)]

SEQUENCES = 32
INGRESSES = 4
STEP_S = 1.0
WORDS = " ".join(f"w{number}" for number in range(12))
FINAL = "<|channel|>final<|message|>"
SCRIPT = [
    # One step to the first text, three in all.
    {"prompt_contains": "slow", "completion": f"{FINAL}{WORDS}<|return|>", "tokens_per_step": 12, "step_ms": 1000},
    {"prompt_contains": "fast", "completion": f"{FINAL}{WORDS}<|return|>", "tokens_per_step": 12, "step_ms": 300},
    {"completion": f"{FINAL}Hello.<|return|>"},
]
TEAMS = {
    "calm": {},
    "flood": {},
    "heavy": {"weight": 2},
    "light": {"weight": 1},
    "slowed": {"requests_per_minute": 60},
    "limited": {"requests_per_minute": 200},
}


@dataclass(frozen=True)
class Shared:
    stack: Stack
    keys: dict[str, Key]


@dataclass(frozen=True)
class Outcome:
    """How a request ended, in seconds since it was sent and tokens; `ended` by the monotonic clock."""

    status: int
    first_text_s: float
    whole_s: float
    ended: float
    tokens: int = 0
    retry_after: str | None = None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    directory = tmp_path_factory.mktemp("sharing")
    keys = {name: new_key() for name in TEAMS}
    teams = {
        name: {**team, "keys": [{"id": keys[name].id, "hash": str(keys[name].hashed(new_salt()))}]}
        for name, team in TEAMS.items()
    }
    (directory / "teams.yaml").write_text(json.dumps({"teams": teams}))
    (directory / "script.jsonl").write_text("\n".join(map(json.dumps, SCRIPT)))
    settings = {
        "engine": "scripted",
        "script": str(directory / "script.jsonl"),
        "teams_file": str(directory / "teams.yaml"),
        "ingress_replicas": INGRESSES,
        "models": {"demo": {"max_num_seqs": SEQUENCES}},
        # Of the nine or so places that each replica has here, three: as many as a calm team may come with at once.
        "admission": {"reserve": 0.3},
    }
    (directory / "serving.yaml").write_text(json.dumps(settings))
    with started(directory, "--config", str(directory / "serving.yaml")) as running:
        yield Shared(running, keys)


@pytest.fixture
async def http(shared: Shared) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=shared.stack.root, timeout=120, limits=limits) as client:
        yield client


async def ask(http: httpx.AsyncClient, key: Key, words: str, **headers: str) -> Outcome:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": words}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first, tokens = time.monotonic(), 0.0, 0
    headers = {"authorization": f"Bearer {key.text}", **headers}
    async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        async for line in reply.aiter_lines():
            if not first and '"content":"w' in line:
                first = time.monotonic() - began
            if '"usage":{' in line:
                tokens = json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
    ended = time.monotonic()
    return Outcome(reply.status_code, first, ended - began, ended, tokens, reply.headers.get("retry-after"))


async def keep_asking(
    http: httpx.AsyncClient, key: Key, words: str, clients: int, stop: asyncio.Event
) -> list[Outcome]:
    """What so many clients get that ask again as soon as they have an answer, or as late as a refusal says."""
    outcomes: list[Outcome] = []

    async def one() -> None:
        while not stop.is_set():
            outcome = await ask(http, key, words)
            outcomes.append(outcome)
            if outcome.status != 200:
                await asyncio.sleep(int(outcome.retry_after or 1))

    await asyncio.gather(*(one() for _ in range(clients)))
    return outcomes


async def for_some_time(seconds: float, stop: asyncio.Event) -> None:
    """The length of a measurement; nothing is waited for."""
    await asyncio.sleep(seconds)
    stop.set()


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


async def test_a_team_that_floods_delays_itself_only(shared: Shared, http: httpx.AsyncClient) -> None:
    async def calm(seconds: float, *others: asyncio.Task[list[Outcome]]) -> list[float]:
        stop = asyncio.Event()
        asking = asyncio.create_task(keep_asking(http, shared.keys["calm"], "slow", 3, stop))
        await for_some_time(seconds, stop)
        outcomes = await asking
        assert {outcome.status for outcome in outcomes} == {200}
        return [outcome.first_text_s for outcome in outcomes]

    # Given a team alone, on replicas that are warm
    await calm(4)
    alone = await calm(12)
    # When another has twenty times its share under way, all the time
    stop = asyncio.Event()
    clients = 20 * SEQUENCES // 2
    flood = asyncio.create_task(keep_asking(http, shared.keys["flood"], "slow", clients, stop))
    # (once all of its clients have connected, which takes one machine that plays them all some seconds)
    await asyncio.sleep(8 * STEP_S)
    beside = await calm(18)
    stop.set()
    flooding = await flood
    # Then the first team's slowest first texts come as soon as before
    assert p99(beside) < 1.2 * p99(alone), (sorted(alone)[-3:], sorted(beside)[-3:])
    # And the flood was real: most of it waited or was refused
    waits = Counter(
        outcome.status for outcome in flooding if outcome.status != 200 or outcome.first_text_s > 2 * STEP_S
    )
    assert waits.total() > len(flooding) / 2


async def test_a_limit_holds_over_four_ingress_replicas(shared: Shared, http: httpx.AsyncClient) -> None:
    # Given more requests at once than a minute's limit, over connections that reach all replicas
    places = asyncio.Semaphore(20)
    statuses: Counter[int] = Counter()

    async def one() -> None:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {shared.keys['limited'].text}"}
        async with places:
            reply = await http.post("/v1/chat/completions", json=body, headers=headers)
        statuses[reply.status_code] += 1

    # When they are asked within less than the minute
    began = time.monotonic()
    await asyncio.gather(*(one() for _ in range(500)))
    assert time.monotonic() - began < 60
    # Then as many are let in as the limit says
    assert statuses.keys() == {200, 429}
    assert statuses[200] == pytest.approx(200, rel=0.05)


async def test_tokens_are_split_by_weight_between_teams_that_want_more_than_there_is(
    shared: Shared, http: httpx.AsyncClient
) -> None:
    stop = asyncio.Event()
    racing = {
        name: asyncio.create_task(keep_asking(http, shared.keys[name], "fast", 2 * SEQUENCES, stop))
        for name in ("heavy", "light")
    }
    await asyncio.sleep(3)
    begin = time.monotonic()
    await for_some_time(15, stop)
    end = time.monotonic()
    tokens = {
        name: sum(outcome.tokens for outcome in await task if begin < outcome.ended < end)
        for name, task in racing.items()
    }
    assert tokens["heavy"] / tokens["light"] == pytest.approx(2, rel=0.05), tokens


async def test_overload_is_refused_with_a_time_and_leaves_memory_and_latency_as_they_were(
    shared: Shared, http: httpx.AsyncClient
) -> None:
    # Given a team that has used up its minute, and ten times what the engine can take for longer than that
    while (over := await ask(http, shared.keys["slowed"], "hello")).status == 200:
        pass
    stop = asyncio.Event()
    asking = asyncio.create_task(keep_asking(http, shared.keys["flood"], "fast", 10 * SEQUENCES, stop))
    await asyncio.sleep(8)
    before, begin = memory(shared.stack), time.monotonic()
    await for_some_time(60, stop)
    after, end = memory(shared.stack), time.monotonic()
    outcomes = await asking
    # Then memory has not grown
    assert after < 1.05 * before, f"{before / 2**20:.0f} MiB became {after / 2**20:.0f}"
    # And who was let in at the end waited no longer than who was let in at the beginning
    middle = (begin + end) / 2
    halves = [
        p99([each.whole_s for each in outcomes if each.status == 200 and low < each.ended < high])
        for low, high in ((begin, middle), (middle, end))
    ]
    assert halves[1] < 1.25 * halves[0]
    # And every refusal says when to come again
    refused = [each for each in outcomes if each.status != 200]
    assert {each.status for each in refused} <= {429, 503}
    assert len(refused) > 100
    assert all(each.retry_after is not None and 1 <= int(each.retry_after) <= 60 for each in refused)
    # Who does so gets in
    assert over.status == 429
    assert over.retry_after is not None
    await asyncio.sleep(max(0.0, over.ended + int(over.retry_after) - time.monotonic()))
    assert (await ask(http, shared.keys["slowed"], "hello")).status == 200


def memory(stack: Stack) -> int:
    """Bytes that the replicas hold for themselves alone."""
    return sum(
        process.memory_full_info().uss
        for process in stack.processes()
        if " ".join(process.cmdline()).startswith("ray::ServeReplica")
    )
