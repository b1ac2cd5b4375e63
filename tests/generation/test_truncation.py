from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.generation.truncation import truncated
from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    FunctionCall,
    Message,
    ToolMessage,
    UserMessage,
)
from serving.harmony.render import render_prompt


def rendered(conversation: Conversation) -> int:
    return len(render_prompt(conversation))


def by_messages(conversation: Conversation) -> int:
    return len(conversation.messages)


def call(call_id: str) -> AssistantMessage:
    return AssistantMessage(tool_calls=(FunctionCall(call_id, "f", "{}"),))


TURNS = [
    (UserMessage("one"), AssistantMessage("first")),
    (UserMessage("two"), call("a"), ToolMessage("f", "x", "a"), AssistantMessage("second")),
    (UserMessage("three"), AssistantMessage("third")),
]
LAST = (UserMessage("four"), call("b"), ToolMessage("f", "y", "b"))


def conversation(*turns: tuple[Message, ...]) -> Conversation:
    return Conversation(tuple(message for turn in turns for message in turn), instructions="Be kind.")


def test_turns_go_oldest_first_and_whole() -> None:
    whole = conversation(*TURNS, LAST)
    for room, kept in ((11, TURNS), (10, TURNS[1:]), (9, TURNS[1:]), (8, TURNS[2:]), (5, TURNS[2:]), (4, [])):
        assert truncated(whole, room, by_messages) == conversation(*kept, LAST)


def test_the_last_turn_stays_however_long_it_is() -> None:
    assert truncated(conversation(*TURNS, LAST), 0, by_messages) == conversation(LAST)
    alone = conversation((AssistantMessage("hello"),))
    assert truncated(alone, 0, by_messages) == alone


def test_a_call_and_a_result_that_comes_a_turn_later_stay_together() -> None:
    late = conversation((UserMessage("1"), call("a")), (UserMessage("2"), ToolMessage("f", "x", "a")), LAST)
    assert truncated(late, 6, by_messages) == conversation(LAST)
    assert truncated(conversation(*TURNS[:1], late.messages), 7, by_messages) == late


def test_a_call_without_a_result_holds_nothing_together() -> None:
    left = conversation((UserMessage("1"), call("a")), (UserMessage("2"), call("b")), LAST)
    assert truncated(left, 6, by_messages) == conversation((UserMessage("2"), call("b")), LAST)


def test_few_conversations_are_counted_and_none_longer_than_the_whole() -> None:
    counted: list[int] = []

    def count(part: Conversation) -> int:
        counted.append(len(part.messages))
        return len(part.messages)

    turns = 1000
    truncated(conversation(*[(UserMessage(str(i)),) for i in range(turns)]), 10, count)
    assert len(counted) <= 10
    assert sum(counted) < 3 * turns


texts = st.text(max_size=12)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(UserMessage, texts),
    st.builds(AssistantMessage, texts, texts | st.none()),
    st.builds(call, st.sampled_from("abc")),
    st.builds(lambda call_id, text: ToolMessage("f", text, call_id), st.sampled_from(["a", "b", "c", ""]), texts),
)


@pytest.mark.property
@given(st.lists(messages, max_size=12), st.integers(0, 200))
def test_what_is_kept_is_an_end_of_it_that_fits_and_the_longest(said: list[Message], room: int) -> None:
    whole = Conversation(tuple(said), instructions="Be kind.")
    base = rendered(replace(whole, messages=()))
    kept = truncated(whole, base + room, rendered)
    assert kept.messages == whole.messages[len(said) - len(kept.messages) :]
    assert replace(kept, messages=()) == replace(whole, messages=())
    last_user = max((i for i, message in enumerate(said) if isinstance(message, UserMessage)), default=0)
    dropped = len(said) - len(kept.messages)
    assert dropped <= last_user
    assert dropped == 0 or isinstance(kept.messages[0], UserMessage)
    if rendered(whole) <= base + room:
        assert kept == whole
    # Each result that is kept and had its call before it in the whole still has that call.
    for i in range(dropped, len(said)):
        message = said[i]
        if isinstance(message, ToolMessage) and message.call_id:
            made = [j for j in range(i) if _makes(said[j], message.call_id)]
            assert not made or made[-1] >= dropped
    # A later beginning would drop more than it takes, unless even the least is too long.
    if dropped and rendered(kept) <= base + room:
        earlier = [i for i in range(1, dropped) if isinstance(said[i], UserMessage)]
        for begin in (0, *earlier):
            longer = replace(whole, messages=whole.messages[begin:])
            assert rendered(longer) > base + room or _splits(said, begin)


def _makes(message: Message, call_id: str) -> bool:
    return isinstance(message, AssistantMessage) and any(made.id == call_id for made in message.tool_calls)


def _splits(said: list[Message], begin: int) -> bool:
    """Whether a call before `begin` has its result after it; results without an id go by their function's name."""
    for i in range(begin, len(said)):
        message = said[i]
        if isinstance(message, ToolMessage):
            made = [
                j
                for j, other in enumerate(said[:i])
                if isinstance(other, AssistantMessage) and any(message.call_id in (c.id, "") for c in other.tool_calls)
            ]
            if made and made[-1] < begin:
                return True
    return False
