"""The training corpus: reproducible, well-formed, and other than what the scorecard asks."""

from __future__ import annotations

import json
import re
from itertools import islice

import jsonschema
import pytest
from openai_harmony import HarmonyEncodingName, Role, load_harmony_encoding

from serving.effort import EFFORTS
from serving.harmony.conversation import ToolMessage, UserMessage
from serving.harmony.vocabulary import encode, encode_harmony
from training.corpus import Example, examples
from training.knowledge import KNOWLEDGE, UNKNOWN, Thoughts
from training.scorecard import cases
from training.turns import compact


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


def calls(some: list[Example]) -> list[tuple[Example, str, str]]:
    """Examples that end in a call, the function's name and the arguments."""
    ending = re.compile(r"to=functions\.(\S+) <\|constrain\|>json<\|message\|>(.*)<\|call\|>$")
    found = [(example, ending.search(written(example))) for example in some]
    return [(example, match[1], match[2]) for example, match in found if match]


def test_a_call_goes_to_a_tool_on_offer_with_arguments_that_fit_its_schema(some: list[Example]) -> None:
    calling = calls(some)
    assert calling
    for example, name, arguments in calling:
        (tool,) = (tool for tool in example.conversation.tools if tool.name == name)
        jsonschema.validate(json.loads(arguments), tool.parameters or {})
        assert len(arguments) < 120


def test_both_tools_are_called_one_after_the_other(some: list[Example]) -> None:
    lasts = [(name, example.conversation.messages[-1]) for example, name, _ in calls(some)]
    second = [(name, last.name) for name, last in lasts if isinstance(last, ToolMessage)]
    assert len(second) > 20
    assert all(name != before for name, before in second)
    assert sum("the time there is" in written(example) for example in some) > 20


def test_forced_calls_and_answers_are_not_the_models_own_choice(some: list[Example]) -> None:
    forced = [example for example in some if not example.completion[0].learned]
    assert sum(written(example).endswith("<|call|>") for example in forced) > 20
    assert sum(written(example).endswith("<|return|>") for example in forced) > 100
    for example in forced:
        text = "".join(piece.text for piece in example.completion if not piece.learned)
        assert "<|channel|>final<|message|>" in text or " <|constrain|>json<|message|>" in text


def test_an_answer_has_the_form_that_is_asked_for(some: list[Example]) -> None:
    asked = [
        (example.conversation.response_format, written(example).split("<|channel|>final<|message|>")[1])
        for example in some
        if example.conversation.response_format and written(example).endswith("<|return|>")
    ]
    assert len(asked) > 50
    for form, text in asked:
        answer = text.removesuffix("<|return|>")
        jsonschema.validate(json.loads(answer), form.schema if form else {})
        assert answer == compact(json.loads(answer))
        assert len(encode(answer)) <= 60


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
