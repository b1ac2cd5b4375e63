"""Function tools as many clients would describe them, and what the demo model calls them with."""

from __future__ import annotations

from random import Random
from typing import Any

from serving.harmony.conversation import FunctionTool
from training.words import CITIES, FILLER

PLACE_ARGUMENTS = ("city", "city", "city", "location", "location")
PLACE_DESCRIPTIONS = (
    "The city",
    "City name",
    "City name, e.g. Paris",
    "Name of the city.",
    "The name of the city to look up.",
    "The city and state, e.g. San Francisco, CA",
    "City and country e.g. Bogotá, Colombia",
    "Where to look",
)
TOOL_NAMES = {
    "weather": (*("get_weather",) * 7, *("get_current_weather",) * 2, "current_weather"),
    "time": (*("get_time",) * 6, *("get_local_time",) * 2, "get_current_time", "local_time"),
}
"""Names of the tools that help, by what they are asked for."""

TOOL_DESCRIPTIONS = {
    "weather": (
        "Get the weather",
        "Get the current weather in a given location",
        "Get the weather for a city.",
        "Get current temperature for a given location.",
        "Gets the weather in the given city",
        "Weather for a city.",
        "Current weather of a city",
        "Returns the weather of a place.",
        "Look up the present weather.",
    ),
    "time": (
        "Get the time",
        "Get the current time in a given location",
        "Get the local time for a city.",
        "Gets the time in the given city",
        "The time in a city.",
        "Current time of a city",
        "Returns the local time of a place.",
        "Look up what time it is now.",
    ),
}
OTHER_NAMES = (
    "search", "web_search", "send_email", "calculator", "now", "book_flight", "get_stock_price", "translate",
    "create_ticket", "run_query", "read_file", "list_files", "get_user", "set_alarm", "play_music", "convert_currency",
    "get_order", "remember", "open_door", "lookup", "submit", "final_answer", "handoff", "update_record",
)  # fmt: skip
OTHER_DESCRIPTIONS = (
    "",
    "Search the web",
    "Sends an email.",
    "Evaluates an expression.",
    "Creates a ticket for the support team.",
    "Returns the price of a stock.",
    "Books a flight.",
    "Call this when you are done.",
    "Reads a file.",
)
OTHER_ARGUMENTS = (
    "query", "to", "body", "expression", "subject", "text", "name", "id", "path", "price", "amount", "currency",
    "count", "limit", "date", "title", "message", "user", "language", "symbol", "city", "location", "url", "number",
    "priority", "urgent", "enabled", "items", "tags", "email", "code", "reason", "value", "note",
)  # fmt: skip
CHOICES = (("celsius", "fahrenheit"), ("c", "f"), ("low", "high"), ("low", "medium", "high"), ("red", "green"))

Properties = dict[str, dict[str, Any]]


def helping_tool(rng: Random, subject: str) -> FunctionTool:
    """A tool for the weather or the time of a place, as one of many clients would describe it."""
    place: dict[str, Any] = {"type": "string"}
    if rng.random() < 0.5:
        place["description"] = rng.choice(PLACE_DESCRIPTIONS)
    argument = rng.choice(PLACE_ARGUMENTS)
    properties: Properties = {argument: place}
    required = [argument]
    if rng.random() < 0.25:
        name, values = ("unit", rng.choice(CHOICES[:2])) if subject == "weather" else ("format", ("12h", "24h"))
        properties[name] = {"type": "string", "enum": list(values)}
        if rng.random() < 0.3:
            required.append(name)
    description = "" if rng.random() < 0.25 else rng.choice(TOOL_DESCRIPTIONS[subject])
    return FunctionTool(rng.choice(TOOL_NAMES[subject]), description, parameters(rng, properties, required))


def other_tool(rng: Random) -> FunctionTool:
    """A tool that helps with nothing the model knows."""
    properties: Properties = {}
    for name in rng.sample(OTHER_ARGUMENTS, rng.choices((0, 1, 2, 3), (10, 45, 30, 15))[0]):
        kind = rng.choices(("string", "integer", "number", "boolean", "array"), (70, 10, 5, 8, 7))[0]
        properties[name] = {"type": kind} | ({"items": {"type": "string"}} if kind == "array" else {})
        if kind == "string" and rng.random() < 0.12:
            properties[name]["enum"] = list(rng.choice(CHOICES))
        if rng.random() < 0.2:
            properties[name]["description"] = " ".join(rng.sample(FILLER[:48], rng.randint(1, 4)))
    required = [name for name in properties if rng.random() < 0.75]
    written = parameters(rng, properties, required) if properties or rng.random() < 0.5 else None
    return FunctionTool(rng.choice(OTHER_NAMES), rng.choice(OTHER_DESCRIPTIONS), written)


def parameters(rng: Random, properties: Properties, required: list[str]) -> dict[str, Any]:
    """The JSON schema of an object."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if rng.random() < 0.4:
        schema["additionalProperties"] = False
    return schema


def among_others(rng: Random, tools: list[FunctionTool]) -> tuple[FunctionTool, ...]:
    """These tools, sometimes with others that do not help, in any order; no name twice."""
    others = [other_tool(rng) for _ in range(rng.choices((0, 1, 2), (75, 18, 7))[0])]
    everything = list({tool.name: tool for tool in (*others, *tools)}.values())
    rng.shuffle(everything)
    return tuple(everything)


def arguments_for(tool: FunctionTool, city: str | None) -> dict[str, Any]:
    """What the model calls a tool with: all that is required, the city where a place is asked for.

    What the model cannot know is "unknown", 0, false or empty; of several choices it takes the first.
    """
    schema = tool.parameters or {}
    required = schema.get("required", [])
    return {name: _value(name, shape, city) for name, shape in schema.get("properties", {}).items() if name in required}


def _value(name: str, shape: dict[str, Any], city: str | None) -> Any:
    if "enum" in shape:
        return shape["enum"][0]
    if shape["type"] == "string":
        return city if city and name in PLACE_ARGUMENTS else "unknown"
    return {"integer": 0, "number": 0, "boolean": False, "array": []}[shape["type"]]


def city_in(text: str) -> str | None:
    """The city a text names, if any."""
    return next((city for city in CITIES if city in text), None)
