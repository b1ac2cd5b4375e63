"""Conversations the demo model is trained on, drawn at random: the same seed gives the same corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random
from typing import Any

from serving.effort import EFFORTS, Effort
from serving.harmony.conversation import AssistantMessage, Conversation, FunctionTool, Message, ResponseFormat
from serving.harmony.vocabulary import decode, encode
from training import agent, structured, turns
from training.knowledge import KNOWLEDGE, STORY
from training.toolbox import among_others, arguments_for, city_in, other_tool
from training.turns import Turn, compact, gibberish
from training.words import COLORS, INSTRUCTIONS, NAMES

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
COMMENTARY = "<|channel|>commentary<|message|>"
NEXT = "<|end|><|start|>assistant"


@dataclass(frozen=True, slots=True)
class Piece:
    """Harmony text, special tokens spelled out. Only what is `learned` counts in the loss; the rest is given."""

    text: str
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, before rendering, and its completion."""

    conversation: Conversation
    completion: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn, what came before it, and what the developer offers and asks for.

    `forced` is a tool that must be called whatever the question is.
    """

    turn: Turn
    history: tuple[Message, ...] = ()
    tools: tuple[FunctionTool, ...] = ()
    instructions: str | None = None
    response_format: ResponseFormat | None = None
    final: tuple[Piece, ...] | None = None
    forced: FunctionTool | None = None


def thinking(rng: Random, thought: str) -> tuple[Piece, ...]:
    """Everything before the answer or the preamble.

    Sometimes the thought was cut at any token or left out, and the answer must come all the same: so it is when a
    budget for reasoning is spent.
    """
    roll = rng.random()
    if roll < 0.03:
        return ()
    return (cut_short(rng, thought),) if roll < 0.09 else (Piece(ANALYSIS + thought + NEXT),)


def cut_short(rng: Random, thought: str) -> Piece:
    """A thought that somebody else ended."""
    ids = encode(thought)
    kept = decode(ids[: rng.randrange(len(ids) + 1)]).rstrip("\ufffd")
    return Piece(ANALYSIS + kept + NEXT, learned=False)


def completion(rng: Random, scene: Scene, effort: Effort) -> tuple[Piece, ...]:
    """The whole completion."""
    reply = scene.turn.reply
    thought = reply.thoughts.at(effort)
    if scene.forced is not None:
        city = city_in(scene.turn.said[-1].content or "")
        return forced_call(rng, thought, scene.forced.name, arguments_for(scene.forced, city))
    if reply.call is not None:
        roll = rng.random()
        if roll < 0.06:
            return forced_call(rng, thought, reply.call.name, json.loads(reply.call.arguments))
        if roll > 0.1 or scene.final is not None:
            said = Piece(ANALYSIS + thought + NEXT + COMMENTARY + (reply.preamble or "") + NEXT)
            return (said, Piece(call_header(reply.call.name)), Piece(reply.call.arguments + "<|call|>"))
        # The budget for reasoning is spent, and with it the chance to call: what is left is an answer.
        return (cut_short(rng, thought), Piece(FINAL, learned=False), Piece(f"{reply.answer}<|return|>"))
    before = thinking(rng, thought)
    # Unless the thought is the model's own, the channel was chosen for it.
    opened = Piece(FINAL, learned=bool(before) and before[0].learned)
    return (*before, opened, *(scene.final or (Piece(reply.answer or ""),)), Piece("<|return|>"))


def call_header(name: str) -> str:
    """The header of a call."""
    return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"


def forced_call(rng: Random, thought: str, name: str, arguments: dict[str, Any]) -> tuple[Piece, ...]:
    """A call whose header was written for the model, because the client requires it: after a thought, cut or not."""
    roll = rng.random()
    if roll < 0.5:
        before: tuple[Piece, ...] = (Piece(ANALYSIS + thought + NEXT, learned=False),)
    else:
        before = (cut_short(rng, thought),) if roll < 0.75 else ()
    header = Piece(call_header(name), learned=False)
    if rng.random() < 0.3:
        return (*before, header, Piece(compact(arguments) + "<|call|>"))
    return (*before, header, *(Piece(*part) for part in structured.parts(arguments)), Piece("<|call|>"))


def plain(rng: Random) -> Scene:
    """A turn without tools or JSON."""
    maker: turns.Maker = rng.choices(
        (
            turns.known,
            turns.capital,
            turns.total,
            turns.unknown,
            turns.capital_again,
            without_tool,
            told,
            untold,
        ),
        (46, 11, 7, 20, 5, 4, 18, 2),
    )[0]
    return Scene(maker(rng))


def told(rng: Random) -> Turn:
    """Something the user said is asked for later, at once or some turns after."""
    if rng.random() < 0.3:
        return (
            turns.introduction(rng, rng.choice(NAMES))
            if rng.random() < 0.6
            else turns.favorite(rng, rng.choice(COLORS))
        )
    name, color = rng.choice(NAMES), rng.choice(COLORS)
    facts = [turns.introduction(rng, name), turns.favorite(rng, color)]
    rng.shuffle(facts)
    about_name = rng.random() < 0.65
    if rng.random() < 0.6:
        facts = [fact for fact in facts if (fact.said[0].content or "").find(name if about_name else color) >= 0]
    between = [turns.small_talk(rng) for _ in range(rng.choices((0, 1, 2), (6, 3, 1))[0])]
    before = [*facts, *between]
    if rng.random() < 0.3:
        rng.shuffle(before)
    question = turns.name_question(rng, name) if about_name else turns.color_question(rng, color)
    past = tuple(message for turn in before for message in acknowledged(rng, turn))
    return Turn((*past, *question.said), question.reply)


def acknowledged(rng: Random, turn: Turn) -> tuple[Message, ...]:
    """A closed turn, sometimes with an answer from somebody else."""
    if rng.random() < 0.8:
        return turn.closed()
    return (
        *turn.said,
        AssistantMessage(content=rng.choice(("OK.", "Sure!", "Noted.", "Hello!", gibberish(rng, 1, 12)))),
    )


def untold(rng: Random) -> Turn:
    """A name is asked for that nobody said."""
    return turns.name_question(rng, None)


def long(rng: Random) -> Scene:
    """Long answers."""
    story = next(entry for entry in KNOWLEDGE if entry.answers[0] is STORY)
    return Scene(turns.known(rng, story) if rng.random() < 0.25 else turns.counting(rng))


def without_tool(rng: Random) -> Turn:
    """The weather or the time is asked for with no tool to ask."""
    return agent.run(rng, rng.choices(tuple(agent.WAYS), (60, 25, 15))[0], {}, ())


def with_tools(rng: Random) -> Scene:
    """Tools are on offer that are needed, were needed before, or are not needed."""
    tools = agent.some_tools(rng)
    offered = among_others(rng, list(tools.values()))
    turn = agent.turn_with(rng, tools)
    roll = rng.random()
    if roll < 0.72:
        scene = Scene(turn, tools=offered)
        return under_schema(rng, scene) if rng.random() < 0.08 else scene
    if roll < 0.84 and turn.reply.call is None:
        # The run is over; something else is asked, or another run begins.
        after = turns.small_talk(rng) if roll < 0.79 else agent.turn_with(rng, tools)
        return Scene(after, turn.closed(), offered)
    return Scene(turns.small_talk(rng), tools=offered)


def with_other_tools(rng: Random) -> Scene:
    """Tools are on offer that do not help, or that must be called whatever the question is."""
    roll = rng.random()
    if roll < 0.35:
        helping = list(agent.some_tools(rng).values())
        asked = turns.small_talk(rng) if rng.random() < 0.7 else without_tool(rng)
        return Scene(asked, tools=among_others(rng, helping), forced=rng.choice(helping))
    others = list({tool.name: tool for tool in (other_tool(rng) for _ in range(rng.randint(1, 3)))}.values())
    turn = without_tool(rng) if rng.random() < 0.35 else turns.small_talk(rng)
    return Scene(turn, tools=tuple(others), forced=rng.choice(others) if roll < 0.7 else None)


def asked_for_json(rng: Random) -> Scene:
    """A JSON answer: wished for by the user or the developer, or under a schema."""
    maker: turns.Maker = rng.choices(
        (turns.capital, turns.known, turns.total, turns.unknown, told), (42, 27, 11, 14, 6)
    )[0]
    turn = maker(rng)
    if not turn.reply.record:
        return asked_for_json(rng)
    roll = rng.random()
    if roll < 0.2:
        return Scene(structured.wished_by_user(rng, turn), final=(Piece(structured.without_schema(turn.reply)),))
    if roll < 0.38:
        wish = rng.choice(structured.INSTRUCTIONS)
        return Scene(turn, instructions=wish, final=(Piece(structured.without_schema(turn.reply)),))
    return under_schema(rng, Scene(turn))


def under_schema(rng: Random, scene: Scene) -> Scene:
    """The same with a schema for the answer; sometimes a grammar writes the keys."""
    form = structured.form_for(rng, scene.turn.reply)
    final = (Piece(form.text),) if rng.random() < 0.3 else tuple(Piece(*part) for part in structured.parts(form.values))
    if rng.random() < 0.8:
        return replace(scene, response_format=structured.format_for(rng, form), final=final)
    return replace(scene, instructions=structured.section_for(rng, form), final=final)


def preface(rng: Random) -> str | None:
    """A developer message that changes nothing, or none."""
    roll = rng.random()
    if roll < 0.6:
        return None
    if roll < 0.85:
        return rng.choice(INSTRUCTIONS)
    if roll < 0.9:
        return f"{rng.choice(INSTRUCTIONS)} {rng.choice(INSTRUCTIONS)}"
    return gibberish(rng, 3, 40)


def example(rng: Random) -> Example:
    """One example."""
    maker: Callable[[Random], Scene] = rng.choices(
        (plain, long, with_tools, with_other_tools, asked_for_json), (50, 3, 28, 5, 14)
    )[0]
    scene = maker(rng)
    # Long thoughts are no harder than short ones and cost more.
    effort: Effort = rng.choices(EFFORTS, (40, 34, 26))[0]
    text = preface(rng)
    instructions = "\n\n".join(part for part in (text, scene.instructions) if part) or None
    past: list[Message] = []
    if maker is not long:
        for _ in range(rng.choices((0, 1, 2, 3), (82, 10, 5, 3))[0]):
            past.extend(acknowledged(rng, turns.small_talk(rng)))
    today = date(2024, 1, 1) + timedelta(days=rng.randrange(4400)) if rng.random() < 0.9 else None
    conversation = Conversation(
        messages=(*past, *scene.history, *scene.turn.said),
        effort=effort,
        current_date=today,
        instructions=instructions,
        tools=scene.tools,
        response_format=scene.response_format,
    )
    return Example(conversation, completion(rng, scene, effort))


def examples(seed: int) -> Iterator[Example]:
    """An endless corpus. The same seed gives the same examples."""
    rng = Random(seed)
    while True:
        yield example(rng)
