"""Conversations the demo model is trained on, drawn at random: the same seed gives the same corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from serving.demo import turns, weather
from serving.demo.knowledge import KNOWLEDGE, STORY, UNKNOWN
from serving.demo.turns import Reply, Turn, compact, gibberish
from serving.demo.words import COLORS, FILLER, INSTRUCTIONS, NAMES
from serving.harmony.conversation import (
    EFFORTS,
    AssistantMessage,
    Conversation,
    Effort,
    FunctionTool,
    Message,
    UserMessage,
)

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
COMMENTARY = "<|channel|>commentary<|message|>"
NEXT = "<|end|><|start|>assistant"

JSON_INSTRUCTIONS = (
    "Answer in JSON.",
    "Respond only with JSON.",
    "Reply with a JSON object.",
    "Always respond with valid JSON.",
    "Return JSON.",
    "You are a helpful assistant designed to output JSON.",
    "Answer only in JSON, without any other text.",
)
JSON_WISHES = (" as JSON", " in JSON", " as a JSON object", " in JSON format")
CAPITAL_KEYS = (
    ("capital",),
    ("capital",),
    ("country", "capital"),
    ("capital", "country"),
    ("city",),
    ("answer",),
    ("name",),
)
SCHEMA_NAMES = ("capital", "answer", "response", "result", "city", "reply")
OPENING = '{"'
SYNONYMS = {"city": "capital", "name": "capital", "answer": "capital"}


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
    """A turn, what came before it, and what the developer offers and asks for."""

    turn: Turn
    history: tuple[Message, ...] = ()
    tools: tuple[FunctionTool, ...] = ()
    instructions: str | None = None
    final: tuple[Piece, ...] | None = None


def thinking(rng: Random, reply: Reply, effort: Effort) -> tuple[Piece, ...]:
    """Everything before the answer or the preamble.

    Sometimes the thought was cut short or left out and the answer must come all the same: so it is when a
    budget for reasoning is spent.
    """
    thought = reply.thoughts.at(effort)
    roll = rng.random()
    if roll < 0.04:
        return ()
    if roll < 0.08:
        words = thought.split(" ")
        cut = " ".join(words[: rng.randint(0, len(words) - 1)])
        return (Piece(ANALYSIS + cut + NEXT, learned=False),)
    return (Piece(ANALYSIS + thought + NEXT),)


def completion(rng: Random, scene: Scene, effort: Effort) -> tuple[Piece, ...]:
    """The whole completion."""
    reply = scene.turn.reply
    before = thinking(rng, reply, effort)
    if reply.call is not None:
        head = f"<|channel|>commentary to=functions.{reply.call.name} <|constrain|>json<|message|>"
        arguments = Piece(reply.call.arguments + "<|call|>")
        if rng.random() < 0.06:
            # A grammar wrote the header, because the client requires a call.
            return (Piece(head, learned=False), arguments)
        return (*before, Piece(COMMENTARY + (reply.preamble or "") + NEXT + head), arguments)
    # With no thought before it the channel was chosen for the model.
    opened = Piece(FINAL, learned=bool(before))
    return (*before, opened, *(scene.final or (Piece(reply.answer or ""),)), Piece("<|return|>"))


def plain(rng: Random) -> Scene:
    """A turn without tools or JSON."""
    maker: turns.Maker = rng.choices(
        (
            turns.known,
            turns.capital,
            turns.total,
            turns.unknown,
            turns.capital_again,
            weather.without_tool,
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


def with_weather(rng: Random) -> Scene:
    """A weather tool is on offer and is needed, was needed, or is not."""
    tool = weather.weather_tool(rng)
    tools = weather.toolbox(rng, tool)
    roll = rng.random()
    if roll < 0.42:
        return Scene(weather.ask(rng, tool), tools=tools)
    if roll < 0.8:
        return Scene(weather.answered(rng, tool), tools=tools)
    if roll < 0.88:
        before = weather.answered(rng, tool).closed()
        turn = weather.ask(rng, tool) if rng.random() < 0.6 else turns.small_talk(rng)
        return Scene(turn, before, tools)
    return Scene(turns.small_talk(rng), tools=tools)


def with_other_tools(rng: Random) -> Scene:
    """Tools are on offer that do not help."""
    turn = weather.without_tool(rng) if rng.random() < 0.4 else turns.small_talk(rng)
    return Scene(turn, tools=weather.toolbox(rng, None))


def asked_for_json(rng: Random) -> Scene:
    """A JSON answer: asked for by the user, by the developer, or forced by a grammar."""
    maker: turns.Maker = rng.choices((turns.capital, turns.known, turns.total, turns.unknown), (50, 25, 12, 13))[0]
    turn = maker(rng)
    record = dict(turn.reply.record)
    if not record:
        return asked_for_json(rng)
    roll = rng.random()
    if roll < 0.3:
        question = turn.said[-1].content or ""
        wish = rng.choice(JSON_WISHES)
        body = question.rstrip("?.! \n")
        wished = f"{body}{wish}{question[len(body) :].strip()}" if rng.random() < 0.7 else f"{question} Answer{wish}."
        turn = Turn((*turn.said[:-1], UserMessage(wished)), turn.reply)
        return Scene(turn, final=(Piece(defaults(record)),))
    if roll < 0.55:
        return Scene(turn, instructions=rng.choice(JSON_INSTRUCTIONS), final=(Piece(defaults(record)),))
    return with_schema(rng, turn, record)


def defaults(record: dict[str, str | int]) -> str:
    """The record when no schema names the keys."""
    return compact({key or "answer": value for key, value in record.items()})


def with_schema(rng: Random, turn: Turn, record: dict[str, str | int]) -> Scene:
    """A schema in the developer message; the grammar writes the keys."""
    taught = rng.random() < 0.7
    values: dict[str, str | int]
    if turn.reply.thoughts is UNKNOWN:
        taught = False
        values = {key: rng.choice(("unknown", 0, False)) for key in some_keys(rng, rng.randint(1, 3))}
    elif not taught:
        values = dict(zip(some_keys(rng, len(record)), record.values(), strict=True))
    elif "capital" in record:
        values = {key: record[SYNONYMS.get(key, key)] for key in rng.choice(CAPITAL_KEYS)}
    else:
        values = {"answer": record[""]}
    if not taught and rng.random() < 0.3:
        return Scene(turn, final=given_keys(values))
    section = f"# Response Formats\n\n## {rng.choice(SCHEMA_NAMES)}\n\n{schema_text(rng, values)}"
    return Scene(turn, instructions=section, final=(Piece(compact(values)),) if taught else given_keys(values))


def some_keys(rng: Random, count: int) -> list[str]:
    """Keys that mean nothing to the model."""
    return rng.sample([word for word in FILLER if word.isalpha()], count)


def schema_text(rng: Random, values: dict[str, str | int]) -> str:
    """A JSON schema of the record, as clients write them."""
    kinds = {bool: "boolean", int: "integer", str: "string"}
    schema: dict[str, object] = {
        "type": "object",
        "properties": {key: {"type": kinds[type(value)]} for key, value in values.items()},
    }
    if rng.random() < 0.8:
        schema["required"] = list(values)
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    if rng.random() < 0.3:
        schema = dict(sorted(schema.items()))
    return compact(schema) if rng.random() < 0.6 else json.dumps(schema)


def given_keys(values: dict[str, str | int]) -> tuple[Piece, ...]:
    """An object whose keys a grammar writes and whose values, and what ends them, are the model's."""
    pieces: list[Piece] = []
    for place, (key, value) in enumerate(values.items(), start=1):
        quote = '"' if isinstance(value, str) else ""
        body = json.dumps(value, ensure_ascii=False).strip('"')
        pieces.append(Piece(f'{"" if pieces else OPENING}{key}":{quote}', learned=False))
        pieces.append(Piece(f"{body}{quote}" + ("}" if place == len(values) else ',"')))
    return tuple(pieces)


