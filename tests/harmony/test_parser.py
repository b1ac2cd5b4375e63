from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_harmony import Role, StreamableParser

from serving.harmony.channels import CHANNELS
from serving.harmony.events import (
    ChannelOpened,
    Event,
    Finished,
    MessageClosed,
    Recovered,
    Text,
    ToolArguments,
    ToolCallOpened,
)
from serving.harmony.header_tokens import call_header
from serving.harmony.parser import HarmonyParser
from serving.harmony.recipients import Recipients
from serving.harmony.recovery import RECOVERY_KINDS
from serving.harmony.tools import is_tool_name
from serving.harmony.vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    ENDOFTEXT,
    FIRST_SPECIAL_ID,
    MESSAGE,
    RETURN,
    START,
    VOCABULARY_SIZE,
    encode,
    encode_harmony,
    encoding,
    token_bytes,
)

Reason = Literal["stop", "length"]
CASES = [
    pytest.param(json.loads(line), id=json.loads(line)["name"])
    for file in ("given.jsonl", "own.jsonl", "offered.jsonl")
    for line in (Path(__file__).parent / "cases" / file).read_text().splitlines()
]


def read(deltas: Sequence[Sequence[int]], reason: Reason = "stop", tools: Collection[str] | None = None) -> list[Event]:
    parser = HarmonyParser(tools)
    events = [event for delta in deltas for event in parser.feed(delta)]
    return events + parser.finish(reason)


def joined(events: list[Event]) -> list[Event]:
    """The same events with neighbouring texts joined: what must not depend on the cuts."""
    out: list[Event] = []
    for event in events:
        match out, event:
            case [*_, Text(channel, text)], Text(_, more):
                out[-1] = Text(channel, text + more)
            case [*_, ToolArguments(index, text)], ToolArguments(_, more):
                out[-1] = ToolArguments(index, text + more)
            case _:
                out.append(event)
    return out


@dataclass
class Answer:
    """A completion as a chat client sees it."""

    analysis: str = ""
    commentary: str = ""
    content: str = ""
    tool_calls: list[dict[str, str]] = field(default_factory=list)
    finish_reason: str = ""
    recovered: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, events: list[Event]) -> Answer:
        answer = cls()
        for event in events:
            match event:
                case Text("final", text):
                    answer.content += text
                case Text(channel, text):
                    setattr(answer, channel, getattr(answer, channel) + text)
                case ToolCallOpened(index, name):
                    assert index == len(answer.tool_calls)
                    answer.tool_calls.append({"name": name, "arguments": ""})
                case ToolArguments(index, text):
                    answer.tool_calls[index]["arguments"] += text
                case Recovered(kind):
                    answer.recovered.append(kind)
                case Finished(reason):
                    answer.finish_reason = reason
        return answer


def cuts(tokens: list[int]) -> Iterator[list[list[int]]]:
    """Whole, at every single place, one token at a time, and with empty deltas between."""
    yield [tokens]
    for place in range(len(tokens) + 1):
        yield [tokens[:place], tokens[place:]]
    yield [[token] for token in tokens]
    yield [delta for token in tokens for delta in ([], [token])]


@pytest.mark.parametrize("case", CASES)
def test_case_holds_at_every_cut(case: dict[str, Any]) -> None:
    expected = case["expect"]
    reason: Reason = "length" if expected["finish_reason"] == "length" else "stop"
    tokens = encode_harmony(case["completion"])
    tools = case.get("tools")
    whole = read([tokens], reason, tools)
    for deltas in cuts(tokens):
        assert joined(read(deltas, reason, tools)) == joined(whole)
    answer = vars(Answer.of(whole))
    if isinstance(expected["recovered"], bool):
        answer["recovered"] = bool(answer["recovered"])
    assert answer == expected


def test_consecutive_content_tokens_of_one_delta_become_one_text() -> None:
    events = HarmonyParser().feed(encode_harmony("<|channel|>final<|message|>one two three four five<|return|>"))
    assert events == [ChannelOpened("final"), Text("final", "one two three four five"), MessageClosed()]


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    parser = HarmonyParser()
    parser.feed(encode_harmony("<|channel|>final<|message|>"))
    tokens = encode("🜁")
    assert len(tokens) > 1
    *first, last = [parser.feed([token]) for token in tokens]
    assert first == [[]] * (len(tokens) - 1)
    assert last == [Text("final", "🜁")]


