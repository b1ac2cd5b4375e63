"""A variant, asked through every API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from serving.harmony.vocabulary import decode
from serving.settings.keys import new_key, new_salt
from serving.settings.presets import PresetSettings

if TYPE_CHECKING:
    import httpx

    from tests.http_server import Serve, Served

SCHEMA = {"type": "object", "properties": {"level": {"type": "integer"}}, "required": ["level"]}
TRIAGE = PresetSettings.model_validate(
    {
        "model": "gpt-oss",
        "instructions": "Judge the finding.",
        "effort": "high",
        "max_reasoning_tokens": 100,
        "temperature": 0.25,
        "tools": [{"name": "look_up", "description": "Look it up", "parameters": {"type": "object"}}],
        "answer": {"json_schema": SCHEMA},
    }
)
VARIANTS: Any = {"variants": {"triage": TRIAGE}}
APIS: Any = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello!"}]},
    "/v1/responses": {"input": "Hello!"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 500},
}
SAID: Any = {
    "/v1/chat/completions": {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "other"}}],
        "response_format": {"type": "text"},
    },
    "/v1/responses": {
        "instructions": "Be brief.",
        "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "name": "other"}],
        "text": {"format": {"type": "text"}},
    },
    "/v1/messages": {
        "system": [{"type": "text", "text": "Be brief."}],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [{"name": "other", "input_schema": {"type": "object"}}],
    },
}


async def ask(served: Served, path: str, **fields: Any) -> httpx.Response:
    reply = await served.http.post(path, json={"model": "triage", **APIS[path], **fields})
    assert reply.status_code == 200, reply.text
    return reply


def prompt_of(served: Served) -> str:
    return decode(served.engine.requests[-1].prompt_token_ids)


@pytest.mark.parametrize("path", APIS)
async def test_every_api_takes_the_presets(serve: Serve, path: str) -> None:
    async with serve(further=VARIANTS) as served:
        reply = await ask(served, path)
        prompt = prompt_of(served)
        assert served.engine.requests[-1].sampling.temperature == 0.25
    assert reply.headers["x-reasoning-effort"] == "high"
    assert "Reasoning: high" in prompt
    assert "# Instructions\n\nJudge the finding." in prompt
    assert "look_up" in prompt
    assert '"level"' in prompt
    assert reply.json()["model"] == "triage"


@pytest.mark.parametrize("path", APIS)
async def test_what_the_request_says_wins_and_instructions_are_joined(serve: Serve, path: str) -> None:
    async with serve(further=VARIANTS) as served:
        reply = await ask(served, path, temperature=0.75, **SAID[path])
        prompt = prompt_of(served)
        assert served.engine.requests[-1].sampling.temperature == 0.75
    assert reply.headers["x-reasoning-effort"] == "low"
    assert "# Instructions\n\nJudge the finding.\n\nBe brief." in prompt
    assert "look_up" not in prompt
    assert "other" in prompt
    assert '"level"' not in prompt


@pytest.mark.parametrize(
    ("path", "count"), [("/v1/chat/completions", "/tokenize"), ("/v1/messages", "/v1/messages/count_tokens")]
)
async def test_its_prompt_is_counted_as_it_is_asked(serve: Serve, path: str, count: str) -> None:
    fields: Any = {"model": "triage", "messages": APIS[path]["messages"]}
    async with serve(further=VARIANTS) as served:
        await ask(served, path)
        counted = (await served.http.post(count, json=fields)).json()
        asked = len(served.engine.requests[-1].prompt_token_ids)
    assert counted.get("count", counted.get("input_tokens")) == asked


async def test_it_is_listed_and_named_after_its_model(serve: Serve) -> None:
    async with serve(further=VARIANTS) as served:
        card = (await served.http.get("/v1/models/triage")).json()
        listed = [model["id"] for model in (await served.http.get("/v1/models")).json()["data"]]
        plain = await served.chat()
    assert (card["id"], card["root"]) == ("triage", "demo")
    assert listed.count("triage") == 1
    assert plain.headers["x-reasoning-effort"] == "medium"


async def test_a_team_may_have_the_variant_alone(serve: Serve, tmp_path: Path) -> None:
    key = new_key()
    line = {"id": key.id, "hash": str(key.hashed(new_salt()))}
    path = tmp_path / "teams.yaml"
    path.write_text(yaml.safe_dump({"teams": {"security": {"keys": [line], "models": ["triage"]}}}))
    headers = {"authorization": f"Bearer {key.text}"}
    async with serve(further={**VARIANTS, "teams_file": str(path)}) as served:
        asked = {"messages": [{"role": "user", "content": "Hello!"}]}
        variant, plain = [
            await served.http.post("/v1/chat/completions", json={"model": name, **asked}, headers=headers)
            for name in ("triage", "demo")
        ]
    assert (variant.status_code, plain.status_code) == (200, 404)


async def test_raw_completions_refuse_it(serve: Serve) -> None:
    async with serve(further=VARIANTS) as served:
        reply = await served.http.post("/v1/completions", json={"model": "triage", "prompt": "Hello"})
    assert reply.status_code == 400
    assert "name the model 'gpt-oss' instead" in reply.json()["error"]["message"]
