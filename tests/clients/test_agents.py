"""Coding agents: an answer, a stream, a tool loop with its reasoning, and an error, as each shows it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from serving.engine.scripted import ScriptLine
from tests.clients.agents import COMMAND, Agent, Aider, ClaudeCode, Codex, OpenCode, OpenCodeOnResponses
from tests.clients.harness import ANALYSIS, COUNTED, HELLO, PREAMBLE, Scripted, answer, call

pytestmark = pytest.mark.clients

PRINTED = "It printed marmot."
AGENTS = (Codex, ClaudeCode, OpenCode)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
"""A picture of one dot."""
EDIT = "marmot.txt\n```\nwhistle\n```\n"


def of_each(*kinds: type[Agent]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)


@of_each(*AGENTS)
def test_an_answer_is_shown(kind: type[Agent], scripted: Scripted, tmp_path: Path) -> None:
    agent = kind(scripted.url, tmp_path)
    ended = agent.ask("Say hello.")
    assert HELLO in agent.said(ended), ended
    assert ended.status == 0


@of_each(*AGENTS)
def test_a_slow_stream_is_shown(kind: type[Agent], scripted: Scripted, tmp_path: Path) -> None:
    agent = kind(scripted.url, tmp_path)
    ended = agent.ask("Count to six.")
    assert COUNTED in "".join(agent.said(ended)), ended


@of_each(*AGENTS, OpenCodeOnResponses)
def test_a_command_is_run_and_the_answer_tells_of_it(kind: type[Agent], scripted: Scripted, tmp_path: Path) -> None:
    agent = kind(scripted.url, tmp_path)
    name = kind.__name__
    lines = (
        ScriptLine(tail_contains=f"for {name}.", turn=1, completion=call(agent.tool, agent.arguments)),
        ScriptLine(tail_contains="marmot", turn=2, completion=answer(PRINTED)),
    )
    with scripted.playing(*lines):
        ended = agent.ask(f"Print something for {name}.")
    said = agent.said(ended)
    assert PRINTED in said, ended
    assert PREAMBLE in "".join(said), ended
    prompt = next(prompt for prompt in scripted.prompts(f"for {name}.") if COMMAND in prompt)
    assert ANALYSIS in prompt
    assert PREAMBLE in prompt


@pytest.mark.parametrize(
    ("kind", "tool", "argument"), [(Codex, "view_image", "path"), (ClaudeCode, "Read", "file_path")]
)
def test_a_tool_that_returns_an_image_does_not_end_the_thread(
    kind: type[Agent], tool: str, argument: str, scripted: Scripted, tmp_path: Path
) -> None:
    agent = kind(scripted.url, tmp_path)
    image = agent.project / "dot.png"
    image.write_bytes(base64.b64decode(PNG))
    question = f"What does the picture show, {kind.__name__}?"
    lines = (
        ScriptLine(tail_contains=question, turn=1, completion=call(tool, {argument: str(image)})),
        ScriptLine(tail_contains=f"functions.{tool}", turn=2, completion=answer("I read text alone.")),
    )
    with scripted.playing(*lines):
        ended = agent.ask(question)
    assert "I read text alone." in agent.said(ended), ended


@of_each(*AGENTS)
def test_an_error_says_what_is_wrong(kind: type[Agent], scripted: Scripted, tmp_path: Path) -> None:
    agent = kind(scripted.url, tmp_path)
    ended = agent.ask("Nobody knows what to say to this.")
    assert "no line for this prompt" in ended.out + ended.err, ended


def test_aider_shows_an_answer_as_it_comes(scripted: Scripted, tmp_path: Path) -> None:
    aider = Aider(scripted.url, tmp_path)
    assert COUNTED in aider.ask("Count to six.").out


def test_aider_applies_an_edit(scripted: Scripted, tmp_path: Path) -> None:
    aider = Aider(scripted.url, tmp_path)
    with scripted.playing(ScriptLine(tail_contains="Let the marmot whistle", completion=answer(EDIT))):
        ended = aider.ask("Let the marmot whistle.")
    assert (aider.project / "marmot.txt").read_text(encoding="utf-8") == "whistle\n", ended


def test_aider_shows_an_error(scripted: Scripted, tmp_path: Path) -> None:
    aider = Aider(scripted.url, tmp_path)
    ended = aider.ask("Nobody knows what to say to this.")
    # It breaks lines.
    assert "no line for this prompt" in " ".join((ended.out + ended.err).split()), ended
