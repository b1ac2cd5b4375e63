"""Every spelling of the corpus, cut at every place: what is meant arrives, and nothing of a header is text."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.engine.base import Sampling, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.generation import chat
from serving.generation.choice import ChoiceReader
from serving.generation.types import ChatEvent, ChatGeneration, TextDelta, ToolArgumentsDelta, ToolCallDelta
from serving.harmony.conversation import Conversation, FunctionTool, UserMessage
from serving.harmony.events import Text, ToolArguments
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import encode_harmony
from tests.harmony.corpus import Spelling, spellings

CALL_END = "<|call|>"
SPELLINGS = [pytest.param(each, id=f"{each.kind}-{number}") for number, each in enumerate(spellings())]


def generation(spelling: Spelling) -> ChatGeneration:
    conversation = Conversation((UserMessage("Hi"),), tools=tuple(map(FunctionTool, spelling.tools)))
    return ChatGeneration("r", conversation, Sampling(max_tokens=10_000))


def answer(events: list[ChatEvent]) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Texts by channel and the calls of `events`."""
    joined = {"analysis": "", "commentary": "", "final": ""}
    calls: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, TextDelta):
            joined[event.channel] += event.text
        elif isinstance(event, ToolCallDelta):
            calls.append((event.name, ""))
        elif isinstance(event, ToolArgumentsDelta):
            calls[event.index] = (calls[event.index][0], calls[event.index][1] + event.text)
    return joined, tuple(calls)


def test_every_kind_has_five_spellings_at_least() -> None:
    counted = Counter(each.kind for each in spellings())
    assert {kind: number for kind, number in counted.items() if number < 5} == {}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_is_meant_arrives_however_the_tokens_are_cut(spelling: Spelling) -> None:
    tokens = encode_harmony(spelling.completion)
    expected = (
        {"analysis": spelling.analysis, "commentary": spelling.commentary, "final": spelling.content},
        spelling.calls,
    )
    for place in range(len(tokens) + 1):
        reader = ChoiceReader(0, generation(spelling), lambda: "call", None, 10_000)
        reader.begin_segment(10_000)

        events = reader.read(TokenDelta(tokens[:place]))
        if not reader.is_done():
            events += reader.read(TokenDelta(tokens[place:], "stop"))

        read = answer(events)
        if reader.segment_over:  # nothing of it was an answer, and the model is asked for one
            assert (spelling.content, spelling.commentary, spelling.calls) == ("", "", ())
        assert read == expected, place


ROLE_WORDS = ["", "assistant", "analysis", "final", "commentary", "functions.f", "f", "bash", " ", "assistant final"]
SECTION_WORDS = [
    "analysis",
    "final",
    "commentary",
    "fnal",
    "critic",
    "json",
    "code",
    "f",
    "functions.f",
    "to=functions.f",
]
SECTION_WORDS += ["to=f", "to=functions.fjson", "to=nobody", "to=assistant", "\u200b", "to=", ":", "extra"]


@pytest.mark.property
@given(
    role=st.sampled_from(ROLE_WORDS),
    channel=st.none() | st.lists(st.sampled_from(SECTION_WORDS), max_size=4),
    content_type=st.none() | st.lists(st.sampled_from(SECTION_WORDS), max_size=3),
    start=st.booleans(),
    end=st.sampled_from(["<|end|>", "<|call|>", "<|return|>", ""]),
    step=st.integers(1, 9),
)
def test_no_word_of_a_header_is_ever_text(
    role: str, channel: list[str] | None, content_type: list[str] | None, start: bool, end: str, step: int
) -> None:
    assume(start or role != "bash")  # text that begins an answer without a header is shown as it comes
    sections = "" if channel is None else f"<|channel|>{' '.join(channel)}"
    sections += "" if content_type is None else f" <|constrain|>{' '.join(content_type)}"
    begin = "<|channel|>analysis<|message|>t<|end|><|start|>" if start else ""
    tokens = encode_harmony(f"{begin}{role}{sections}<|message|>BODY{end}")
    parser = HarmonyParser(["f"], one_turn=True)

    events = [event for place in range(0, len(tokens), step) for event in parser.feed(tokens[place : place + step])]
    events += parser.finish("stop")

    texts = "".join(event.text for event in events if isinstance(event, Text | ToolArguments))
    assert texts.removeprefix("t" if start else "") == ("" if parser.turn_over else "BODY")


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_an_engine_that_is_stopped_early_has_made_the_same_answer(spelling: Spelling) -> None:
    tokens = len(encode_harmony(spelling.completion))
    # An engine ends at the first <|call|>, whatever its model would go on with.
    stops_sooner = CALL_END in spelling.completion.removesuffix(CALL_END)
    for step in (1, tokens):
        engine = ScriptedEngine(Script((ScriptLine(completion=spelling.completion, tokens_per_step=step),)), model="m")
        await engine.start()

        events = [event async for event in chat.answer(engine, generation(spelling))]

        joined, calls = answer(events)
        assert (joined["final"], joined["commentary"], calls) == (
            spelling.content,
            spelling.commentary,
            spelling.calls[:1] if stops_sooner else spelling.calls,
        )
