from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from serving.errors import SettingsError
from serving.harmony.vocabulary import encode
from serving_bench.filler import WORDS, filler
from serving_bench.lengths import Lengths
from serving_bench.workload import PATHS, TOOL_QUESTION, Api, Workload, parse_effort, parse_extra


def body(workload: Workload, number: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(workload.body("demo", number))
    return made


def test_each_filler_word_is_one_token_of_gpt_oss() -> None:
    assert [word for word in WORDS if len(encode(f" {word}")) != 1] == []


def test_filler_has_as_many_tokens_as_asked_for() -> None:
    from random import Random

    assert len(encode(" " + filler(Random(1), 500))) == 500


def test_the_plainest_chat() -> None:
    assert body(Workload()) == {
        "model": "demo",
        "messages": [{"role": "user", "content": "Count to 200."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_request_depends_on_seed_and_number_alone() -> None:
    workload = Workload(prompt=Lengths("uniform", 4, 40), effort=parse_effort("low=1,high=1"), tools=0.5)
    again = Workload(prompt=Lengths("uniform", 4, 40), effort=parse_effort("low=1,high=1"), tools=0.5)
    made = [workload.body("demo", number) for number in range(20)]
    assert made == [again.body("demo", number) for number in reversed(range(20))][::-1]
    assert len(set(made)) > 10
    other = Workload(prompt=Lengths("uniform", 4, 40), effort=parse_effort("low=1,high=1"), tools=0.5, seed=1)
    assert made != [other.body("demo", number) for number in range(20)]


def test_the_shared_part_is_the_same_in_all_requests_and_the_rest_is_not() -> None:
    workload = Workload(prompt=Lengths("fixed", 40), shared_prefix=0.5)
    prompts = [body(workload, number)["messages"][0]["content"].split() for number in range(8)]
    assert {len(prompt) for prompt in prompts} == {40}
    assert len({tuple(prompt[:20]) for prompt in prompts}) == 1
    assert len({tuple(prompt[20:]) for prompt in prompts}) == 8


def test_shorter_prompts_share_the_beginning_of_longer_ones() -> None:
    workload = Workload(prompt=Lengths("uniform", 10, 100), shared_prefix=1.0)
    prompts = sorted((body(workload, number)["messages"][0]["content"] for number in range(10)), key=len)
    assert all(prompts[-1].startswith(prompt) for prompt in prompts)


def test_effort_and_tools_come_in_their_shares() -> None:
    workload = Workload(effort=parse_effort("low=1,high=3"), tools=0.25)
    bodies = [body(workload, number) for number in range(2000)]
    efforts = Counter(made["reasoning_effort"] for made in bodies)
    assert efforts["high"] == pytest.approx(1500, rel=0.1)
    with_tools = [made for made in bodies if "tools" in made]
    assert len(with_tools) == pytest.approx(500, rel=0.2)
    assert {made["messages"][-1]["content"] for made in with_tools} == {TOOL_QUESTION}


@pytest.mark.parametrize(
    ("api", "length", "effort"),
    [("chat", "max_tokens", "reasoning_effort"), ("responses", "max_output_tokens", "reasoning")],
)
def test_each_api_has_its_own_names(api: Api, length: str, effort: str) -> None:
    made = body(Workload(api=api, reply=Lengths("fixed", 7), effort=parse_effort("low"), temperature=0.0))
    assert made[length] == 7
    assert made[effort] in ("low", {"effort": "low"})
    assert made["temperature"] == 0


def test_responses_take_input_and_completions_a_prompt() -> None:
    assert body(Workload(api="responses"))["input"] == [{"role": "user", "content": "Count to 200."}]
    assert "stream_options" not in body(Workload(api="responses"))
    prompt = body(Workload(api="completions", prompt=Lengths("fixed", 3)))["prompt"]
    assert prompt.endswith("\n\nCount to 200.")
    assert set(PATHS) == {"chat", "responses", "completions"}


def test_extra_fields_come_last_and_null_removes() -> None:
    made = body(Workload(temperature=1.0, extra={"top_p": 0.5, "temperature": 0, "stream_options": None}))
    assert made["top_p"] == 0.5
    assert made["temperature"] == 0
    assert "stream_options" not in made


@pytest.mark.parametrize("text", ["", "low=", "low=x", "low=-1", "=1", "low=0", "low=nan"])
def test_a_mix_without_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"low=0\.5,high=0\.5"):
        parse_effort(text)


@pytest.mark.parametrize("text", ["", "[1]", "{", "3"])
def test_extra_wants_an_object(text: str) -> None:
    with pytest.raises(SettingsError, match="--extra"):
        parse_extra(text)