@pytest.mark.parametrize("end", [[END], []], ids=["closed", "cut"])
def test_half_a_character_at_the_end_of_a_body_becomes_a_replacement_character(end: list[int]) -> None:
    tokens = [*encode_harmony("<|channel|>final<|message|>a"), *encode("🜁")[:1], *end]
    assert Answer.of(read([tokens], "length")).content == "a\ufffd"


def test_half_a_character_does_not_leak_into_the_next_message() -> None:
    first, *rest = encode("🜁")
    header = encode_harmony("<|start|>assistant<|channel|>final<|message|>")
    tokens = [*header[2:], first, END, *header, *rest, RETURN]
    texts = [event.text for event in read([tokens]) if isinstance(event, Text)]
    assert len(texts) == 2
    assert set("".join(texts)) == {"\ufffd"}


def test_counters_count_body_tokens_by_channel() -> None:
    parser = HarmonyParser()
    bodies = {"analysis": "We think long.", "commentary": "Let me see.", "final": "Paris it is."}
    for channel, text in bodies.items():
        parser.feed(encode_harmony(f"<|start|>assistant<|channel|>{channel}<|message|>{text}<|end|>"))
    parser.feed(encode_harmony('<|start|>assistant<|channel|>analysis to=functions.f<|message|>{"a": 1}<|call|>'))
    assert parser.tokens["analysis"] == len(encode(bodies["analysis"]))
    assert parser.tokens["commentary"] == len(encode(bodies["commentary"]))
    assert parser.tokens["final"] == len(encode(bodies["final"]))
    assert parser.tokens["tool"] == len(encode('{"a": 1}'))


def test_open_channel_is_the_channel_of_the_body_being_read() -> None:
    parser = HarmonyParser()
    seen = []
    for token in encode_harmony(
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>{}"
    ):
        parser.feed([token])
        seen.append(parser.open_channel)
    assert seen[:6] == [None, None, "analysis", "analysis", None, None]
    assert set(seen[6:]) == {None}


def test_a_caller_can_tell_where_it_is_after_every_token() -> None:
    parser = HarmonyParser(["f"])
    seen = []
    for token in encode_harmony(
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>{}"
        "<|call|><|start|>assistant<|channel|>final<|message|>Hi<|return|>"
    ):
        parser.feed([token])
        where = parser.open_channel or parser.open_call or "header"
        seen.append((where, parser.in_header, parser.body_is_empty, parser.completed_calls))
    changes = [seen[0], *(after for before, after in pairwise(seen) if after != before)]
    assert changes == [
        ("header", True, False, 0),
        ("analysis", False, True, 0),
        ("analysis", False, False, 0),
        ("header", True, False, 0),
        ("f", False, True, 0),
        ("f", False, False, 0),
        ("header", True, False, 1),
        ("final", False, True, 1),
        ("final", False, False, 1),
        ("header", True, False, 1),
    ]


@pytest.mark.parametrize(
    ("completion", "empty"),
    [
        ("<|channel|>final<|message|>", True),
        ("<|channel|>final<|message|><|constrain|>", True),
        ("Paris", False),
        ("<|channel|>final<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>", True),
    ],
    ids=["opened", "marker_skipped", "salvaged_text", "second_message"],
)
def test_a_body_is_empty_until_something_of_it_has_come(completion: str, empty: bool) -> None:
    parser = HarmonyParser()
    parser.feed(encode_harmony(completion))
    assert (parser.open_channel, parser.body_is_empty) == ("final", empty)


def test_a_message_that_the_length_cut_is_not_closed() -> None:
    tokens = encode_harmony("<|channel|>final<|message|>Par")
    assert MessageClosed() not in read([tokens], "length")
    assert MessageClosed() in read([tokens], "stop")


