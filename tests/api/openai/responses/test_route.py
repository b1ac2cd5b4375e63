"""POST /v1/responses and the stored response, asked for with the real client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from pydantic import BaseModel

from serving.engine.base import Constraint
from serving.engine.scripted import ScriptLine
from serving.generation.constraints import for_engine
from serving.settings.models import ModelSettings
from serving.settings.reasoning import ReasoningSettings
from serving.settings.storage import ResponsesSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

WEATHER_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather now",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
TOOLS: Any = [WEATHER_TOOL, {"type": "function", "name": "other"}]


async def test_an_answer_is_a_reasoning_item_and_a_message(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    assert response.output_text == "Hello there!"
    assert (response.object, response.status, response.model) == ("response", "completed", "demo")
    assert (response.created_at, response.completed_at) == (1_760_000_000, 1_760_000_000)
    reasoning, message = response.output
    assert isinstance(reasoning, ResponseReasoningItem)
    assert [part.text for part in reasoning.content or ()] == ["Somebody greets me."]
    assert (reasoning.summary, reasoning.status) == ([], "completed")
    assert isinstance(message, ResponseOutputMessage)
    assert (message.role, message.status, message.phase) == ("assistant", "completed", "final_answer")
    assert message.model_extra == {"channel": "final"}
    (part,) = message.content
    assert isinstance(part, ResponseOutputText)
    assert (part.text, part.annotations, part.logprobs) == ("Hello there!", [], [])
    assert len({response.id, reasoning.id, message.id}) == 3


async def test_the_response_has_every_field_that_the_clients_types_require(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="How is the weather?", tools=[WEATHER_TOOL])
    Response.model_validate(response.to_dict())


async def test_usage_counts_reasoning_and_adds_up(served: Served) -> None:
    usage = (await served.openai.responses.create(model="demo", input="Hello!")).usage
    assert usage is not None
    assert usage.input_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens_details.reasoning_tokens == 6
    assert usage.input_tokens_details.cached_tokens == 0


async def test_a_call_comes_after_its_preamble_which_is_commentary(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="How is the weather?", tools=[WEATHER_TOOL])
    reasoning, preamble, call = response.output
    assert isinstance(preamble, ResponseOutputMessage)
    assert preamble.phase == "commentary"
    assert preamble.model_extra == {"channel": "commentary"}
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.arguments, call.status) == ("get_weather", '{"city": "Zürich"}', "completed")
    assert call.call_id.startswith("call_")
    assert call.id is not None
    assert call.id.startswith("fc_")
    assert isinstance(reasoning, ResponseReasoningItem)
    assert reasoning.id.startswith("rs_")
    assert preamble.id.startswith("msg_")


async def test_what_was_asked_for_is_repeated(served: Served) -> None:
    asked: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 1000,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.25,
        "tool_choice": {"type": "function", "name": "get_weather"},
        "tools": [WEATHER_TOOL],
        "truncation": "auto",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    reply = (await served.http.post("/v1/responses", json={"model": "demo", "input": "Hello!", **asked})).json()
    assert {key: reply[key] for key in asked} == {
        **asked,
        "text": {"format": {**asked["text"]["format"], "description": None}, "verbosity": "medium"},
    }


async def test_what_cannot_change_the_answer_is_accepted(served: Served) -> None:
    fields: dict[str, Any] = {
        "user": "u",
        "service_tier": "flex",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "background": False,
        "max_tool_calls": 3,
        "store": None,
    }
    reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "Hello!", **fields})
    assert reply.status_code == 200
    assert reply.headers["x-reasoning-effort"] == "low"
    assert reply.json()["reasoning"] == {"effort": "low", "summary": "auto"}


async def test_the_request_reaches_the_generation(served: Served) -> None:
    await served.openai.responses.create(
        model="demo", input="Hello!", temperature=0, top_p=0.5, max_output_tokens=100, top_logprobs=3
    )
    sampling = served.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.logprobs) == (0, 0.5, 100, 3)


async def test_a_limit_makes_the_response_incomplete(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!", max_output_tokens=17)
    assert response.status == "incomplete"
    assert response.completed_at is None
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert [getattr(item, "status", None) for item in response.output] == ["completed", "incomplete"]
    assert response.output_text == "Hello there"
    assert response.usage is not None
    assert response.usage.output_tokens == 17


async def test_a_budget_cuts_the_analysis_and_says_so(serve: Serve) -> None:
    thoughts = "<|channel|>analysis<|message|>" + "thinking " * 100 + "<|end|>"
    answer = "<|start|>assistant<|channel|>final<|message|>Hello.<|return|>"
    async with serve(ScriptLine(completion=thoughts + answer)) as served:
        body = {"model": "demo", "input": "Hello!", "max_reasoning_tokens": 10}
        reply = (await served.http.post("/v1/responses", json=body)).json()
    assert reply["reasoning_truncated"] is True
    assert reply["status"] == "completed"
    assert [item["type"] for item in reply["output"]] == ["reasoning", "message"]
    assert reply["usage"]["output_tokens_details"]["reasoning_tokens"] == 10


async def test_log_probabilities_are_those_of_the_text(served: Served) -> None:
    response = await served.openai.responses.create(
        model="demo", input="Hello!", include=["message.output_text.logprobs"], top_logprobs=2
    )
    message = response.output[1]
    assert isinstance(message, ResponseOutputMessage)
    part = message.content[0]
    assert isinstance(part, ResponseOutputText)
    assert "".join(entry.token for entry in part.logprobs or ()) == "Hello there!"
    assert [len(entry.top_logprobs) for entry in part.logprobs or ()] == [2, 2, 2]


class City(BaseModel):
    name: str


async def test_an_answer_of_a_form_is_parsed_by_the_client_and_held_to_it_by_the_engine(serve: Serve) -> None:
    line = ScriptLine(completion='<|channel|>final<|message|>{"name": "Zürich"}<|return|>')
    async with serve(line) as served:
        response = await served.openai.responses.parse(model="demo", input="Hello!", text_format=City)
        assert response.output_parsed == City(name="Zürich")
        constraints = {request.constraint for request in served.engine.requests if request.constraint}
    schema = {**City.model_json_schema(), "additionalProperties": False}
    assert constraints == {for_engine(Constraint("json_schema", json.dumps(schema)))}


async def test_a_json_object_is_asked_of_the_engine(serve: Serve) -> None:
    async with serve(ScriptLine(completion='<|channel|>final<|message|>{"a": 1}<|return|>')) as served:
        await served.openai.responses.create(model="demo", input="x", text={"format": {"type": "json_object"}})
        assert [r.constraint for r in served.engine.requests if r.constraint] == [for_engine(Constraint("json_object"))]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "get_weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]},
    ],
)
async def test_a_call_can_be_forced(served: Served, choice: Any) -> None:
    response = await served.openai.responses.create(
        model="demo",
        input="How is the weather?",
        tools=TOOLS,
        tool_choice=choice,
    )
    call = response.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Zürich"}')
    # What is forced is begun for the model, by a further segment.
    assert len(served.engine.requests) > 1


async def test_tools_that_must_not_be_called_are_not_shown(served: Served) -> None:
    for choice in ("auto", "none"):
        body = {"model": "demo", "input": "Hello!", "tools": [WEATHER_TOOL], "tool_choice": choice}
        assert (await served.http.post("/v1/responses", json=body)).status_code == 200
    shown, hidden = (len(request.prompt_token_ids) for request in served.engine.requests)
    assert hidden < shown


async def test_a_stored_response_is_read_back_as_it_was_answered(served: Served) -> None:
    answered = await served.openai.responses.create(model="demo", input="How is the weather?", tools=[WEATHER_TOOL])
    found = await served.openai.responses.retrieve(answered.id)
    assert found.to_dict() == answered.to_dict()


async def test_a_deleted_response_is_gone(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    reply = await served.http.delete(f"/v1/responses/{response.id}")
    assert reply.json() == {"id": response.id, "object": "response", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        await served.openai.responses.delete(response.id)


async def test_what_is_not_stored_is_not_found(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!", store=False)
    assert response.model_extra == {"store": False}
    for name in (response.id, "resp_0", "x", "resp_" + "a" * 500, "%00"):
        reply = await served.http.get(f"/v1/responses/{name}")
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "response_not_found"
        assert reply.json()["error"]["type"] == "invalid_request_error"
    for method, path in (("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        reply = await served.http.request(method, f"/v1/responses/{response.id}{path}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "response_not_found")


async def test_an_answer_too_large_to_store_is_given_all_the_same(serve: Serve) -> None:
    async with serve(further={"responses": ResponsesSettings(max_item_bytes=1024)}) as served:
        response = await served.openai.responses.create(model="demo", input="Hello!" * 200)
        assert response.output_text == "Hello there!"
        assert response.model_extra == {"store": False}
        with pytest.raises(openai.NotFoundError):
            await served.openai.responses.retrieve(response.id)


async def test_input_items_are_paged_newest_first(served: Served) -> None:
    texts = [f"message {i}" for i in range(45)]
    response = await served.openai.responses.create(
        model="demo", input=[{"role": "user", "content": text} for text in texts]
    )
    newest_first = [item async for item in served.openai.responses.input_items.list(response.id)]
    assert [item.content[0].text for item in newest_first] == texts[::-1]  # type: ignore[union-attr, index]  # all are messages
    assert len({item.id for item in newest_first}) == 45
    oldest = await served.openai.responses.input_items.list(response.id, order="asc", limit=2)
    assert [item.content[0].text for item in oldest.data] == texts[:2]  # type: ignore[union-attr, index]  # as above
    after = await served.http.get(f"/v1/responses/{response.id}/input_items?after={oldest.data[1].id}&order=asc")
    page = after.json()
    assert (page["object"], page["has_more"], len(page["data"])) == ("list", True, 20)
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "message 2"}]


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=no", "after")],
)
async def test_a_page_that_cannot_be_is_a_400(served: Served, query: str, param: str) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    reply = await served.http.get(f"/v1/responses/{response.id}/input_items?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_a_finished_response_cannot_be_cancelled(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    with pytest.raises(openai.BadRequestError, match="is completed"):
        await served.openai.responses.cancel(response.id)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": "x" * 2000}, "input", "maximum context length"),
        ({"max_output_tokens": 100_000}, "input", "max_output_tokens asks for"),
        ({"tools": [{"type": "function", "name": "<|end|>"}]}, "tools[0].name", "cannot name a function"),
        ({"previous_response_id": "resp_0"}, "previous_response_id", "not found"),
        ({"input": [{"type": "item_reference", "id": "msg_0_1"}]}, "input[0].id", "not found"),
        (
            {"input": [{"type": "function_call_output", "call_id": "call_9", "output": "x"}]},
            "input[0].call_id",
            "call_9",
        ),
    ],
)
async def test_a_mistake_is_named_as_it_is_called_here(
    serve: Serve, fields: dict[str, Any], param: str, message: str
) -> None:
    async with serve(max_model_len=300) as served:
        for stream in (False, True):
            body = {"model": "demo", "input": "Hello!", "stream": stream, **fields}
            reply = await served.http.post("/v1/responses", json=body)
            assert reply.status_code in (400, 404)
            error = reply.json()["error"]
            assert error["param"] == param
            assert message in error["message"]


async def test_an_effort_that_the_model_refuses_is_named_in_its_place(serve: Serve) -> None:
    models = {"demo": ModelSettings(reasoning=ReasoningSettings(unsupported_effort="refuse"))}
    async with serve(models=models) as served:
        body = {"model": "demo", "input": "Hello!", "reasoning": {"effort": "xhigh"}}
        reply = await served.http.post("/v1/responses", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "reasoning.effort")


async def test_an_engine_that_fails_is_a_500_without_its_reason(served: Served) -> None:
    served.engine.fails_after = 0
    reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "Hello!"})
    assert reply.status_code == 500
    assert "secret" not in reply.text


async def test_an_answer_that_takes_too_long_is_a_504(serve: Serve) -> None:
    async with serve(longest_answer_s=1) as served:
        reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "silently"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "answer_timeout")
