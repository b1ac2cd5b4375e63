"""Several servers with one store, as ingress replicas are; and owners who must not see each other's responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
import yaml
from pydantic import SecretStr

from serving.api.openai.responses.archive import ResponseArchive
from serving.errors import ResponseNotFoundError
from serving.settings.keys import new_key, new_salt
from serving.settings.redis import RedisSettings
from serving.settings.storage import ResponsesSettings
from serving.settings.tree import Settings
from serving.store.base import Store, StoreLimits
from serving.store.from_settings import redis_store
from serving.store.memory import MemoryStore
from serving.tenancy.auth.authenticator import OPEN

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

LIMITS = StoreLimits(ttl_s=60, max_bytes=10**7, max_item_bytes=10**6)


@pytest.fixture(params=["memory", "redis"])
async def two(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[tuple[Served, Served]]:
    """Two servers that share a store; each has its own connections where there are any."""
    stores: list[Store] = [MemoryStore(LIMITS)] * 2
    if request.param == "redis":
        url: SecretStr = request.getfixturevalue("redis_url")
        settings = Settings(redis=RedisSettings(url=url), responses=ResponsesSettings(backend="redis"))
        stores = [redis_store(settings, "responses") for _ in range(2)]
    async with serve(store=stores[0]) as first, serve(store=stores[1]) as second:
        yield first, second
    for store in stores:
        await store.close()


async def test_a_response_outlives_the_server_that_made_it(two: tuple[Served, Served]) -> None:
    first, second = two
    response = await first.openai.responses.create(model="demo", input="Hello!")
    found = await second.openai.responses.retrieve(response.id)
    assert found.to_dict() == response.to_dict()
    await second.openai.responses.create(model="demo", input="And?", previous_response_id=response.id)
    await second.openai.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await first.openai.responses.retrieve(response.id)


async def test_any_server_cancels_a_response_wherever_it_is_made(two: tuple[Served, Served]) -> None:
    first, second = two
    stream = await first.openai.responses.create(model="demo", input="slowly", stream=True)
    events = aiter(stream)
    begun = await anext(events)
    assert begun.type == "response.created"
    cancelled = await second.openai.responses.cancel(begun.response.id)
    assert cancelled.status == "cancelled"
    rest = [event async for event in events]
    assert rest[-1].type == "response.incomplete"
    assert rest[-1].response.to_dict() == cancelled.to_dict()
    assert first.engine.running == 0


async def test_a_response_whose_server_is_lost_has_failed(serve: Serve) -> None:
    store = MemoryStore(LIMITS)
    async with serve(store=store, longest_answer_s=1) as served:
        stream = await served.openai.responses.create(model="demo", input="slowly", stream=True)
        begun = await anext(aiter(stream))
        assert begun.type == "response.created"
        response_id = begun.response.id
        later = ResponseArchive(store, lambda: 1_760_000_000.0 + 100)
        record = await later.get(OPEN.team, response_id)
        assert record.response["status"] == "failed"
        assert record.response["error"] == {
            "code": "server_error",
            "message": "The server that worked on this response was lost.",
        }
        with pytest.raises(ResponseNotFoundError):
            await later.get("somebody else", response_id)
        await stream.close()


async def test_teams_do_not_see_each_others_responses(serve: Serve, tmp_path: Path) -> None:
    keys = {team: new_key() for team in ("research", "sales")}
    stored = {team: {"keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]} for team, key in keys.items()}
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump({"teams": stored}))
    async with serve(further={"teams_file": str(file)}) as served:
        ours, theirs = (served.openai.with_options(api_key=key.text).responses for key in keys.values())
        response = await ours.create(model="demo", input="Hello!")
        assert (await ours.retrieve(response.id)).id == response.id
        refusals = []
        for name in (response.id, "resp_0"):
            with pytest.raises(openai.NotFoundError) as caught:
                await theirs.retrieve(name)
            refusals.append(caught.value.message.replace(name, "ID"))
            for ask in (theirs.delete, theirs.cancel, theirs.input_items.list):
                with pytest.raises(openai.NotFoundError):
                    await ask(name)
            with pytest.raises(openai.NotFoundError):
                await theirs.create(model="demo", input="And?", previous_response_id=name)
        assert refusals[0] == refusals[1]
        reference = {"type": "item_reference", "id": response.output[0].id}
        with pytest.raises(openai.NotFoundError):
            await theirs.create(model="demo", input=[reference])  # type: ignore[list-item]  # an item all the same
        assert (await ours.retrieve(response.id)).id == response.id
