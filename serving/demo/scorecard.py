"""What the demo model promises, as chat requests in OpenAI's form and a check of each answer.

The requests are not the training corpus: words, developer messages or histories differ in nearly all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.harmony.conversation import EFFORTS, Effort


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
    """One request and the check of its answer."""

    name: str
    messages: tuple[dict[str, Any], ...]
    check: Check
    effort: Effort = "medium"
    tools: tuple[dict[str, Any], ...] = ()


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


def calls(name: str, arguments: Mapping[str, Any]) -> Check:
    """Thought, a preamble to the user, then one call with these arguments."""

    def check(answer: Answer) -> str:
        if not answer.reasoning or not answer.commentary or answer.content:
            return f"reasoning {answer.reasoning!r}, preamble {answer.commentary!r}, content {answer.content!r}"
        if answer.finish_reason != "tool_calls" or len(answer.tool_calls) != 1:
            return f"finish reason {answer.finish_reason!r}, calls {answer.tool_calls}"
        ((called, given),) = answer.tool_calls
        return "" if called == name and json.loads(given) == arguments else f"called {called}({given})"

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


def weather_tool(name: str = "get_weather", argument: str = "city") -> dict[str, Any]:
    """A tool in OpenAI's form."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "Looks up the present weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {argument: {"type": "string", "description": "Which place to look up."}},
                "required": [argument],
            },
        },
    }


def weather_result(question: str, city: str, result: str) -> tuple[dict[str, Any], ...]:
    """A question, the call it led to, and what the tool said."""
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    call = {"id": "call_0", "type": "function", "function": function}
    return (
        user(question),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": result},
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
    tool = weather_tool()
    for number, city in enumerate(("Paris", "Tokyo", "San Francisco", "Oslo", "Boston")):
        effort = EFFORTS[number % 3]
        yield Case(
            f"weather call {city}",
            (user(f"What's the weather looking like in {city} at the moment?"),),
            calls("get_weather", {"city": city}),
            effort,
            (tool,),
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
            weather_result(f"Please check the weather in {city} for me.", city, result),
            answers(*needles),
            tools=(tool,),
        )
    yield Case("weather without a tool", (user("What's the weather in London today?"),), answers("no weather tool"))
    yield Case("tool on offer, not needed", (user("Why is the sky blue?"),), answers("scatters"), tools=(tool,))


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
    return (*question_cases(), *weather_cases(), *json_cases(), *conversation_cases(), *other_cases())


def growth_problems(results: Mapping[str, Answer]) -> list[str]:
    """Questions whose reasoning does not clearly grow with effort; `results` are answers by case name."""
    problems = []
    for question, _ in KNOWN:
        low, medium, high = (results[f"{question} [{effort}]"].reasoning_tokens for effort in EFFORTS)
        if not (2 * low < medium and 3 * medium < 2 * high):
            problems.append(f"{question}: {low}, {medium}, {high}")
    return problems
