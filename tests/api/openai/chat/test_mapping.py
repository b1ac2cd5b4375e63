"""What of a request reaches the engine: the prompt's text and the sampling, seen from the engine's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serving.harmony.vocabulary import decode
from serving.settings.models import ModelSettings
from serving.settings.reasoning import ReasoningSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

CALL = {"id": "call_7", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def prompt_of(served: Served, **fields: Any) -> str:
    reply = await served.chat(**fields)
    assert reply.status_code == 200, reply.text
    return decode(served.engine.requests[-1].prompt_token_ids)


async def test_system_and_developer_messages_become_the_instructions(served: Served) -> None:
    prompt = await prompt_of(
        served,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "now?"}]},
        ],
    )
    assert "# Instructions\n\nBe brief.\n\nBe kind." in prompt
    assert "What now?" in prompt


async def test_the_date_is_the_clocks_in_utc(served: Served) -> None:
    assert "2025-10-09" in await prompt_of(served)


async def test_history_is_rendered_with_its_calls_and_their_results(served: Served) -> None:
    prompt = await prompt_of(
        served,
        messages=[
            {"role": "user", "content": "Rome?"},
            {
                "role": "assistant",
                "content": None,
                "reasoning": "I should look.",
                "commentary": "One moment.",
                "tool_calls": [CALL],
            },
            {"role": "tool", "tool_call_id": "call_7", "content": "sunny in Rome"},
        ],
        tools=[TOOL],
    )
    for text in ("Rome?", "I should look.", "One moment.", '{"city":"Rome"}', "sunny in Rome", "get_weather"):
        assert text in prompt


async def test_old_reasoning_is_dropped(served: Served) -> None:
    prompt = await prompt_of(
        served,
        messages=[
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two.", "reasoning_content": "old thoughts"},
            {"role": "user", "content": "Three?"},
        ],
    )
    assert "Two." in prompt
    assert "old thoughts" not in prompt


async def test_tools_are_shown_to_the_model_unless_it_may_not_call_them(served: Served) -> None:
    assert "Weather of a city" in await prompt_of(served, tools=[TOOL])
    assert "Weather of a city" in await prompt_of(served, tools=[TOOL], tool_choice="auto")
    assert "Weather of a city" not in await prompt_of(served, tools=[TOOL], tool_choice="none")


@pytest.mark.parametrize(
    ("asked", "used"),
    [(None, "medium"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("none", "low"), ("xhigh", "high")],
)
async def test_the_effort_is_rendered_and_reported(served: Served, asked: str | None, used: str) -> None:
    reply = await served.chat(reasoning_effort=asked)
    assert reply.headers["x-reasoning-effort"] == used
    assert f"Reasoning: {used}" in decode(served.engine.requests[-1].prompt_token_ids)
    assert (await served.chat(reasoning_effort=asked, stream=True)).headers["x-reasoning-effort"] == used


async def test_the_models_settings_decide_on_efforts_it_does_not_have(serve: Serve) -> None:
    strict = ModelSettings(reasoning=ReasoningSettings(default_effort="high", unsupported_effort="refuse"))
    async with serve(models={"demo": strict}) as served:
        assert (await served.chat()).headers["x-reasoning-effort"] == "high"
        refused = await served.chat(reasoning_effort="minimal")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "reasoning_effort"


async def test_sampling_reaches_the_engine_as_it_was_asked_for(served: Served) -> None:
    await served.chat(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        n=2,
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias={"5": -100, "6": 1.5},
        logprobs=True,
        top_logprobs=3,
        max_tokens=50,
    )
    sampling = served.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 40, 0.05)
    assert (sampling.seed, sampling.max_tokens, sampling.logprobs) == (8, 50, 3)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert sampling.repetition_penalty == 1.1
    assert sampling.logit_bias == {5: -100, 6: 1.5}


async def test_sampling_defaults_are_openais(served: Served) -> None:
    await served.chat()
    request = served.engine.requests[-1]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1, 1, 0, 0)
    assert (sampling.seed, sampling.logit_bias, sampling.logprobs) == (None, None, None)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (0, 0, 1)
    assert sampling.max_tokens == 131072 - len(request.prompt_token_ids)


async def test_edges_of_sampling_mean_to_the_engine_what_they_mean_to_clients(served: Served) -> None:
    await served.chat(temperature=0, top_p=0, top_k=-1, logprobs=True)
    sampling = served.engine.requests[-1].sampling
    assert sampling.temperature == 0
    assert 0 < sampling.top_p < 1e-3
    assert sampling.top_k == 0
    assert sampling.logprobs == 0


async def test_requests_with_one_id_are_two_to_the_engine(served: Served) -> None:
    for _ in range(2):
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}
        await served.http.post("/v1/chat/completions", json=body, headers={"x-request-id": "same"})
    first, second = served.engine.requests
    assert first.request_id != second.request_id
