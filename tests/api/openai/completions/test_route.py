from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from serving.engine.base import Constraint
from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import CALL, CHANNEL, ENDOFTEXT, RETURN, decode, encode, encode_harmony

if TYPE_CHECKING:
    import httpx

    from tests.http_server import Serve, Served, Until

RAW = "<|channel|>final<|message|>Grüße 🦄 to you all<|return|>"


def lines(text: str = RAW, **fields: Any) -> ScriptLine:
    return ScriptLine(completion=text, **fields)


async def post(served: Served, **fields: Any) -> httpx.Response:
    return await served.http.post("/v1/completions", json={"model": "demo", "prompt": "Once", **fields})


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    frames = reply.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


async def test_the_openai_client_gets_a_completion(serve: Serve) -> None:
    async with serve(lines()) as served:
        completion = await served.openai.completions.create(model="demo", prompt="Once upon", max_tokens=50)
    (choice,) = completion.choices
    assert completion.id.startswith("cmpl-")
    assert (completion.object, completion.model) == ("text_completion", "demo")
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (
        0,
        "finalGrüße 🦄 to you all",
        "stop",
        None,
    )
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 2
    assert completion.usage.completion_tokens == len(encode_harmony(RAW))
    assert completion.usage.total_tokens == 2 + completion.usage.completion_tokens
    assert served.engine.requests[0].prompt_token_ids == encode("Once upon")


