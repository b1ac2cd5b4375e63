"""Background responses, asked for with the real client: polled, cancelled, followed, bounded, and private to a team."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
import yaml
from openai.types.responses import Response
from pydantic import SecretStr

from serving.engine.scripted import ScriptLine
from serving.settings.keys import new_key, new_salt
from serving.settings.redis import RedisSettings
from serving.settings.storage import ResponsesSettings
from serving.settings.tree import Settings
from serving.store.base import Store, StoreLimits
from serving.store.from_settings import redis_store
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

LIMITS = StoreLimits(ttl_s=60, max_bytes=10**7, max_item_bytes=10**6)
SLOW = ScriptLine(
    prompt_contains="gently",
    completion="<|channel|>analysis<|message|>Let me think about it for a while.<|end|><|start|>assistant"
    "<|channel|>final<|message|>" + "word " * 40 + "<|return|>",
    step_ms=20,
)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.openai.responses.background._STORE_EVERY_S", 0.05)
    monkeypatch.setattr("serving.api.openai.responses.background._LOOK_EVERY_S", 0.05)


@pytest.fixture(params=["memory", "redis"])
async def two(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[tuple[Served, Served]]:
    """Two servers that share a store."""
    stores: list[Store] = [MemoryStore(LIMITS)] * 2
    if request.param == "redis":
        url: SecretStr = request.getfixturevalue("redis_url")
        settings = Settings(redis=RedisSettings(url=url), responses=ResponsesSettings(backend="redis"))
        stores = [redis_store(settings, "responses") for _ in range(2)]
    async with serve(SLOW, store=stores[0]) as first, serve(SLOW, store=stores[1]) as second:
        yield first, second
    for store in stores:
        await store.close()


async def polled(ask: Callable[[], Awaitable[Response]], enough: Callable[[Response], bool]) -> Response:
    """Poll as OpenAI's documentation does."""
    async with asyncio.timeout(10):
        while True:
            response = await ask()
            if enough(response):
                return response
            await asyncio.sleep(0.02)


async def over(served: Served, response: Response) -> Response:
    ask = functools.partial(served.openai.responses.retrieve, response.id)
    return await polled(ask, lambda found: found.status not in ("queued", "in_progress"))


async def test_a_background_response_is_there_at_once_and_made_meanwhile(two: tuple[Served, Served]) -> None:
    first, second = two
    queued = await first.openai.responses.create(model="demo", input="gently", background=True)
    assert (queued.status, queued.background, queued.output) == ("queued", True, [])
    Response.model_validate(queued.to_dict())
    done = await over(second, queued)
    assert (done.status, done.background) == ("completed", True)
    assert done.output_text.strip() == ("word " * 40).strip()
    assert done.usage is not None
    continued = await second.openai.responses.create(model="demo", input="gently", previous_response_id=done.id)
    assert continued.status == "completed"


@pytest.mark.parametrize("here", [True, False])
async def test_a_stream_is_left_and_taken_up_from_any_server(two: tuple[Served, Served], here: bool) -> None:
    first, second = two
    stream = await first.openai.responses.create(model="demo", input="gently", background=True, stream=True)
    # When the client leaves after some events
    begun: list[Any] = []
    async for event in stream:
        begun.append(event)
        if len(begun) == 8:
            break
    await stream.close()
    response_id = begun[0].response.id
    # And takes the stream up where it was
    other = first if here else second
    rest = [
        event
        async for event in await other.openai.responses.retrieve(
            response_id, stream=True, starting_after=begun[-1].sequence_number
        )
    ]
    # Then it has seen each event once
    events = [*begun, *rest]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text
    again = [event async for event in await other.openai.responses.retrieve(response_id, stream=True)]
    assert [event.to_dict() for event in again[3:]] == [event.to_dict() for event in events[3:]]


async def test_any_server_cancels_it(two: tuple[Served, Served]) -> None:
    first, second = two
    queued = await first.openai.responses.create(model="demo", input="gently", background=True)
    cancelled = await second.openai.responses.cancel(queued.id)
    assert cancelled.status == "cancelled"
    assert (await first.openai.responses.retrieve(queued.id)).status == "cancelled"
    assert first.engine.running == 0
    assert (await first.openai.responses.cancel(queued.id)).status == "cancelled"


async def test_what_there_is_of_it_can_be_read(serve: Serve, until: Any) -> None:
    async with serve(SLOW) as served:
        queued = await served.openai.responses.create(model="demo", input="gently", background=True)
        ask = functools.partial(served.openai.responses.retrieve, queued.id)
        part = await polled(ask, lambda found: len(found.output) > 1)
        assert part.status == "in_progress"
        assert [item.status for item in part.output] == ["completed", "in_progress"]  # type: ignore[union-attr]  # both have one
        await served.openai.responses.cancel(queued.id)


