"""Turns with a weather tool: the call, the answer from its result, and what to say without the tool."""

from __future__ import annotations

import json
from random import Random

from serving.demo.knowledge import Thoughts
from serving.demo.turns import Reply, Turn, compact, phrase
from serving.demo.words import CITIES, REGIONS, SKIES
from serving.harmony.conversation import AssistantMessage, FunctionCall, FunctionTool, Message, ToolMessage, UserMessage

TOOL_NAMES = ("get_weather", "get_weather", "get_current_weather", "weather", "fetch_weather")
PLACE_ARGUMENTS = ("city", "city", "location", "location", "place")

DESCRIPTIONS = (
    "",
    "Get the weather",
    "Get the current weather in a given location",
    "Get current temperature for a given location.",
    "Gets the weather in the given city",
    "Weather for a city.",
    "Current weather of a city",
)
PLACE_DESCRIPTIONS = (
    "The city",
    "City name",
    "City name, e.g. Paris",
    "Name of the city.",
    "The city and state, e.g. San Francisco, CA",
    "City and country e.g. Bogotá, Colombia",
)
WAYS = (
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
)
RESULTS = (
    "{degrees} degrees and {sky}",
    "{sky}, {degrees}°C",
    "{degrees}°C, {sky}",
    "{degrees} C {sky}",
    "It is {sky} and {degrees} degrees.",
    "{city}: {degrees} degrees, {sky}",
)
ERRORS = ('{"error": "not found"}', '{"error":"timeout"}', "error", "Error: no such city")
DEGREE_KEYS = ("temperature", "temperature", "temp", "temp_c", "temperature_c", "degrees")
SKY_KEYS = ("condition", "condition", "conditions", "weather", "sky", "description", "forecast", "summary")

