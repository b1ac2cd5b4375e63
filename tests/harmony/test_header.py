from __future__ import annotations

import pytest

from serving.harmony.channels import CHANNELS, Channel
from serving.harmony.header import MAX_HEADER_TOKENS, Header, Opening, Origin
from serving.harmony.recipients import Recipients

OFFERED = ["f", "look up"]


def header(text: str, origin: Origin = "prompt") -> Header:
    """A header after the text of its sections, with `<c>` for `<|channel|>` and `<t>` for `<|constrain|>`."""
    read = Header(origin, Recipients(OFFERED))
    role, *channels = text.split("<c>")
    for number, section in enumerate([role, *channels]):
        if number:
            read.begin_channel()
        text_before, *types = section.split("<t>")
        if text_before:
            read.add_text(text_before.encode())
        for content_type in types:
            read.begin_content_type()
            if content_type:
                read.add_text(content_type.encode())
    return read


@pytest.mark.parametrize("channel", CHANNELS)
def test_each_channel_of_the_table_is_read(channel: Channel) -> None:
    assert header(f"<c>{channel}").parse() == Opening(channel, None)


@pytest.mark.parametrize(
    ("text", "origin", "opening"),
    [
        ("assistant<c>final", "start", Opening("final", None)),
        ("<c>commentary to=functions.f <t>json", "prompt", Opening("commentary", "f")),
        (" to=functions.f<c>commentary json", "prompt", Opening("commentary", "f")),
        ("<c>commentary<t>json to=functions.f", "prompt", Opening("commentary", "f")),
        ("<c>commentary to=functions.look up json", "prompt", Opening("commentary", "look up")),
        ("<c>analysis to=browser.open", "prompt", Opening("analysis", None, ("tool_not_offered",))),
        ("to=functions.g", "prompt", Opening("commentary", None, ("channel_missing", "tool_not_offered"))),
        ("<c>final to=user", "prompt", Opening("final", None, ("recipient_not_a_tool",))),
        (
            "to=functions.f<c>final to=user",
            "prompt",
            Opening("final", None, ("recipient_repeated", "recipient_not_a_tool")),
        ),
        ("user<c>final", "start", Opening("final", None, ("unknown_role",), made_up="turn_made_up")),
        ("assistant<c>final", "prompt", Opening("final", None, ("header_words",))),
        ("<c>finally", "prompt", Opening("final", None, ("header_words",))),
        ("<c>thoughts", "prompt", Opening("final", None, ("unknown_channel",), doubtful=True)),
        ("", "prompt", Opening("final", None, ("channel_missing",))),
        ("<c>final", "none", Opening("final", None, ("start_missing",))),
        ("<c>final one two", "prompt", Opening("final", None, ("header_words",))),
    ],
)
def test_a_complete_header_opens_a_message_or_a_call_and_tells_its_oddities(
    text: str, origin: Origin, opening: Opening
) -> None:
    assert header(text, origin).parse() == opening


def test_a_recipient_of_an_earlier_channel_section_is_kept() -> None:
    assert header("<c>analysis to=functions.f<c>commentary").parse() == Opening("commentary", "f")


@pytest.mark.parametrize(
    ("text", "origin", "prose"),
    [
        ("Paris", "prompt", True),
        ("t", "prompt", False),
        ("to=functions.f", "prompt", False),
        ("to=functions.f json", "prompt", False),
        ("to=functions.look u", "prompt", False),
        ("to=functions.f and so on", "prompt", True),
        ("assistant", "prompt", False),
        ("assistant speaks", "prompt", True),
        ("Paris", "start", False),
        ("Paris", "none", True),
        ("Paris<c>", "prompt", False),
    ],
)
def test_prose_is_what_no_header_begins_with(text: str, origin: Origin, prose: bool) -> None:
    assert header(text, origin).is_prose() is prose


@pytest.mark.parametrize(
    ("text", "called", "opening"),
    [
        ("<c>analysis We think", False, Opening("analysis", None, ("message_missing",), b"We think")),
        ('<c>commentary to=functions.f{"a": 1}', False, Opening("commentary", "f", ("message_missing",), b'{"a": 1}')),
        ("<c>commentary to=functions.f", True, Opening("commentary", "f", ("message_missing",))),
        ("<c>commentary to=functions.f words", False, Opening("commentary", None, ("message_missing",), b"words")),
        (
            '<c>commentary to=functions.g{"a": 1}',
            False,
            Opening("commentary", None, ("message_missing", "tool_not_offered"), b'{"a": 1}'),
        ),
    ],
)
def test_text_of_a_header_without_a_message_is_salvaged(text: str, called: bool, opening: Opening) -> None:
    assert header(text).salvage(cut=False, called=called) == opening


def test_a_lone_word_is_the_beginning_of_a_header_that_the_completions_end_cut() -> None:
    assert header("<c>final Hel").salvage(cut=True).text == b""
    assert header("<c>final Hel").salvage(cut=False).text == b"Hel"


def test_only_markers_leave_a_header_untouched_and_all_its_text_can_be_had() -> None:
    read = header("")
    assert read.is_untouched()
    read.add_text(b"a")
    assert not read.is_untouched()
    assert header("a<c>b<t>c").everything() == b"abc"


def test_a_header_is_overlong_after_its_most_tokens() -> None:
    read = header("")
    for _ in range(MAX_HEADER_TOKENS):
        read.add_text(b" ")
    assert not read.is_overlong()
    read.add_text(b" ")
    assert read.is_overlong()
    assert not Header("prompt", Recipients(["x" * 10_000]), text_tokens=MAX_HEADER_TOKENS + 1).is_overlong()