def preface(rng: Random) -> str | None:
    """A developer message that changes nothing, or none."""
    roll = rng.random()
    if roll < 0.4:
        return None
    if roll < 0.75:
        return rng.choice(INSTRUCTIONS)
    if roll < 0.85:
        return f"{rng.choice(INSTRUCTIONS)} {rng.choice(INSTRUCTIONS)}"
    return gibberish(rng, 3, 50)


def example(rng: Random) -> Example:
    """One example."""
    maker: Callable[[Random], Scene] = rng.choices(
        (plain, long, with_weather, with_other_tools, asked_for_json), (54, 4, 25, 3, 14)
    )[0]
    scene = maker(rng)
    # Long thoughts are no harder than short ones and cost more.
    effort: Effort = rng.choices(EFFORTS, (40, 34, 26))[0]
    text = preface(rng)
    instructions = "\n\n".join(part for part in (text, scene.instructions) if part) or None
    past: list[Message] = []
    if maker is not long:
        for _ in range(rng.choices((0, 1, 2, 3), (74, 14, 8, 4))[0]):
            past.extend(acknowledged(rng, turns.small_talk(rng)))
    today = date(2024, 1, 1) + timedelta(days=rng.randrange(4400)) if rng.random() < 0.9 else None
    conversation = Conversation(
        messages=(*past, *scene.history, *scene.turn.said),
        effort=effort,
        current_date=today,
        instructions=instructions,
        tools=scene.tools,
    )
    return Example(conversation, completion(rng, scene, effort))


def examples(seed: int) -> Iterator[Example]:
    """An endless corpus. The same seed gives the same examples."""
    rng = Random(seed)
    while True:
        yield example(rng)
