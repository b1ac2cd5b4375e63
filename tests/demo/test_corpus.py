"""The training corpus: reproducible, well-formed, and other than what the scorecard asks."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from openai_harmony import HarmonyEncodingName, Role, load_harmony_encoding

from serving.demo.corpus import Example, examples
from serving.demo.knowledge import KNOWLEDGE, UNKNOWN, Thoughts
from serving.demo.scorecard import cases
from serving.harmony.conversation import EFFORTS, UserMessage
from serving.harmony.vocabulary import encode, encode_harmony


@pytest.fixture(scope="module")
def some() -> list[Example]:
    return list(islice(examples(11), 2000))


def written(example: Example) -> str:
    return "".join(piece.text for piece in example.completion)


def test_same_seed_same_corpus(some: list[Example]) -> None:
    assert list(islice(examples(11), 200)) == some[:200]
    assert list(islice(examples(12), 200)) != some[:200]


def test_every_completion_is_strict_harmony_with_one_end(some: list[Example]) -> None:
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    for example in some:
        ids = encode_harmony(written(example))
        messages = encoding.parse_messages_from_completion_tokens(ids, Role.ASSISTANT, strict=True)
        last = messages[-1]
        if last.recipient:
            assert ids.count(200012) == 1
            assert ids[-1] == 200012
            assert isinstance(json.loads(last.content[0].text), dict)
        else:
            assert ids.count(200002) == 1
            assert ids[-1] == 200002
            assert last.channel == "final"


def test_something_is_learned_from_every_example(some: list[Example]) -> None:
    assert all(any(piece.learned and piece.text for piece in example.completion) for example in some)


def test_a_call_only_goes_to_a_tool_on_offer(some: list[Example]) -> None:
    calling = [example for example in some if written(example).endswith("<|call|>")]
    assert calling
    for example in calling:
        assert any(f"to=functions.{tool.name} " in written(example) for tool in example.conversation.tools)


@pytest.mark.parametrize("thoughts", [*(entry.thoughts for entry in KNOWLEDGE), UNKNOWN], ids=lambda t: t.topic)
def test_thoughts_grow_with_effort(thoughts: Thoughts) -> None:
    low, medium, high = (len(encode(thoughts.at(effort))) for effort in EFFORTS)
    assert low <= 12
    assert 25 <= medium <= 50
    assert 65 <= high <= 100


def test_the_scorecard_asks_other_things_than_the_corpus(some: list[Example]) -> None:
    def key(instructions: str | None, texts: list[str]) -> tuple[str | None, ...]:
        return (instructions, *texts)

    seen = {
        key(
            example.conversation.instructions,
            [message.content for message in example.conversation.messages if isinstance(message, UserMessage)],
        )
        for example in islice(examples(7), 20_000)
        if not example.conversation.tools
    }
    asked = [case for case in cases() if not case.tools]
    met = [
        case.name
        for case in asked
        if key(
            "\n\n".join(m["content"] for m in case.messages if m["role"] == "developer") or None,
            [m["content"] for m in case.messages if m["role"] == "user"],
        )
        in seen
    ]
    assert len(met) <= len(asked) // 10, met


def test_case_names_are_unique() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))