async def test_a_failure_is_told_in_the_response(served: Served) -> None:
    served.engine.fails_after = 0
    queued = await served.openai.responses.create(model="demo", input="Hello!", background=True)
    failed = await over(served, queued)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "server_error"
    assert "secret" not in failed.error.message
    events = [event.type async for event in await served.openai.responses.retrieve(queued.id, stream=True)]
    assert events[-2:] == ["error", "response.failed"]


async def test_mistakes_and_a_full_server_are_told_at_once(serve: Serve) -> None:
    settings = ResponsesSettings(max_background=1)
    async with serve(SLOW, further={"responses": settings}) as served:
        create = served.openai.responses.create
        with pytest.raises(openai.BadRequestError) as caught:
            await create(model="demo", input="gently", background=True, store=False)
        assert caught.value.param == "store"
        with pytest.raises(openai.NotFoundError):
            await create(model="other", input="gently", background=True)
        with pytest.raises(openai.NotFoundError):
            await create(model="demo", input="q", background=True, previous_response_id="resp_0")
        running = await create(model="demo", input="gently", background=True)
        with pytest.raises(openai.InternalServerError) as full:
            await create(model="demo", input="gently", background=True)
        assert (full.value.status_code, full.value.code) == (503, "too_many_background_responses")
        await served.openai.responses.cancel(running.id)
        assert (await over(served, await create(model="demo", input="gently", background=True))).status == "completed"


async def test_a_response_too_large_for_the_store_is_failed(serve: Serve) -> None:
    settings = ResponsesSettings(max_item_bytes=4096)
    async with serve(further={"responses": settings}) as served:
        queued = await served.openai.responses.create(
            model="demo", input="endlessly", background=True, max_output_tokens=3000
        )
        failed = await over(served, queued)
        assert (failed.status, failed.output) == ("failed", [])
        with pytest.raises(openai.BadRequestError) as caught:
            await served.openai.responses.create(model="demo", input="x" * 5000, background=True)
        assert caught.value.param == "input"


async def test_a_server_that_stops_ends_them_and_says_so(serve: Serve) -> None:
    store = MemoryStore(LIMITS)
    async with serve(SLOW, store=store) as served:
        queued = await served.openai.responses.create(model="demo", input="gently", background=True)
        engine = served.engine
    assert engine.running == 0
    async with serve(SLOW, store=store) as served:
        failed = await served.openai.responses.retrieve(queued.id)
        assert failed.status == "failed"
        assert failed.error is not None
        assert "stopped" in failed.error.message


async def test_one_whose_server_is_lost_has_failed_soon(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.openai.responses.background._LOST_AFTER_S", -1.0)
    store = MemoryStore(LIMITS)
    async with serve(SLOW, store=store) as first, serve(SLOW, store=store) as second:
        queued = await first.openai.responses.create(model="demo", input="gently", background=True)
        lost = await second.openai.responses.retrieve(queued.id)
        assert lost.status == "failed"
        await over(first, queued)


async def test_teams_have_their_own_with_their_limits_and_their_account(serve: Serve, tmp_path: Path) -> None:
    keys = {team: new_key() for team in ("research", "sales")}
    stored: dict[str, Any] = {
        team: {"keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]} for team, key in keys.items()
    }
    stored["research"]["concurrent_requests"] = 1
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump({"teams": stored}))
    async with serve(SLOW, further={"teams_file": str(file)}) as served:
        ours, theirs = (served.openai.with_options(api_key=key.text).responses for key in keys.values())
        queued = await ours.create(model="demo", input="gently", background=True)
        for ask in (theirs.retrieve, theirs.cancel, theirs.delete):
            with pytest.raises(openai.NotFoundError):
                await ask(queued.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.retrieve(queued.id, stream=True)
        await polled(functools.partial(ours.retrieve, queued.id), lambda found: found.status != "queued")
        # The one request that the team may have under way is that one, though its reply was sent long ago.
        with pytest.raises(openai.RateLimitError):
            await ours.create(model="demo", input="gently")
        second = await ours.create(model="demo", input="gently", background=True)
        refused = await polled(functools.partial(ours.retrieve, second.id), lambda found: found.status != "queued")
        assert refused.error is not None
        assert refused.error.code == "rate_limit_exceeded"
        await ours.cancel(queued.id)
        answered = await ours.create(model="demo", input="gently")
        assert answered.status == "completed"
        assert served.tenancy.admission("demo").in_use == 0
