from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import openai
import pytest
from rich.console import Console

from serving.client.events import ChannelStart, TextDelta, Usage
from serving.client.terminal.conversation import Conversation, Timing
from serving.client.terminal.screen import Screen
from serving.client.terminal.session import answer_once, chat
from serving.errors import ClientError
from serving.harmony.vocabulary import decode

if TYPE_CHECKING:
    from tests.client.conftest import Server

Talk = Callable[..., str]


def conversation_with(client: openai.OpenAI, **fields: Any) -> Conversation:
    given: dict[str, Any] = {"model": "demo", "system": None, "effort": None, **fields}
    return Conversation(client, clock=time.monotonic, **given)


def typed(lines: Iterable[str | type[BaseException]]) -> Callable[[str], str]:
    """A terminal at which these are typed; Ctrl-D at their end."""
    left = itertools.chain(lines, [EOFError])

    def read_line(_: str) -> str:
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    return read_line


def talk(client: openai.OpenAI, *lines: str | type[BaseException]) -> str:
    """What the terminal shows."""
    out = io.StringIO()
    chat(conversation_with(client), Screen(Console(file=out, width=60)), typed(lines))
    return out.getvalue()


def prompts(server: Server) -> list[str]:
    return [decode(ids) for ids in server.engine.prompts]


def test_an_answer_is_shown_by_channels_with_its_costs(server: Server) -> None:
    shown = talk(server.openai, "Hello!").splitlines()
    assert shown[1:3] == ["analysis: Somebody greets me.", "Hello there!"]
    assert "(6 of them reasoning)" in shown[3]
    assert "the first after " in shown[3]


def test_channels_have_colours(server: Server) -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, force_terminal=True, color_system="standard"))
    chat(conversation_with(server.openai), screen, typed(["Hello!"]))
    assert "\x1b[1;2;3manalysis: " in out.getvalue()
    assert "\x1b[2;3mSome" in out.getvalue()


def test_the_conversation_goes_on_until_it_is_cleared(server: Server) -> None:
    talk(server.openai, "One", "Two", "/clear", "Three")
    second, third = prompts(server)[1:]
    assert "One" in second
    assert "<|channel|>final<|message|>Hello there!<|end|>" in second
    assert "Two" not in third


def test_slash_commands_change_what_is_asked(server: Server) -> None:
    shown = talk(server.openai, "/effort high", "/system Be brief.", "/reasoning off", "Hello!", "/system", "Hello!")
    assert "Reasoning: high" in prompts(server)[0]
    assert "Be brief." in prompts(server)[0]
    assert "Be brief." not in prompts(server)[1]
    assert "Somebody" not in shown
    assert "thinking ..." in shown


def test_models_are_listed_and_chosen(server: Server) -> None:
    shown = talk(server.openai, "/model", "/model nope", "/model demo")
    assert shown.count("model: demo") == 2
    assert "The server has no model 'nope'. It has: demo." in shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/efort low", "Did you mean /effort?"),
        ("/xyz", "/help lists what is."),
        ("/effort huge", "Use one of: low, medium, high."),
        ("/reasoning maybe", "Use /reasoning on or /reasoning off."),
        ("/help", "Ctrl-C stops an answer."),
    ],
)
def test_a_command_explains_itself(server: Server, line: str, words: str) -> None:
    assert words in talk(server.openai, line)
    assert prompts(server) == []


def test_quit_leaves(server: Server) -> None:
    talk(server.openai, "/quit", "Hello!")
    assert prompts(server) == []


def test_a_line_goes_on_after_a_backslash(server: Server) -> None:
    talk(server.openai, "One\\", "Two")
    assert "<|message|>One\nTwo<|end|>" in prompts(server)[0]


def test_ctrl_c_at_the_prompt_forgets_the_line(server: Server) -> None:
    assert "Ctrl-D leaves." in talk(server.openai, KeyboardInterrupt, "Hello!").splitlines()[1]
    assert len(prompts(server)) == 1


def test_an_answer_that_is_stopped_stays_as_far_as_it_got(server: Server) -> None:
    conversation = conversation_with(server.openai)

    def stop_at_the_second_word(event: Any) -> None:
        if isinstance(event, TextDelta) and next(words) == 1:
            raise KeyboardInterrupt

    words = itertools.count()
    with pytest.raises(KeyboardInterrupt):
        conversation.ask("slowly", stop_at_the_second_word)
    conversation.ask("Hello!", lambda _: None)
    assert "slowly<|end|>" in prompts(server)[-1]
    assert "<|channel|>final<|message|>word word" in prompts(server)[-1]


def test_a_question_without_an_answer_is_taken_back(server: Server) -> None:
    server.engine.fails_after = 0
    shown = talk(server.openai, "One")
    server.engine.fails_after = None
    assert "The server" in shown
    assert "secret" not in shown
    talk(server.openai, "Two")
    assert "One" not in prompts(server)[-1]


def test_a_server_that_is_away_is_told_in_a_sentence() -> None:
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0) as away:
        shown = talk(away, "Hello!", "/model")
    assert shown.count("No server answers at http://127.0.0.1:9/v1: start one with `serving up`") == 2


def test_what_a_model_writes_cannot_move_the_cursor() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out))
    screen.show(ChannelStart("final"))
    screen.show(TextDelta("final", "a\x1b[2Jb\rc\x9b\td[bold]\n"))
    assert out.getvalue() == "a\ufffd[2Jbc\ufffd\td[bold]\n"


def test_a_pipe_gets_the_answer_alone(server: Server) -> None:
    out = io.StringIO()
    answer_once(conversation_with(server.openai), "Hello!", out)
    assert out.getvalue() == "Hello there!\n"


def test_a_pipes_answer_that_does_not_come_is_an_error(server: Server) -> None:
    with pytest.raises(ClientError, match=r"The server refused \(404\): The model 'nope' does not exist"):
        answer_once(conversation_with(server.openai, model="nope"), "Hello!", io.StringIO())


def test_times_are_those_of_the_texts() -> None:
    moments = iter([10.0, 10.5, 12.5])
    timing = Timing(lambda: next(moments))
    for event in (ChannelStart("final"), TextDelta("final", "a"), TextDelta("final", "b")):
        timing.take(event)
    usage = Usage("length", completion_tokens=21, reasoning_tokens=4)
    assert timing.told(usage) == (
        "21 tokens (4 of them reasoning), the first after 0.50 s, 10.0 tokens/s, cut off: no room for more tokens"
    )