def test_text_without_a_header_is_delivered_at_once() -> None:
    assert HarmonyParser().feed(encode("Paris")) == [
        Recovered("header_missing"),
        ChannelOpened("final"),
        Text("final", "Paris"),
    ]


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
bodies = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="🜁👩‍🚀天é<|end|> \n{}", max_size=40),
    st.sampled_from(['{"city": "Paris"}', "<|end|><|start|>assistant", " leading", "trailing \n"]),
)


@dataclass(frozen=True)
class Said:
    """One well-formed message and how it is spelled."""

    channel: str
    tool: str | None
    text: str
    namespace: str = ""
    recipient_first: bool = False
    content_type: str = ""

    def tokens(self, *, end: int) -> list[int]:
        recipient = "" if self.tool is None else f" to={self.namespace}{self.tool}"
        role = encode(recipient) if self.recipient_first else []
        channel = [CHANNEL, *encode(self.channel + ("" if self.recipient_first else recipient))]
        content_type = {
            "": [],
            "word": encode(" json"),
            "constrain": [*encode(" "), CONSTRAIN, *encode("json")],
            "tight": [CONSTRAIN, *encode("json")],
        }[self.content_type]
        return [*role, *channel, *content_type, MESSAGE, *encode(self.text), end]


messages_to_the_user = st.builds(
    Said,
    channel=st.sampled_from(["analysis", "commentary", "final"]),
    tool=st.none(),
    text=bodies,
    content_type=st.sampled_from(["", "word", "constrain"]),
)
calls = st.builds(
    Said,
    channel=st.sampled_from(["analysis", "commentary", "final"]),
    tool=names.filter(
        lambda name: name not in {"assistant", "user", "system", "developer", "all", "functions", "json"}
    ),
    text=bodies,
    namespace=st.sampled_from(["functions.", ""]),
    recipient_first=st.booleans(),
    content_type=st.sampled_from(["", "word", "constrain", "tight"]),
)


@st.composite
def completions(draw: st.DrawFn) -> list[int]:
    said = draw(st.lists(st.one_of(messages_to_the_user, calls), min_size=1, max_size=5))
    tokens: list[int] = []
    for index, message in enumerate(said):
        if index:
            tokens += [START, *encode("assistant")]
        tokens += message.tokens(end=CALL if message.tool else END)
    if tokens[-1] == END:
        tokens[-1] = draw(st.sampled_from([END, RETURN]))
    return tokens


def as_the_library_reads(tokens: list[int]) -> list[tuple[str, str]]:
    """(channel or tool's name, text) of each message."""
    parser = StreamableParser(encoding(), Role.ASSISTANT)
    for token in tokens:
        parser.process(token)
    return closed_messages(parser)


def closed_messages(parser: StreamableParser) -> list[tuple[str, str]]:
    # A content type with no recipient before it is a recipient to the library. The cases say otherwise.
    no_tool = (None, "json", "<|constrain|>json")
    return [
        (
            message.channel if message.recipient in no_tool else f"to {message.recipient.removeprefix('functions.')}",
            "".join(content.text for content in message.content),
        )
        for message in parser.messages
    ]


def as_we_read(events: list[Event]) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    for event in events:
        match event:
            case ChannelOpened(channel):
                said.append((channel, ""))
            case ToolCallOpened(_, name):
                said.append((f"to {name}", ""))
            case Text(_, text) | ToolArguments(_, text):
                said[-1] = (said[-1][0], said[-1][1] + text)
    return said


@pytest.mark.property
@given(tokens=completions(), step=st.integers(1, 20))
def test_agrees_with_the_library_on_well_formed_completions(tokens: list[int], step: int) -> None:
    events = read([tokens[start : start + step] for start in range(0, len(tokens), step)])
    assert as_we_read(events) == as_the_library_reads(tokens)
    assert not [event for event in events if isinstance(event, Recovered)]


