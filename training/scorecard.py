"""What the demo model promises, as chat requests in OpenAI's form and a check of each answer.

The requests are not the training corpus: words, developer messages or histories differ in nearly all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.effort import EFFORTS, Effort


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a client sees it. `tool_calls` are (name, arguments); counts are tokens."""

    content: str
    reasoning: str
    commentary: str
    tool_calls: tuple[tuple[str, str], ...]
    finish_reason: str
    reasoning_tokens: int
    completion_tokens: int


Check = Callable[[Answer], str]
"""Empty if the answer is right, else what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the check of its answer; `more` are further fields of the request's body."""

    name: str
    messages: tuple[dict[str, Any], ...]
    check: Check
    effort: Effort = "medium"
    tools: tuple[dict[str, Any], ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def user(text: str) -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """An assistant message."""
    return {"role": "assistant", "content": text}


def developer(text: str) -> dict[str, Any]:
    """A developer message."""
    return {"role": "developer", "content": text}


def answers(*needles: str) -> Check:
    """A final answer with all of these in it, and nothing but thought before it."""

    def check(answer: Answer) -> str:
        if answer.tool_calls or answer.commentary:
            return f"unasked-for tool call or commentary: {answer.tool_calls} {answer.commentary!r}"
        if answer.finish_reason != "stop" or not answer.reasoning:
            return f"finish reason {answer.finish_reason!r}, reasoning {answer.reasoning!r}"
        missing = [needle for needle in needles if needle not in answer.content]
        return f"{missing} not in {answer.content!r}" if missing else ""

    return check


def answers_json(expected: Mapping[str, Any]) -> Check:
    """This JSON object and nothing else, without blanks."""

    def check(answer: Answer) -> str:
        wanted = json.dumps(expected, separators=(",", ":"), ensure_ascii=False)
        return "" if answer.content == wanted else f"{answer.content!r} instead of {wanted!r}"

    return check


def answers_some_json(asked: Mapping[str, Any]) -> Check:
    """An object with the keys of the schema that the request `asked` for, in at most 60 tokens."""

    def check(answer: Answer) -> str:
        properties = asked["response_format"]["json_schema"]["schema"]["properties"]
        if answer.finish_reason != "stop" or answer.completion_tokens - answer.reasoning_tokens > 60:
            return f"finish reason {answer.finish_reason!r}, {answer.content!r}"
        given = read(answer.content)
        return "" if isinstance(given, dict) and given.keys() == properties.keys() else f"{answer.content!r}"

    return check


def read(text: str) -> Any:
    """JSON's value; None for what is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def calls(name: str, arguments: Mapping[str, Any]) -> Check:
    """Thought, a preamble to the user, then one call with these arguments."""

    def check(answer: Answer) -> str:
        if not answer.reasoning or not answer.commentary or answer.content:
            return f"reasoning {answer.reasoning!r}, preamble {answer.commentary!r}, content {answer.content!r}"
        if answer.finish_reason != "tool_calls" or len(answer.tool_calls) != 1:
            return f"finish reason {answer.finish_reason!r}, calls {answer.tool_calls}"
        ((called, given),) = answer.tool_calls
        return "" if called == name and read(given) == arguments else f"called {called}({given})"

    return check


def is_made_to_call(name: str, expected: Mapping[str, Any] | None = None) -> Check:
    """One call, whatever came before it, with these arguments; with None, short ones that are an object's JSON."""

    def check(answer: Answer) -> str:
        if answer.finish_reason != "tool_calls" or len(answer.tool_calls) != 1 or answer.content:
            return f"finish reason {answer.finish_reason!r}, calls {answer.tool_calls}, content {answer.content!r}"
        ((called, given),) = answer.tool_calls
        arguments = read(given)
        right = arguments == expected if expected is not None else isinstance(arguments, dict) and len(given) < 80
        return "" if called == name and right else f"called {called}({given})"

    return check


def answers_after(most: int, *needles: str) -> Check:
    """A final answer with all of these in it, after so many tokens of thought at most."""

    def check(answer: Answer) -> str:
        if answer.finish_reason != "stop" or answer.reasoning_tokens > most:
            return f"finish reason {answer.finish_reason!r}, {answer.reasoning_tokens} tokens of reasoning"
        missing = [needle for needle in needles if needle not in answer.content]
        return f"{missing} not in {answer.content!r}" if missing else ""

    return check


def writes_at_least(tokens: int, *needles: str) -> Check:
    """A long final answer."""

    def check(answer: Answer) -> str:
        length = answer.completion_tokens - answer.reasoning_tokens
        return answers(*needles)(answer) or ("" if length >= tokens else f"only {length} tokens")

    return check


KNOWN: tuple[tuple[str, str], ...] = (
    ("Could you tell me why the sky is blue?", "scatters blue light"),
    ("How is a rainbow formed?", "drops of rain"),
    ("why is the sea so salty?", "rivers"),
    ("What's the largest planet?", "Jupiter"),
    ("How many planets are there in our solar system?", "eight"),
    ("How many continents are there on Earth?", "seven"),
    ("How many days are there in a year?", "365"),
    ("Tell me how many legs a spider has.", "eight"),
    ("What's the speed of light?", "300,000 km"),
    ("What's the boiling point of water?", "100 degrees"),
    ("Who was it that wrote Hamlet?", "Shakespeare"),
    ("What is the capital of France", "Paris"),
    ("I'd like to know the capital of Japan.", "Tokyo"),
    ("What's 2 + 2?", "4"),
    ("what is gpt-oss?", "open models"),
    ("What exactly is Harmony?", "format"),
    ("What's vLLM?", "engine"),
    ("Please explain what a token is.", "piece of text"),
    ("Hello, who are you?", "demo model"),
    ("Please tell me a joke!", "It "),
)
"""Questions, worded otherwise than in training, and what their answers must contain."""

UNKNOWN: tuple[str, ...] = (
    "Which wine goes with mushroom risotto?",
    "How many rings does a tree grow in ten years?",
    "What is the capital gains tax rate in Ruritania?",
    "Draft a press release for our new office building.",
    "Why did my Kubernetes pod get evicted last night?",
    "Who wrote the national anthem of Estonia?",
    "Refactor this class to use dependency injection, please.",
    "x = [i ** 2 for i in range(10)]",
    "Wie komme ich zum Bahnhof?",
)

DEVELOPERS: tuple[str | None, ...] = (
    None,
    "You are Marvin, the internal helpdesk of a furniture company. Use a warm tone and short sentences.",
    "You are a helpful assistant. Today's guests: two engineers, one designer. Avoid slang and never mention prices.",
)


def tool(name: str, description: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in OpenAI's form, all of whose arguments are required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function if description else {**function, "description": None}}


def weather_tool(name: str = "get_weather", argument: str = "city") -> dict[str, Any]:
    """A tool for the weather."""
    place = {"type": "string", "description": "Which place to look up."}
    return tool(name, "Looks up the present weather of a place.", **{argument: place})


def time_tool(name: str = "get_time", argument: str = "city") -> dict[str, Any]:
    """A tool for the time."""
    return tool(name, "Tells the local time of a place.", **{argument: {"type": "string"}})


def called(name: str, arguments: Mapping[str, Any], result: str) -> tuple[dict[str, Any], ...]:
    """A call that the model made before, and what the tool said."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{name}", "type": "function", "function": function}
    return (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    )


def question_cases() -> Iterable[Case]:
    """Every known question at every effort, under changing developer messages."""
    for number, (question, needle) in enumerate(KNOWN):
        text = DEVELOPERS[number % len(DEVELOPERS)]
        before = (developer(text),) if text else ()
        for effort in EFFORTS:
            yield Case(f"{question} [{effort}]", (*before, user(question)), answers(needle), effort)


def weather_cases() -> Iterable[Case]:
    """Calls, answers from results, and the refusal without a tool."""
    tools = (weather_tool(),)
    for number, city in enumerate(("Paris", "Tokyo", "San Francisco", "Oslo", "Boston")):
        effort = EFFORTS[number % 3]
        yield Case(
            f"weather call {city}",
            (user(f"What's the weather looking like in {city} at the moment?"),),
            calls("get_weather", {"city": city}),
            effort,
            tools,
        )
    yield Case(
        "weather call, another tool's names",
        (developer("You plan trips."), user("What is the weather in Rome today?")),
        calls("get_current_weather", {"location": "Rome"}),
        tools=(weather_tool("get_current_weather", "location"),),
    )
    for city, result, needles in (
        ("Paris", '{"temperature": 18, "condition": "sunny"}', ("18", "sunny", "Paris")),
        ("Berlin", '{"condition":"rainy","temperature":7}', ("7", "rainy", "Berlin")),
        ("Madrid", "33 degrees and clear", ("33", "clear", "Madrid")),
        ("Seattle", '{"city": "Seattle", "temperature": 11, "condition": "foggy"}', ("11", "foggy", "Seattle")),
        ("Oslo", "snowy, 0°C", ("0", "snowy", "Oslo")),
    ):
        yield Case(
            f"weather result {city}",
            (user(f"Please check the weather in {city} for me."), *called("get_weather", {"city": city}, result)),
            answers(*needles),
            tools=tools,
        )
    yield Case("weather without a tool", (user("What's the weather in London today?"),), answers("no weather tool"))
    yield Case("tool on offer, not needed", (user("Why is the sky blue?"),), answers("scatters"), tools=tools)


def agent_cases() -> Iterable[Case]:
    """Two tools on offer: which is called, in what order, and the answer from both results."""
    tools = (weather_tool(), time_tool())
    both = user("What's the weather and the time in Paris?")
    sunny = called("get_weather", {"city": "Paris"}, '{"temperature": 18, "condition": "sunny"}')
    clock = called("get_time", {"city": "Paris"}, '{"time": "14:05"}')
    paris = {"city": "Paris"}
    yield Case("two tools, first call", (both,), calls("get_weather", paris), tools=tools)
    yield Case("two tools, second call", (both, *sunny), calls("get_time", paris), tools=tools)
    yield Case("two tools, answer", (both, *sunny, *clock), answers("18", "sunny", "14:05"), tools=tools)
    for effort in EFFORTS:
        yield Case(
            f"two tools, only the weather [{effort}]",
            (user("Could you check the weather in Vienna?"),),
            calls("get_weather", {"city": "Vienna"}),
            effort,
            tools,
        )
        yield Case(
            f"two tools, only the time [{effort}]",
            (user("What time is it in Tokyo right now?"),),
            calls("get_time", {"city": "Tokyo"}),
            effort,
            tools[::-1],
        )
    asked = user("How's the weather in Madrid?")
    hot = called("get_weather", {"city": "Madrid"}, "34 degrees, clear")
    yield Case("two tools, one result is enough", (asked, *hot), answers("34", "clear", "Madrid"), tools=tools)
    renamed = (time_tool("local_time", "location"), weather_tool("current_weather", "location"))
    rome = {"location": "Rome"}
    needed = (developer("You plan trips."), user("I need the weather and the local time in Rome, please."))
    rainy = called("current_weather", rome, "rainy, 9°C")
    yield Case("renamed tools, first call", needed, calls("current_weather", rome), tools=renamed)
    yield Case("renamed tools, second call", (*needed, *rainy), calls("local_time", rome), tools=renamed)
    late = called("local_time", rome, "23:40")
    yield Case("renamed tools, answer", (*needed, *rainy, *late), answers("9", "rainy", "23:40"), tools=renamed)
    bare = tuple(tool(name, "", city={"type": "string"}) for name in ("get_weather", "get_time"))
    yield Case("tools without descriptions", (both,), calls("get_weather", paris), tools=bare)
    yield Case("two tools, none needed", (user("Who was it that wrote Hamlet?"),), answers("Shakespeare"), tools=tools)
    yield Case("time without a tool", (user("What time is it in Oslo, please?"),), answers("no time tool"))


def forced_cases() -> Iterable[Case]:
    """Calls the client requires, also for questions that do not fit, and answers after a cut thought."""
    weather, search = weather_tool(), tool("search", "Searches our wiki.", query={"type": "string"})
    send = tool("send_report", "Sends it.", to={"type": "string"}, urgent={"type": "boolean"})
    for name, question, tools, choice, check in (
        ("required, fitting", "How's the weather in Lisbon?", (weather,), "required", {"city": "Lisbon"}),
        ("required, not fitting", "Why is the sky blue?", (weather,), "required", None),
        ("named, not fitting", "Tell me a joke, please!", (weather, search), "search", None),
        ("named, two arguments", "Hello there!", (send,), "send_report", None),
    ):
        named = {"type": "function", "function": {"name": choice}} if choice != "required" else choice
        wanted = choice if choice != "required" else "get_weather"
        more = {"tool_choice": named}
        yield Case(name, (user(question),), is_made_to_call(wanted, check), tools=tools, more=more)
    for budget, question, needle in (
        (0, "What is the capital of France", "Paris"),
        (5, "What's the largest planet?", "Jupiter"),
        (20, "Could you tell me why the sky is blue?", "scatters blue light"),
        (41, "Who was it that wrote Hamlet?", "Shakespeare"),
    ):
        check_ = answers_after(budget, needle)
        yield Case(f"budget of {budget}", (user(question),), check_, "high", more={"max_reasoning_tokens": budget})


def object_schema(label: str, /, **properties: str) -> dict[str, Any]:
    """A request for an object with these keys, of these JSON types; lists are of strings."""
    shapes = {
        key: {"type": kind} | ({"items": {"type": "string"}} if kind == "array" else {})
        for key, kind in properties.items()
    }
    described = {
        "type": "object",
        "properties": shapes,
        "required": list(shapes),
        "additionalProperties": False,
    }
    return {"response_format": {"type": "json_schema", "json_schema": {"name": label, "schema": described}}}


def json_cases() -> Iterable[Case]:
    """JSON because the user or the developer asks for it."""
    france = {"country": "France", "capital": "Paris"}
    yield Case("user asks for JSON", (user("Give me the capital of France as JSON."),), answers_json(france))
    yield Case(
        "developer asks for JSON",
        (developer("You are terse. Respond only with JSON."), user("What's the capital of Spain?")),
        answers_json({"country": "Spain", "capital": "Madrid"}),
    )
    schema = '{"type":"object","properties":{"capital":{"type":"string"}},"required":["capital"]}'
    yield Case(
        "developer gives a schema",
        (developer(f"Be kind.\n\n# Response Formats\n\n## capital\n\n{schema}"), user("What is the capital of Italy?")),
        answers_json({"capital": "Rome"}),
    )
    spain, japan = {"country": "Spain", "capital": "Madrid"}, {"capital": "Tokyo", "country": "Japan"}
    eight = ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"]
    for name, question, asked, expected in (
        (
            "one key",
            "What's the capital of Austria?",
            object_schema("capital", capital="string"),
            {"capital": "Vienna"},
        ),
        (
            "two keys",
            "Which capital does Spain have?",
            object_schema("place", country="string", capital="string"),
            spain,
        ),
        (
            "other order",
            "Tell me the capital of Japan!",
            object_schema("info", capital="string", country="string"),
            japan,
        ),
        ("list", "Name the planets, please.", object_schema("planets", names="array"), {"names": eight}),
        ("integer", "How many days are in one year?", object_schema("days", count="integer"), {"count": 365}),
        (
            "boolean",
            "Is it true that a spider has eight legs?",
            object_schema("check", answer="string", known="boolean"),
            None,
        ),
        ("unknown", "Who won the cup last night?", object_schema("match", name="string", score="integer"), None),
    ):
        check = answers_json(expected) if expected is not None else answers_some_json(asked)
        yield Case(f"schema: {name}", (user(question),), check, more=asked)
    yield Case(
        "JSON mode",
        (developer("Reply in JSON."), user("What's the capital of Poland?")),
        answers_json({"country": "Poland", "capital": "Warsaw"}),
        more={"response_format": {"type": "json_object"}},
    )
    yield Case(
        "schema after a tool's result",
        (user("How's the weather in Bern?"), *called("get_weather", {"city": "Bern"}, '{"temp_c": 4, "sky": "foggy"}')),
        answers_json({"city": "Bern", "temperature": 4, "condition": "foggy"}),
        tools=(weather_tool(),),
        more=object_schema("weather", city="string", temperature="integer", condition="string"),
    )


def conversation_cases() -> Iterable[Case]:
    """Questions that only an earlier turn answers, and questions after turns that do not matter."""
    for name in ("Alice", "Henry", "Nina"):
        before = (user(f"Hello! My name is {name}."), assistant(f"Pleased to meet you, {name}."))
        yield Case(f"name {name}", (*before, user("And what is my name?")), answers(name))
    yield Case(
        "favorite color after another question",
        (
            user("My favorite color is green."),
            assistant("Green it is."),
            user("What is 3 + 4?"),
            assistant("3 + 4 = 7."),
            user("What is my favorite color?"),
        ),
        answers("green"),
    )
    yield Case(
        "follow-up",
        (user("What is the capital of Norway?"), assistant("Oslo."), user("And of Sweden?")),
        answers("Stockholm"),
    )
    yield Case(
        "known question after unknown turns",
        (user("Recommend me a thriller."), assistant("Try the one about the submarine."), user("Who wrote Hamlet?")),
        answers("Shakespeare"),
    )


def other_cases() -> Iterable[Case]:
    """Long answers, greetings and the catch-all."""
    yield Case("count", (user("Please count from 1 to 150."),), writes_at_least(400, "149, 150."))
    yield Case("long story", (user("Can you tell me a long story?"),), writes_at_least(400, "good night"))
    yield Case("greeting", (user("Hello there!"),), answers("Hello"))
    yield Case("several-token characters", (user("Please send me an emoji."),), answers("🤖", "🦄"))
    for question in UNKNOWN:
        yield Case(f"catch-all: {question}", (user(question),), answers("tiny demonstration model"))


def cases() -> tuple[Case, ...]:
    """Every case; names are unique."""
    return (
        *question_cases(),
        *weather_cases(),
        *agent_cases(),
        *forced_cases(),
        *json_cases(),
        *conversation_cases(),
        *other_cases(),
    )


def growth_problems(results: Mapping[str, Answer]) -> list[str]:
    """Questions whose reasoning does not clearly grow with effort; `results` are answers by case name."""
    problems = []
    for question, _ in KNOWN:
        low, medium, high = (results[f"{question} [{effort}]"].reasoning_tokens for effort in EFFORTS)
        if not (2 * low < medium and 3 * medium < 2 * high):
            problems.append(f"{question}: {low}, {medium}, {high}")
    return problems