async def test_the_openai_client_streams_a_completion(serve: Serve) -> None:
    async with serve(lines()) as served:
        whole = (await post(served, max_tokens=50)).json()
        text, finishes = "", []
        usage: Any = None
        stream = await served.openai.completions.create(
            model="demo", prompt="Once", max_tokens=50, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage
            for choice in chunk.choices:
                text += choice.text
                finishes.append(choice.finish_reason)
    assert (text, finishes[-1]) == (whole["choices"][0]["text"], "stop")
    assert not any(finishes[:-1])
    assert usage.model_dump(exclude_none=True) == whole["usage"]


async def test_special_tokens_are_spelled_where_that_is_asked_for(serve: Serve) -> None:
    async with serve(lines()) as served:
        reply = (await post(served, max_tokens=50, skip_special_tokens=False)).json()
    assert reply["choices"][0]["text"] == RAW


@pytest.mark.parametrize("stream", [False, True])
async def test_sixteen_tokens_are_the_default(served: Served, stream: bool) -> None:
    await post(served, prompt="slowly", stream=stream)
    assert served.engine.requests[-1].sampling.max_tokens == 16


async def test_the_default_gives_way_to_a_short_context(serve: Serve) -> None:
    async with serve(lines(), max_model_len=256) as served:
        prompt = [5] * 250
        assert (await post(served, prompt=prompt)).status_code == 200
        assert served.engine.requests[-1].sampling.max_tokens == 6
        refused = await post(served, prompt=prompt, max_tokens=7)
        full = await post(served, prompt=[5] * 256)
    for reply in (refused, full):
        assert reply.status_code == 400
        assert (reply.json()["error"]["code"], reply.json()["error"]["param"]) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Once", [encode("Once")]),
        (["Once", "Twice"], [encode("Once"), encode("Twice")]),
        ([5, CHANNEL], [[5, CHANNEL]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
        (["a<|end|>"], [encode("a<|end|>")]),
    ],
)
async def test_prompts_come_in_four_forms(served: Served, prompt: Any, prompts: list[list[int]]) -> None:
    reply = (await post(served, prompt=prompt, n=2)).json()
    assert [choice["index"] for choice in reply["choices"]] == list(range(2 * len(prompts)))
    asked = {request.request_id: request for request in served.engine.requests}
    assert len(asked) == 2 * len(prompts)
    assert sorted(r.prompt_token_ids for r in asked.values()) == sorted(p for p in prompts for _ in range(2))
    assert reply["usage"]["prompt_tokens"] == sum(map(len, prompts))


async def test_special_tokens_in_a_text_are_meant_where_that_is_allowed(served: Served) -> None:
    text = "<|start|>user<|message|>Hello!<|end|><|start|>assistant"
    await post(served, prompt=text)
    await post(served, prompt=text, allow_special_tokens=True)
    plain, special = (request.prompt_token_ids for request in served.engine.requests)
    assert decode(plain) == decode(special) == text
    assert plain == encode(text)
    assert special == encode_harmony(text)


async def test_sampling_and_constraints_reach_the_engine(served: Served) -> None:
    await post(
        served, temperature=0.5, top_p=0, seed=7, n=2, logprobs=3, max_tokens=9, structured_outputs={"regex": "a+"}
    )
    first, second = sorted(served.engine.requests, key=lambda request: request.request_id)
    assert (first.sampling.temperature, first.sampling.max_tokens, first.sampling.logprobs) == (0.5, 9, 3)
    assert (first.sampling.seed, second.sampling.seed) == (7, 8)
    assert first.sampling.stop_token_ids == (RETURN, CALL, ENDOFTEXT)
    assert first.constraint == second.constraint == Constraint("regex", "a+")


async def test_an_echo_begins_with_the_prompt(serve: Serve) -> None:
    prompt = [*encode("Grü"), CHANNEL]
    async with serve(lines("ße<|return|>")) as served:
        whole = (await post(served, prompt=["Grü", "Bo"], echo=True)).json()
        tokens = (await post(served, prompt=prompt, echo=True, skip_special_tokens=False)).json()
        chunks = chunks_of(await post(served, prompt=["Grü", "Bo"], n=2, echo=True, stream=True))
    assert [choice["text"] for choice in whole["choices"]] == ["Grüße", "Boße"]
    assert tokens["choices"][0]["text"] == "Grü<|channel|>ße<|return|>"
    streamed = ["", "", "", ""]
    for chunk in chunks:
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert streamed == ["Grüße", "Grüße", "Boße", "Boße"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", [1, 3, 100])
async def test_a_stop_string_ends_a_choice_wherever_it_is_cut(serve: Serve, step: int, stream: bool) -> None:
    async with serve(lines("one two three four" * 50, tokens_per_step=step)) as served:
        fields: dict[str, Any] = {"stop": ["o thr", "zzz"], "max_tokens": 100}
        reply = await post(served, **fields, stream=stream, stream_options={"include_usage": True} if stream else None)
        parts = chunks_of(reply) if stream else [reply.json()]
    assert "".join(choice["text"] for part in parts for choice in part["choices"]) == "one tw"
    assert [c["finish_reason"] for part in parts for c in part["choices"] if c["finish_reason"]] == ["stop"]
    assert parts[-1]["usage"]["completion_tokens"] == len(encode("one two three"))


async def test_logprobs_are_in_the_older_form(serve: Serve) -> None:
    async with serve(lines("Grüße 🦄 x<|return|>")) as served:
        whole = (await post(served, logprobs=2)).json()["choices"][0]
        chunks = chunks_of(await post(served, logprobs=2, stream=True))
        alone = (await post(served, logprobs=0)).json()["choices"][0]["logprobs"]
    logprobs = whole["logprobs"]
    tokens = encode("Grüße 🦄 x")
    assert len(logprobs["tokens"]) == len(tokens)
    assert any(name.startswith("bytes:\\x") for name in logprobs["tokens"])
    for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [entry for c in chunks if (p := c["choices"][0]["logprobs"]) is not None for entry in p[field]]
        assert joined == logprobs[field]
    for name, offset, top in zip(*(logprobs[f] for f in ("tokens", "text_offset", "top_logprobs")), strict=True):
        assert name in top
        assert name.startswith("bytes:") or whole["text"][offset:].startswith(name)
    assert all(len(top) == 1 for top in alone["top_logprobs"])


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("prompt", {"prompt": ""}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": 5}),
        ("prompt[1]", {"prompt": ["a", ""]}),
        ("prompt[1]", {"prompt": [[1], []]}),
        ("prompt[0]", {"prompt": [True]}),
        ("prompt[1]", {"prompt": [1, 201088]}),
        ("prompt[1]", {"prompt": [1, "a"]}),
        ("prompt[0][1]", {"prompt": [[1, -1]]}),
        ("prompt", {"prompt": ["a"] * 129}),
        ("n", {"prompt": ["a"] * 65, "n": 2}),
        ("best_of", {"best_of": 2}),
        ("echo", {"echo": True, "logprobs": 1}),
        ("logprobs", {"logprobs": True}),
        ("max_tokens", {"max_tokens": 0}),
        ("suffix", {"suffix": "end"}),
        ("messages", {"messages": []}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("guided_json.type", {"guided_json": {"type": "odd"}}),
    ],
)
async def test_mistakes_are_named(served: Served, param: str, fields: dict[str, Any]) -> None:
    reply = await post(served, **fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert len(reply.content) < 1000


async def test_best_of_n_is_n(served: Served) -> None:
    assert len((await post(served, n=2, best_of=2)).json()["choices"]) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_all_choices_stop_when_the_client_leaves(serve: Serve, until: Until, stream: bool) -> None:
    body = {"model": "demo", "prompt": ["a", "b"], "n": 2, "max_tokens": 10_000, "stream": stream}
    async with serve(lines("word " * 10_000, step_ms=50)) as served:
        asking = asyncio.create_task(served.http.post("/v1/completions", json=body))
        await until(lambda: served.engine.running == 4)
        asking.cancel()
        await until(lambda: served.engine.running == 0)


async def test_one_failed_choice_fails_them_all(serve: Serve, until: Until) -> None:
    async with serve(lines("word " * 1000, step_ms=1)) as served:
        served.engine.fails_after = 20
        reply = await post(served, prompt=["a", "b"], max_tokens=900, stream=True)
        await until(lambda: served.engine.running == 0)
    assert '"error"' in reply.text
    assert "secret" not in reply.text