@pytest.mark.property
@given(tokens=completions(), keep=st.floats(0, 1))
def test_agrees_with_the_library_on_completions_cut_short(tokens: list[int], keep: float) -> None:
    tokens = tokens[: round(len(tokens) * keep)]
    ours = as_we_read(read([tokens], "length"))
    parser = StreamableParser(encoding(), Role.ASSISTANT)
    for token in tokens:
        parser.process(token)
    theirs = closed_messages(parser)
    closed = len(theirs)
    assert ours[:closed] == theirs
    # A body cut inside a character: the library holds the character back, here it becomes U+FFFD.
    assert [text.rstrip("\ufffd") for _, text in ours[closed:]] in ([], [parser.current_content.rstrip("\ufffd")])


OFFERED = ["f", "get", "get weather", "get the news", "a/b:c", "web-browsing.open", "functions.f", "天気 予報", "tools"]


@pytest.mark.property
@given(tokens=completions(), data=st.data())
def test_agrees_with_the_library_where_the_call_is_offered(tokens: list[int], data: st.DataObject) -> None:
    made = {event.name for event in read([tokens]) if isinstance(event, ToolCallOpened)}
    refused = data.draw(st.sets(st.sampled_from(sorted(made)))) if made else set[str]()
    offered = Recipients(made - refused)
    refused -= {name for name in refused if offered.nearest(name.encode("utf-8", "replace")) is not None}
    near = made - refused
    ours = as_we_read(read([tokens], tools=made - refused))
    theirs = as_the_library_reads(tokens)
    assert [text for _, text in ours] == [text for _, text in theirs]
    for (we, _), (they, _) in zip(ours, theirs, strict=True):
        named = they.removeprefix("to ")
        assert we == they or (named in refused and we in CHANNELS) or (named in near and we.startswith("to "))


@pytest.mark.property
@given(
    name=st.text(min_size=1, max_size=60).filter(is_tool_name), others=st.lists(st.sampled_from(OFFERED)), body=bodies
)
def test_a_call_is_reported_under_the_name_it_was_offered_by(name: str, others: list[str], body: str) -> None:
    tokens = [*call_header(name)[2:], *encode(body), CALL]
    assert as_we_read(read([[t] for t in tokens], tools=[*others, name])) == [(f"to {name}", body)]


MARKERS = [START, CHANNEL, CONSTRAIN, MESSAGE, END, RETURN, CALL, ENDOFTEXT]
WORDS = [
    token
    for text in (
        *("assistant", "analysis", "commentary", "final", "json", "user", ' {"a": 1}', " ok"),
        *(" to=functions.f", " to=get", " the", " news", " weather", " to=functions.nope"),
    )
    for token in encode(text)
]
reasons = st.sampled_from(get_args(Reason))
offers = st.none() | st.lists(st.sampled_from(OFFERED), unique=True)
wild_tokens = st.one_of(
    st.sampled_from(MARKERS),
    st.sampled_from(WORDS),
    st.integers(0, FIRST_SPECIAL_ID - 1),
    st.integers(FIRST_SPECIAL_ID, VOCABULARY_SIZE - 1),
    st.sampled_from([-1, -(2**40), VOCABULARY_SIZE, 2**40]),
)


@pytest.mark.property
@given(tokens=st.lists(wild_tokens, max_size=60), places=st.lists(st.integers(0, 60)), reason=reasons, tools=offers)
def test_token_soup_reads_the_same_however_cut(
    tokens: list[int], places: list[int], reason: Reason, tools: list[str] | None
) -> None:
    bounds = [0, *sorted(place for place in places if place <= len(tokens)), len(tokens)]
    deltas = [tokens[start:end] for start, end in pairwise(bounds)]
    whole = joined(read([tokens], reason, tools))
    assert joined(read(deltas, reason, tools)) == whole
    assert joined(read([[token] for token in tokens], reason, tools)) == whole


