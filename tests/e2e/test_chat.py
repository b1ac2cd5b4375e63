"""Chat through HAProxy, the ingress and real vLLM, with OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletion

from tests.e2e.conftest import Stack
from training.scorecard import Answer, Case, cases, growth_problems

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUESTION: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(client: OpenAI, effort: Any = "low", model: str = "demo", **more: Any) -> ChatCompletion:
    arguments: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 800} | more
    reply = client.chat.completions.create(model=model, reasoning_effort=effort, **arguments)
    assert isinstance(reply, ChatCompletion)
    return reply


def reasoning_tokens(reply: ChatCompletion) -> int:
    assert reply.usage is not None
    assert reply.usage.completion_tokens_details is not None
    tokens = reply.usage.completion_tokens_details.reasoning_tokens
    assert tokens is not None
    return tokens


def test_more_effort_means_more_reasoning_and_always_an_answer(client: OpenAI) -> None:
    replies = [ask(client, effort) for effort in ("low", "medium", "high")]
    low, medium, high = (reasoning_tokens(reply) for reply in replies)
    assert 0 < low < medium < high
    for reply in replies:
        assert reply.choices[0].message.content
        assert reply.choices[0].finish_reason == "stop"


def test_usage_adds_up(client: OpenAI) -> None:
    usage = ask(client).usage
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens is not None


def test_a_stream_has_the_text_of_the_whole_answer(client: OpenAI) -> None:
    whole = ask(client, "medium").choices[0].message
    content, reasoning = "", ""
    for chunk in client.chat.completions.create(
        model="demo", messages=QUESTION, reasoning_effort="medium", temperature=0, max_tokens=800, stream=True
    ):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning", None) or ""
    assert content == whole.content
    assert reasoning == getattr(whole, "reasoning", None)


def test_two_ranks_give_the_greedy_text_of_one(client: OpenAI) -> None:
    one, two = (ask(client, "high", model).choices[0].message for model in ("demo", "demo-tp2"))
    assert one.content == two.content
    assert getattr(one, "reasoning", None) == getattr(two, "reasoning", None)


def test_several_choices_log_probabilities_and_a_stop_string(client: OpenAI) -> None:
    reply = ask(client, n=2, seed=1, temperature=1, logprobs=True, top_logprobs=3)
    assert [choice.index for choice in reply.choices] == [0, 1]
    for choice in reply.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content
        assert all(len(entry.top_logprobs) == 3 for entry in choice.logprobs.content)
    whole = ask(client).choices[0].message.content
    assert whole is not None
    stop = whole.split()[2]
    cut = ask(client, stop=[stop]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_the_length_limit_is_kept(client: OpenAI) -> None:
    reply = ask(client, max_tokens=5)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5


def test_mistakes_are_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as error:
        ask(client, extra_body={"temprature": 1}, extra_headers={"x-unknown-fields": "refuse"})
    assert error.value.param == "temprature"
    with pytest.raises(NotFoundError) as missing:
        ask(client, model="gpt-4o")
    assert missing.value.code == "model_not_found"
    with pytest.raises(BadRequestError) as overflow:
        ask(client, max_tokens=10_000_000)
    assert len(re.findall(r"\d{4,}", overflow.value.message.replace(",", ""))) >= 2


def test_every_reply_has_one_request_id(client: OpenAI) -> None:
    raw = client.models.with_raw_response.list(extra_headers={"x-request-id": "mine-1"})
    assert raw.headers.get_list("x-request-id") == ["mine-1"]
    assert {model.id for model in raw.parse().data} >= {"demo", "demo-tp2"}


def test_the_printed_command_works_as_pasted(stack: Stack) -> None:
    (line,) = (line for line in stack.output().splitlines() if line.startswith("curl "))
    reply = subprocess.run([*shlex.split(line), "-s"], capture_output=True, timeout=60, check=True)
    assert json.loads(reply.stdout)["choices"][0]["message"]["content"]


async def heard(client: Any, case: Case, number: int, temperature: float) -> Answer:
    optional: dict[str, Any] = {"tools": list(case.tools)} if case.tools else {}
    optional["extra_body"] = dict(case.more)
    reply = await client.chat.completions.create(
        model="demo",
        messages=list(case.messages),
        reasoning_effort=case.effort,
        temperature=temperature,
        seed=number,
        max_tokens=1500,
        **optional,
    )
    (choice,) = reply.choices
    message = choice.message
    commentary = getattr(message, "commentary", None) or ""
    return Answer(
        # Preambles are in both fields by default.
        content=(message.content or "").removeprefix(commentary).removeprefix("\n\n"),
        reasoning=getattr(message, "reasoning", None) or "",
        commentary=commentary,
        tool_calls=tuple((call.function.name, call.function.arguments) for call in message.tool_calls or ()),
        finish_reason=choice.finish_reason,
        reasoning_tokens=reply.usage.completion_tokens_details.reasoning_tokens,
        completion_tokens=reply.usage.completion_tokens,
    )


def test_every_engine_tells_what_memory_it_takes(stack: Stack) -> None:
    cards = httpx.get(f"{stack.root}/admin/models", timeout=30).json()["data"]
    reports = {card["name"]: card["reports"] for card in cards}
    assert reports.keys() == {"demo", "demo-tp2"}
    for (report,) in reports.values():
        assert report["memory_bytes"] > 500_000_000
        # What each of its workers says, and none has a GPU here
        assert report["device_memory_bytes"] is None


async def test_the_demo_model_keeps_its_promises(stack: Stack) -> None:
    # Given the scorecard, none of whose requests was trained on
    table = cases()
    async with AsyncOpenAI(base_url=f"{stack.root}/v1", api_key="unused", timeout=300) as client:
        # When all are asked at temperature 0, and some at temperature 1
        greedy = await asyncio.gather(*(heard(client, case, i, 0.0) for i, case in enumerate(table)))
        sampled = await asyncio.gather(*(heard(client, case, i, 1.0) for i, case in enumerate(table)))
    # Then each gets the answer it should, and no sampled one is endless or empty
    wrong = [f"{case.name}: {case.check(answer)}" for case, answer in zip(table, greedy, strict=True)]
    wrong = [line for line in wrong if not line.endswith(": ")]
    assert growth_problems({case.name: answer for case, answer in zip(table, greedy, strict=True)}) == []
    # A model of 0.6 million parameters misses a few rephrasings; the notes in serving/demo/README.md say which.
    assert len(wrong) <= len(table) // 12, wrong
    broken = [
        case.name
        for case, answer in zip(table, sampled, strict=True)
        if answer.finish_reason == "length" or not (answer.content or answer.tool_calls)
    ]
    assert len(broken) <= len(table) // 50, broken
