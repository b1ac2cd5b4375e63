from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from tests.http_server import Serve, Served


async def test_models_and_aliases_are_listed(served: Served) -> None:
    models = (await served.openai.models.list()).data
    assert [model.id for model in models] == ["demo", "gpt-oss", "openai/gpt-oss-20b"]
    assert {model.object for model in models} == {"model"}
    assert {model.created for model in models} == {1_760_000_000}
    assert all(model.owned_by for model in models)


@pytest.mark.parametrize("name", ["demo", "gpt-oss", "openai/gpt-oss-20b"])
async def test_one_is_retrieved_by_any_name_slashes_included(served: Served, name: str) -> None:
    model = await served.openai.models.retrieve(name)
    assert model.id == name
    assert (model.model_extra or {}).get("root") == (None if name == "demo" else "demo")
    plain = await served.http.get(f"/v1/models/{name}")
    assert plain.json()["id"] == name


async def test_an_unknown_one_is_a_404_that_says_what_there_is(served: Served) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await served.openai.models.retrieve("openai/gpt-9")
    assert caught.value.code == "model_not_found"
    assert "demo" in caught.value.message


async def test_models_are_listed_while_engines_start(serve: Serve) -> None:
    async with serve(start=False) as served:
        assert (await served.http.get("/v1/models")).status_code == 200