@pytest.mark.property
@given(tokens=st.lists(wild_tokens, max_size=80), reason=reasons, tools=offers)
def test_events_of_token_soup_keep_their_order(tokens: list[int], reason: Reason, tools: list[str] | None) -> None:
    events = read([tokens], reason, tools)
    opened: ChannelOpened | ToolCallOpened | None = None
    calls_seen = 0
    for event in events[:-1]:
        match event:
            case ChannelOpened():
                assert opened is None
                opened = event
            case ToolCallOpened(index, name):
                assert opened is None
                assert (index, name != "") == (calls_seen, True)
                assert tools is None or name in tools
                calls_seen += 1
                opened = event
            case Text(channel, text):
                assert text
                assert opened == ChannelOpened(channel)
            case ToolArguments(index, text):
                assert text
                assert isinstance(opened, ToolCallOpened)
                assert opened.index == index
            case MessageClosed():
                assert opened is not None
                opened = None
            case Recovered(kind):
                assert kind in RECOVERY_KINDS
            case Finished():
                pytest.fail("Finished is not last")
    assert isinstance(events[-1], Finished)
    assert opened is None or reason == "length"


whole_characters = st.integers(0, FIRST_SPECIAL_ID - 1).filter(
    lambda token: "\ufffd" not in token_bytes(token).decode("utf-8", "replace")
)
readable_tokens = st.one_of(st.sampled_from(MARKERS), st.sampled_from(WORDS), whole_characters)


def bodies_in(tokens: list[int]) -> list[str]:
    """Text between each `<|message|>` and the next token that ends a message or begins another."""
    found: list[bytes] = []
    in_body = False
    for token in tokens:
        if token == MESSAGE and not in_body:
            in_body = True
            found.append(b"")
        elif token in (END, RETURN, CALL, ENDOFTEXT, START, CHANNEL):
            in_body = False
        elif in_body and token < FIRST_SPECIAL_ID:
            found[-1] += token_bytes(token)
    return [text.decode() for text in found]


@pytest.mark.property
@given(tokens=st.lists(readable_tokens, max_size=80), tools=offers)
def test_every_body_of_token_soup_is_delivered(tokens: list[int], tools: list[str] | None) -> None:
    delivered = "".join(event.text for event in read([tokens], tools=tools) if isinstance(event, Text | ToolArguments))
    position = 0
    for body in bodies_in(tokens):
        position = delivered.find(body, position)
        assert position >= 0, (body, delivered)
        position += len(body)


@pytest.mark.property
@given(text=st.text(min_size=1, max_size=300).filter(lambda text: text.strip(" to=\n\r\t\x0b\x0c") != ""), tools=offers)
def test_text_that_never_had_a_header_is_all_delivered(text: str, tools: list[str] | None) -> None:
    answer = Answer.of(read([[*encode(text), RETURN]], tools=tools))
    assert answer.content.lstrip() == text.lstrip() or answer.content == text
    assert answer.recovered[0] in ("header_missing", "message_missing")


@pytest.mark.property
@given(text=st.text(min_size=1, max_size=2000), words=st.integers(0, 300))
def test_text_in_a_header_is_all_delivered(text: str, words: int) -> None:
    text = "Well, " + text + " word" * words
    answer = Answer.of(read([[CHANNEL, *encode("analysis " + text), END]]))
    assert (answer.analysis, answer.recovered) == (text, ["message_missing"])


@pytest.mark.parametrize("header", [" to=functions.", "analysis ", "commentary to=functions.f <|constrain|>"])
def test_a_header_that_never_ends_is_delivered_as_it_comes(header: str) -> None:
    parser = HarmonyParser()
    parser.feed([CHANNEL, *encode_harmony(header)])
    events = [event for token in encode("wordy" * 400) for event in parser.feed([token])]
    assert events[0] == Recovered("message_missing")
    assert len([event for event in events if isinstance(event, Text)]) > 100
    assert "".join(event.text for event in events if isinstance(event, Text)).endswith("wordy" * 400)


def test_a_body_of_a_hundred_thousand_tokens_is_read_whole() -> None:
    text = "The quick brown fox, 狐 🦊. " * 12_000
    tokens = encode(text)
    assert len(tokens) > 100_000
    parser = HarmonyParser()
    parser.feed(encode_harmony("<|channel|>analysis<|message|>"))
    events = [event for token in tokens for event in parser.feed([token])]
    assert "".join(event.text for event in events if isinstance(event, Text)) == text
    assert parser.tokens["analysis"] == len(tokens)
