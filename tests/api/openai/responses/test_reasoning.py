"""Reasoning that clients keep, encrypted or as a summary, and send back: the model is shown the same tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agents
import openai
import pytest
import yaml
from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai.types.responses import Response, ResponseReasoningItem
from pydantic import SecretStr

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode
from serving.settings.keys import new_key, new_salt
from serving.settings.models import ModelSettings as ServedModel
from serving.settings.storage import ResponsesSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

PREAMBLE = "Let me look."
ENCRYPTED: Any = ["reasoning.encrypted_content"]
TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}
CALL = ScriptLine(
    completion="<|channel|>analysis<|message|>Über «Zürich»:\n  first the city, then… 🌧 spelled out.<|end|>"
    f"<|start|>assistant<|channel|>commentary<|message|>{PREAMBLE}<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"city": "Zürich"}<|call|>'
)
ANSWER = ScriptLine(
    completion="<|channel|>analysis<|message|>Sunny.<|end|><|start|>assistant<|channel|>final<|message|>Sun.<|return|>"
)
ANALYSIS = "Über «Zürich»:\n  first the city, then… 🌧 spelled out."


def dumped(response: Response) -> list[dict[str, Any]]:
    return [item.to_dict() for item in response.output]


def outputs(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"}
        for item in items
        if item["type"] == "function_call"
    ]


def stripped(items: list[dict[str, Any]], *kept: str) -> list[dict[str, Any]]:
    """The items as a client sends them back that keeps these fields of a reasoning item alone."""
    fields = {"type", "id", "summary", *kept}
    return [
        {**{key: item[key] for key in fields}, **({} if "summary" in kept else {"summary": []})}
        if item["type"] == "reasoning"
        else item
        for item in items
    ]


async def asked(served: Served, *, stream: bool = False, **fields: Any) -> Response:
    body: dict[str, Any] = {"model": "demo", "store": False, "tools": [TOOL], **fields}
    if not stream:
        response: Response = await served.openai.responses.create(**body)
        return response
    async with served.openai.responses.stream(**body) as events:
        return await events.get_final_response()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", [("encrypted_content",), ("encrypted_content", "content"), ("content",), ("summary",)])
async def test_the_next_prompt_goes_on_with_the_same_tokens(
    served: Served, stream: bool, kept: tuple[str, ...]
) -> None:
    # Given a client that stores nothing and keeps some fields of a reasoning item
    served.engine.in_turn = [CALL, ANSWER]
    question: Any = {"role": "user", "content": "How is the weather?"}
    asks: Any = {"include": ENCRYPTED, "reasoning": {"summary": "auto"}}
    first = await asked(served, stream=stream, input=[question], **asks)
    items = stripped(dumped(first), *kept)
    # When it sends them back with the call's result
    await asked(served, stream=stream, input=[question, *items, *outputs(items)], **asks)
    # Then the second prompt begins with the first and all that the model wrote
    before, after = served.engine.requests
    assert after.prompt_token_ids[: len(before.prompt_token_ids)] == before.prompt_token_ids
    written = CALL.token_ids
    begin = len(before.prompt_token_ids)
    assert after.prompt_token_ids[begin : begin + len(written)] == written


@pytest.mark.parametrize("stream", [False, True])
async def test_encrypted_content_is_given_where_it_is_asked_for(served: Served, stream: bool) -> None:
    served.engine.in_turn = [CALL, CALL]
    plain = await asked(served, stream=stream, input="How is the weather?")
    encrypted = await asked(served, stream=stream, input="How is the weather?", include=ENCRYPTED)
    first, second = plain.output[0], encrypted.output[0]
    assert isinstance(first, ResponseReasoningItem)
    assert isinstance(second, ResponseReasoningItem)
    assert first.encrypted_content is None
    assert second.encrypted_content is not None
    assert ANALYSIS not in second.encrypted_content
    assert [part.text for part in second.content or ()] == [ANALYSIS]


async def test_a_summary_is_the_analysis_with_its_events(served: Served) -> None:
    served.engine.in_turn = [CALL]
    stream: Any = await served.openai.responses.create(
        model="demo", input="How is the weather?", stream=True, tools=[TOOL], reasoning={"summary": "detailed"}
    )
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    mine = [event for event in events if event.type.startswith("response.reasoning_summary")]
    kinds = [event.type for event in mine]
    middle = kinds[1:-2]
    assert kinds[0] == "response.reasoning_summary_part.added"
    assert set(middle) == {"response.reasoning_summary_text.delta"}
    assert len(middle) > 1
    assert kinds[-2:] == ["response.reasoning_summary_text.done", "response.reasoning_summary_part.done"]
    item = events[-1].response.output[0]
    assert {(event.item_id, event.output_index, event.summary_index) for event in mine} == {(item.id, 0, 0)}
    assert "".join(event.delta for event in mine[1:-2]) == mine[-2].text == mine[-1].part.text == ANALYSIS
    assert [part.text for part in item.summary] == [ANALYSIS]
    assert events[-1].response.reasoning.summary == "detailed"
    replayed = [event async for event in await served.openai.responses.retrieve(events[-1].response.id, stream=True)]
    assert [event.to_dict() for event in replayed] == [event.to_dict() for event in events]


@pytest.mark.parametrize(
    ("setting", "reasoning", "given"),
    [
        ("on_request", {}, False),
        ("on_request", {"summary": "concise"}, True),
        ("on_request", {"generate_summary": "auto"}, True),
        ("always", {}, True),
        ("never", {"summary": "auto"}, False),
    ],
)
async def test_settings_and_request_decide_about_the_summary(
    serve: Serve, setting: Any, reasoning: dict[str, Any], given: bool
) -> None:
    async with serve(further={"responses": ResponsesSettings(reasoning_summary=setting)}) as served:
        reply = await served.http.post(
            "/v1/responses", json={"model": "demo", "input": "Hello!", "reasoning": reasoning}
        )
    body = reply.json()
    assert bool(body["output"][0]["summary"]) == given
    assert (body["reasoning"]["summary"] is not None) == given


async def refusal(served: Served, items: list[dict[str, Any]], **fields: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        await asked(served, input=[{"role": "user", "content": "q"}, *items, *outputs(items)], **fields)
    return caught.value


async def test_another_model_and_a_changed_text_are_refused_by_name(serve: Serve) -> None:
    models = {"demo": ServedModel(aliases=("alias",)), "other": ServedModel(source="demo")}
    async with serve(models=models) as served:
        served.engine.in_turn = [CALL]
        items = dumped(await asked(served, input="q", include=ENCRYPTED))
        error = await refusal(served, items, model="other")
        assert (error.param, error.code) == ("input[1].encrypted_content", "invalid_encrypted_content")
        assert items[0]["id"] in error.message
        assert "by another model" in error.message
        changed = copy.deepcopy(items)
        changed[0]["encrypted_content"] = items[0]["encrypted_content"][:-4] + "AAAA"
        assert "changed" in (await refusal(served, changed)).message
        changed[0]["encrypted_content"] = "gAAAAABnOpenAIs"
        await asked(served, input=[*changed, *outputs(changed)])
        assert ANALYSIS in decode(served.engine.requests[-1].prompt_token_ids)
        changed[0]["content"] = []
        assert "not encrypted by this server" in (await refusal(served, changed)).message
        await asked(served, input=[*items, *outputs(items)], model="alias")


async def test_another_team_is_refused(serve: Serve, tmp_path: Path) -> None:
    keys = {team: new_key() for team in ("research", "sales")}
    stored = {team: {"keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]} for team, key in keys.items()}
    file = tmp_path / "teams.yaml"
    file.write_text(yaml.safe_dump({"teams": stored}))
    async with serve(further={"teams_file": str(file)}) as served:
        ours, theirs = (served.openai.with_options(api_key=key.text).responses for key in keys.values())
        response = await ours.create(model="demo", input="Hello!", include=ENCRYPTED, store=False)
        items: Any = dumped(response)
        with pytest.raises(openai.BadRequestError, match="for another team"):
            await theirs.create(model="demo", input=items)
        await ours.create(model="demo", input=items)


async def test_servers_share_what_a_configured_key_encrypts_and_a_random_one_does_not_outlive_its_server(
    serve: Serve,
) -> None:
    old, new = SecretStr("o" * 32), SecretStr(f"{'n' * 32}, {'o' * 32}")
    async with serve(further={"responses": ResponsesSettings(encryption_key=old)}) as served:
        items = dumped(await asked(served, input="Hello!", include=ENCRYPTED))
    async with serve(further={"responses": ResponsesSettings(encryption_key=new)}) as served:
        await asked(served, input=items)
    async with serve() as served:
        error = await refusal(served, items)
        assert "a key that this server does not have" in error.message
        assert "o" * 32 not in error.message


async def test_a_stored_response_keeps_the_text_of_encrypted_input(served: Served) -> None:
    served.engine.in_turn = [CALL, CALL, ANSWER]
    items = stripped(dumped(await asked(served, input="q", include=ENCRYPTED)), "encrypted_content")
    second = await asked(served, input=[{"role": "user", "content": "q"}, *items, *outputs(items)], store=True)
    await asked(served, input=outputs(dumped(second)), previous_response_id=second.id)
    assert served.engine.requests[-1].prompt_token_ids[: len(served.engine.requests[1].prompt_token_ids)] == (
        served.engine.requests[1].prompt_token_ids
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_that_stores_nothing_keeps_its_thoughts(served: Served, stream: bool) -> None:
    @function_tool
    def get_weather(city: str) -> str:
        """The weather now."""
        return "sunny"

    agents.set_tracing_disabled(True)
    served.engine.in_turn = [CALL, ANSWER]
    agent = Agent(
        name="Weather",
        model=OpenAIResponsesModel(model="demo", openai_client=served.openai),
        model_settings=ModelSettings(store=False, response_include=["reasoning.encrypted_content"]),
        tools=[get_weather],
    )
    config = RunConfig(tracing_disabled=True)
    if stream:
        streamed = Runner.run_streamed(agent, "How is the weather?", run_config=config)
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == "Sun."
    else:
        assert (await Runner.run(agent, "How is the weather?", run_config=config)).final_output == "Sun."
    # Of strict tools schemas are checked, and arguments are a segment of their own.
    before, after = (
        each for each in served.engine.requests if "-check-" not in each.request_id and not each.completion_token_ids
    )
    begin = len(before.prompt_token_ids)
    assert after.prompt_token_ids[begin : begin + len(CALL.token_ids)] == CALL.token_ids
