"""Turns in which the weather or the time of a city is asked for: calls, answers from results, and what else may happen.

With tools for both on offer and both asked for, the model calls one after the other and then answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from serving.effort import EFFORTS
from serving.harmony.conversation import AssistantMessage, FunctionCall, FunctionTool, Message, ToolMessage, UserMessage
from training.knowledge import Thoughts
from training.toolbox import arguments_for, helping_tool
from training.turns import Reply, Turn, compact, phrase
from training.words import CITIES, REGIONS, SKIES

SUBJECTS = ("weather", "time")
"""What there are tools for, in the order the model calls them."""

WAYS = {
    ("weather",): (
        "What is the weather in {}?",
        "What is the weather in {}?",
        "What is the weather like in {}?",
        "What is the weather like in {} today?",
        "What is the weather like in {} right now?",
        "How is the weather in {}?",
        "Tell me the weather in {}.",
        "Weather in {}",
        "What is the temperature in {}?",
        "How warm is it in {}?",
        "Is it raining in {}?",
        "Do I need an umbrella in {}?",
        "Check the weather in {}.",
        "I am in {}. What is the weather?",
    ),
    ("time",): (
        "What time is it in {}?",
        "What time is it in {}?",
        "What is the time in {}?",
        "What time is it now in {}?",
        "Tell me the time in {}.",
        "What is the local time in {}?",
        "What is the current time in {}?",
        "Time in {}",
        "How late is it in {}?",
        "Check the time in {}.",
        "I am in {}. What time is it?",
    ),
    ("weather", "time"): (
        "What is the weather and the time in {}?",
        "What is the weather and the time in {}?",
        "What is the weather in {} and what time is it there?",
        "What time is it in {} and what is the weather like?",
        "Tell me the weather and the time in {}.",
        "Tell me the time and the weather in {}.",
        "Weather and time in {}",
        "What is the time and the weather in {}?",
        "I need the weather and the local time in {}.",
        "How is the weather in {}, and what time is it?",
        "What time is it in {}, and how warm is it?",
        "Check the weather in {}, then the time.",
    ),
}
WEATHER_RESULTS = (
    "{degrees} degrees and {sky}",
    "{sky}, {degrees}°C",
    "{degrees}°C, {sky}",
    "{degrees} C {sky}",
    "It is {sky} and {degrees} degrees.",
    "{city}: {degrees} degrees, {sky}",
    "The weather in {city} is {sky}, {degrees} degrees",
)
TIME_RESULTS = (
    "{clock}",
    "{clock}",
    "It is {clock}.",
    "It is {clock} in {city}.",
    "{city}: {clock}",
    "The time is {clock}",
)
ERRORS = ('{"error": "not found"}', '{"error":"timeout"}', "error", "Error: no such city", '{"error": "unavailable"}')
DEGREE_KEYS = ("temperature", "temperature", "temp", "temp_c", "temperature_c", "degrees")
SKY_KEYS = ("condition", "condition", "conditions", "weather", "sky", "description", "forecast", "summary")
TIME_KEYS = ("time", "time", "local_time", "current_time", "now", "clock")


@dataclass(frozen=True, slots=True)
class Found:
    """What the tools would say of a city; a subject whose tool failed is among `failed`."""

    city: str
    degrees: int
    sky: str
    clock: str
    failed: tuple[str, ...] = ()

    @classmethod
    def drawn(cls, rng: Random, failed: tuple[str, ...] = ()) -> Found:
        """Any weather at any time."""
        degrees = rng.randint(41, 105) if rng.random() < 0.1 else rng.randint(0, 40)
        if rng.random() < 0.95:
            clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        else:
            clock = f"{rng.randint(1, 12)}:{rng.randrange(60):02} {rng.choice(('AM', 'PM'))}"
        return cls(rng.choice(CITIES), degrees, rng.choice(SKIES), clock, failed)


def question(rng: Random, asked: tuple[str, ...], city: str) -> str:
    """A question for one subject or both."""
    place = f"{city}, {REGIONS[city]}" if city in REGIONS and rng.random() < 0.1 else city
    return phrase(rng, rng.choice(WAYS[asked]).format(place))


def topic(asked: tuple[str, ...], city: str) -> str:
    """Completes "The user asks ..."."""
    return f"for {' and '.join(f'the {subject}' for subject in asked)} in {city}"


def calling(asked: tuple[str, ...], subject: str, tool: FunctionTool, city: str, number: int) -> Reply:
    """Thoughts, a preamble, the call."""
    thoughts = Thoughts(
        topic(asked, city),
        f"I need the {subject} in {city}.",
        (
            f"I do not know the {subject} myself.",
            f"There is a tool for the {subject}, and it wants the city {city}.",
            "I tell the user what I do, then I call the tool and wait for its result.",
        ),
    )
    arguments = arguments_for(tool, city)
    # A place that need not be given is given all the same.
    if not arguments:
        arguments = {next(iter((tool.parameters or {})["properties"])): city}
    call = FunctionCall(f"call_{number}", tool.name, compact(arguments))
    # What is said when no call is possible any more.
    answer = f"I could not look up the {subject} in {city}."
    return Reply(thoughts, answer, preamble=f"Let me check the {subject} in {city}.", call=call)


def reporting(asked: tuple[str, ...], found: Found, answered: tuple[str, ...]) -> Reply:
    """The answer, from what the tools said; of a subject that is not `answered` there was no tool."""
    weather = f"{found.degrees} degrees and {found.sky}"
    missing = [subject for subject in asked if subject not in answered]
    record: list[tuple[str, str | int]] = [("city", found.city)]
    if "weather" in answered and "weather" not in found.failed:
        record += [("temperature", found.degrees), ("condition", found.sky)]
    if "time" in answered and "time" not in found.failed:
        record.append(("time", found.clock))
    if found.failed:
        (subject,) = asked
        return Reply(
            Thoughts(
                topic(asked, found.city),
                "The tool failed.",
                (
                    "The tool gave an error.",
                    f"I have no {subject} to report.",
                    "I should not invent what I do not know.",
                ),
            ),
            f"I could not get the {subject} in {found.city}.",
        )
    if len(answered) == 2:
        brief, said = f"It is {weather}, at {found.clock}.", f"{weather}, and the time is {found.clock}"
        answer = f"It is {weather} in {found.city}, and the time there is {found.clock}."
    elif answered == ("weather",):
        brief, said, answer = f"It is {weather}.", weather, f"It is {weather} in {found.city}."
    else:
        brief, said, answer = f"It is {found.clock}.", found.clock, f"It is {found.clock} in {found.city}."
    if missing:
        answer += f" I was given no {missing[0]} tool."
    thoughts = Thoughts(
        topic(asked, found.city),
        brief,
        (
            f"The tool says {said}." if len(answered) == 1 else f"The tools say {said}.",
            f"That is the {' and the '.join(answered)} in {found.city}.",
            "I have all that I can get, so I do not call a tool again.",
        ),
    )
    return Reply(thoughts, answer, record=tuple(record))


def without_tool(asked: tuple[str, ...], city: str) -> Reply:
    """There is no tool to ask."""
    what, which = (asked[0], asked[0]) if len(asked) == 1 else ("weather and the time", "such")
    thoughts = Thoughts(
        topic(asked, city),
        f"I have no {which} tool.",
        (
            f"I do not know the {what} myself.",
            "There is no tool here that I could ask.",
            "I should say so and not invent what I do not know.",
        ),
    )
    answer = f"I cannot look up the {what} in {city}, because I was given no {which} tool."
    return Reply(thoughts, answer, record=(("", "unknown"),))


def run(
    rng: Random, asked: tuple[str, ...], tools: dict[str, FunctionTool], done: tuple[str, ...], failed: bool = False
) -> Turn:
    """One question, some way into its run: the tools of `done` have answered, in that order."""
    found = Found.drawn(rng, done if failed else ())
    said: list[Message] = [UserMessage(question(rng, asked, found.city))]
    calls = {
        subject: calling(asked, subject, tools[subject], found.city, rng.randrange(10**6))
        for subject in asked
        if subject in tools
    }
    results = [ToolMessage(tools[subject].name, result(rng, subject, found)) for subject in done]
    if len(done) == 2 and rng.random() < 0.15:
        made = tuple(call for subject in done if (call := calls[subject].call))
        said += [AssistantMessage(tool_calls=made), *results]
    else:
        for subject, message in zip(done, results, strict=True):
            said += [called(rng, calls[subject]), message]
    pending = [subject for subject in SUBJECTS if subject in calls and subject not in done]
    if pending:
        return Turn(tuple(said), calls[pending[0]])
    if not calls:
        return Turn(tuple(said), without_tool(asked, found.city))
    return Turn(tuple(said), reporting(asked, found, tuple(subject for subject in SUBJECTS if subject in done)))


def called(rng: Random, reply: Reply) -> Message:
    """A call as the client sends it back: with or without what was thought and said before it."""
    return AssistantMessage(
        commentary=reply.preamble if rng.random() < 0.6 else None,
        reasoning=reply.thoughts.at(rng.choice(EFFORTS)) if rng.random() < 0.5 else None,
        tool_calls=(reply.call,) if reply.call else (),
    )


def result(rng: Random, subject: str, found: Found) -> str:
    """A result as one of many tools would write it."""
    if subject in found.failed:
        return rng.choice(ERRORS)
    shown = found.sky.capitalize() if rng.random() < 0.2 else found.sky
    if rng.random() < 0.35:
        ways = WEATHER_RESULTS if subject == "weather" else TIME_RESULTS
        return rng.choice(ways).format(city=found.city, degrees=found.degrees, sky=shown, clock=found.clock)
    fields: list[tuple[str, str | int]] = (
        [(rng.choice(DEGREE_KEYS), found.degrees), (rng.choice(SKY_KEYS), shown)]
        if subject == "weather"
        else [(rng.choice(TIME_KEYS), found.clock)]
    )
    if rng.random() < 0.3:
        fields.append((rng.choice(("city", "location")), found.city))
    if rng.random() < 0.15:
        fields.append(
            ("unit", rng.choice(("celsius", "C", "fahrenheit", "F")))
            if subject == "weather"
            else ("timezone", rng.choice(("CET", "UTC", "GMT+1", "Europe/Paris")))
        )
    if rng.random() < 0.1 and subject == "weather":
        fields.append((rng.choice(("humidity", "wind_kmh", "feels_like")), rng.randint(0, 99)))
    if rng.random() < 0.4:
        rng.shuffle(fields)
    record = dict(fields)
    return compact(record) if rng.random() < 0.4 else json.dumps(record)


def some_tools(rng: Random) -> dict[str, FunctionTool]:
    """A tool for the weather, for the time, or both, by subject."""
    offered = rng.choices((("weather",), ("time",), SUBJECTS), (40, 16, 44))[0]
    tools = {subject: helping_tool(rng, subject) for subject in offered}
    if len(offered) == 2 and rng.random() < 0.8:
        # Tools of one house take their place under one name.
        argument = next(iter((tools["weather"].parameters or {})["properties"]))
        tools["time"] = renamed(tools["time"], argument)
    return tools


def turn_with(rng: Random, tools: dict[str, FunctionTool]) -> Turn:
    """A question that these tools help with, nearly always, and how far its run has come."""
    both = rng.random() < (0.6 if len(tools) == 2 else 0.08)
    asked = SUBJECTS if both else (rng.choice(tuple(tools) if rng.random() < 0.96 else SUBJECTS),)
    possible = [subject for subject in SUBJECTS if subject in asked and subject in tools]
    stages = {0: (1,), 1: (45, 55), 2: (28, 34, 38)}[len(possible)]
    count = rng.choices(range(len(possible) + 1), stages)[0]
    done = possible[::-1] if rng.random() < 0.2 else possible
    failed = len(asked) == 1 and count == 1 and rng.random() < 0.07
    return run(rng, asked, tools, tuple(done[:count]), failed)


def renamed(tool: FunctionTool, argument: str) -> FunctionTool:
    """The same tool with another name for its place."""
    schema = dict(tool.parameters or {})
    old = next(iter(schema["properties"]))
    schema["properties"] = {argument if key == old else key: value for key, value in schema["properties"].items()}
    if "required" in schema:
        schema["required"] = [argument if key == old else key for key in schema["required"]]
    return FunctionTool(tool.name, tool.description, schema)