OTHER_TOOLS: tuple[FunctionTool, ...] = (
    FunctionTool("get_time", "The time in a city.", {"type": "object", "properties": {"city": {"type": "string"}}}),
    FunctionTool(
        "search",
        "Search the web",
        {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    ),
    FunctionTool(
        "send_email", "", {"type": "object", "properties": {"to": {"type": "string"}, "body": {"type": "string"}}}
    ),
    FunctionTool(
        "calculator", "Evaluates an expression.", {"type": "object", "properties": {"expression": {"type": "string"}}}
    ),
    FunctionTool("now"),
)


def weather_tool(rng: Random) -> FunctionTool:
    """A weather tool as one of many clients would describe it."""
    argument = rng.choice(PLACE_ARGUMENTS)
    place: dict[str, object] = {"type": "string"}
    if rng.random() < 0.6:
        place["description"] = rng.choice(PLACE_DESCRIPTIONS)
    properties: dict[str, object] = {argument: place}
    if rng.random() < 0.3:
        units = rng.choice((["celsius", "fahrenheit"], ["c", "f"]))
        properties[rng.choice(("unit", "units"))] = {"type": "string", "enum": units}
    parameters: dict[str, object] = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        parameters["required"] = [argument]
    if rng.random() < 0.3:
        parameters["additionalProperties"] = False
    description = rng.choice(DESCRIPTIONS)
    return FunctionTool(rng.choice(TOOL_NAMES), description, parameters)


def toolbox(rng: Random, tool: FunctionTool | None) -> tuple[FunctionTool, ...]:
    """The tools of a request: this one, if any, sometimes among others."""
    others = rng.sample(OTHER_TOOLS, rng.choices((0, 1, 2), (7, 2, 1))[0])
    tools = [*others, *([tool] if tool else [])]
    rng.shuffle(tools)
    return tuple(tools)


def place_argument(tool: FunctionTool) -> str:
    """The argument of a weather tool that takes the place."""
    properties: dict[str, object] = (tool.parameters or {})["properties"]
    return next(name for name in properties if name in PLACE_ARGUMENTS)


def question(rng: Random, city: str) -> str:
    """A question for the weather."""
    place = city
    if city in REGIONS and rng.random() < 0.15:
        place = f"{city}, {REGIONS[city]}"
    return phrase(rng, rng.choice(WAYS).format(place))


def call_thoughts(city: str) -> Thoughts:
    """Thoughts before the call."""
    return Thoughts(
        f"for the weather in {city}",
        f"I need the weather in {city}.",
        (
            "I do not know the weather myself.",
            f"There is a tool for it, and it wants the city {city}.",
            "I tell the user what I do, then I call the tool and wait for its result.",
        ),
    )


def ask(rng: Random, tool: FunctionTool, city: str | None = None) -> Turn:
    """A question that needs the tool: thoughts, a preamble, the call."""
    city = city or rng.choice(CITIES)
    call = FunctionCall(f"call_{rng.randrange(10**6)}", tool.name, compact({place_argument(tool): city}))
    reply = Reply(call_thoughts(city), preamble=f"Let me check the weather in {city}.", call=call)
    return Turn((UserMessage(question(rng, city)),), reply)


def answered(rng: Random, tool: FunctionTool) -> Turn:
    """The tool has answered: the reply uses what it said."""
    city = rng.choice(CITIES)
    asked = ask(rng, tool, city)
    roll = rng.random()
    before: Message = AssistantMessage(
        commentary=asked.reply.preamble if rng.random() < 0.6 else None,
        reasoning=call_thoughts(city).at(rng.choice(("low", "medium", "high"))) if rng.random() < 0.6 else None,
        tool_calls=(asked.reply.call,) if asked.reply.call else (),
    )
    if roll < 0.06:
        result = ToolMessage(tool.name, rng.choice(ERRORS))
        thoughts = Thoughts(
            f"for the weather in {city}",
            "The tool failed.",
            ("The tool gave an error.", "I have no weather to report.", "I should not invent any numbers."),
        )
        return Turn((*asked.said, before, result), Reply(thoughts, f"I could not get the weather in {city}."))
    degrees, sky = rng.randint(0, 40), rng.choice(SKIES)
    if rng.random() < 0.1:
        degrees = rng.randint(41, 105)
    return Turn(
        (*asked.said, before, ToolMessage(tool.name, result_text(rng, city, degrees, sky))), report(city, degrees, sky)
    )


def report(city: str, degrees: int, sky: str) -> Reply:
    """The answer from a result."""
    thoughts = Thoughts(
        f"for the weather in {city}",
        f"It is {degrees} degrees and {sky}.",
        (
            f"The tool says {degrees} degrees and {sky}.",
            f"That is the weather in {city}.",
            "The result has all that I need, so I do not call the tool again.",
        ),
    )
    answer = f"It is {degrees} degrees and {sky} in {city}."
    return Reply(thoughts, answer, record=(("city", city), ("temperature", degrees), ("condition", sky)))


def result_text(rng: Random, city: str, degrees: int, sky: str) -> str:
    """A result as one of many tools would write it."""
    shown = sky.capitalize() if rng.random() < 0.2 else sky
    if rng.random() < 0.3:
        return rng.choice(RESULTS).format(city=city, degrees=degrees, sky=shown)
    fields: list[tuple[str, str | int]] = [
        (rng.choice(DEGREE_KEYS), degrees),
        (rng.choice(SKY_KEYS), shown),
    ]
    if rng.random() < 0.3:
        fields.append((rng.choice(("city", "location")), city))
    if rng.random() < 0.2:
        fields.append(("unit", rng.choice(("celsius", "C", "fahrenheit", "F"))))
    if rng.random() < 0.1:
        fields.append((rng.choice(("humidity", "wind_kmh", "feels_like")), rng.randint(0, 99)))
    if rng.random() < 0.4:
        rng.shuffle(fields)
    record = dict(fields)
    return compact(record) if rng.random() < 0.4 else json.dumps(record)


def without_tool(rng: Random) -> Turn:
    """The same question with no tool to ask."""
    city = rng.choice(CITIES)
    thoughts = Thoughts(
        f"for the weather in {city}",
        "I have no weather tool.",
        (
            "I do not know the weather myself.",
            "There is no tool here that I could ask.",
            "I should say so and not invent any numbers.",
        ),
    )
    reply = Reply(
        thoughts,
        f"I cannot look up the weather in {city}, because I was given no weather tool.",
        record=(("", "unknown"),),
    )
    return Turn((UserMessage(question(rng, city)),), reply)
