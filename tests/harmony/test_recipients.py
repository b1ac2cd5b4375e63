from __future__ import annotations

from collections.abc import Collection

import pytest

from serving.harmony.recipients import Recipients

OFFERED = ["search", "search web", "get.weather", "naïve"]


@pytest.mark.parametrize(
    ("recipient", "tools", "name", "recovered"),
    [
        (b"functions.search", OFFERED, "search", ()),
        (b"search", OFFERED, "search", ()),
        (b"functions.search web", OFFERED, "search web", ()),
        (b"functions::search", OFFERED, "search", ()),
        (b"tool/functions.get.weather", OFFERED, "get.weather", ()),
        ("functions.naïve".encode(), OFFERED, "naïve", ()),
        (b"functions.search<", OFFERED, "search", ("header_words",)),
        (b"functions.searching", OFFERED, None, ("tool_not_offered",)),
        (b"browser.search", OFFERED, None, ("tool_not_offered",)),
        (b"functions.made_up?", OFFERED, None, ("header_words", "tool_not_offered")),
        (b"functions.search", [], None, ("tool_not_offered",)),
        (b"functions.any", None, "any", ()),
        (b"browser.search", None, "browser.search", ()),
        (b"functions.any!", None, "any", ("header_words",)),
        (b"", None, None, ("recipient_not_a_tool",)),
        (b"assistant", OFFERED, None, ("recipient_not_a_tool",)),
        (b"functions.", OFFERED, None, ("recipient_not_a_tool",)),
        (b"user!", OFFERED, None, ("header_words", "recipient_not_a_tool")),
    ],
)
def test_a_recipient_is_the_function_that_was_offered_by_that_name(
    recipient: bytes, tools: Collection[str] | None, name: str | None, recovered: tuple[str, ...]
) -> None:
    assert Recipients(tools).resolve(recipient) == (name, recovered)


def test_a_function_whose_name_is_that_of_a_namespace_is_found_as_written_first() -> None:
    recipients = Recipients(["functions.f", "f"])
    assert recipients.resolve(b"functions.f")[0] == "f"
    assert recipients.resolve(b"functions.functions.f")[0] == "functions.f"


@pytest.mark.parametrize(
    ("text", "tools", "end"),
    [
        (b"functions.search json", OFFERED, len(b"functions.search")),
        (b"functions.search web json", OFFERED, len(b"functions.search web")),
        (b"functions.other json", OFFERED, len(b"functions.other")),
        (b"functions.search web", None, len(b"functions.search")),
        (b" json", OFFERED, 0),
    ],
)
def test_a_name_ends_where_the_offered_name_does_or_at_what_no_name_has(
    text: bytes, tools: Collection[str] | None, end: int
) -> None:
    assert Recipients(tools).name_end(text) == end


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        (b"functions.search", True),
        (b"functions.search w", True),
        (b"functions.search web ", True),
        (b"functions.search web j", False),
        (b"search we", True),
        (b"functions.get.weather", False),
    ],
)
def test_only_a_name_with_blanks_may_go_on_after_a_blank(text: bytes, goes_on: bool) -> None:
    assert Recipients(OFFERED).may_go_on(text) is goes_on


def test_where_any_name_may_come_no_name_has_blanks_and_none_is_longest() -> None:
    assert not Recipients(None).may_go_on(b"functions.search ")
    assert Recipients(None).longest == 0
    assert Recipients(OFFERED).longest == len("get.weather")
