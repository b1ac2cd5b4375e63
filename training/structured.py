"""JSON answers: because the user or the developer wishes so, or after a schema, which a grammar may enforce.

Under a schema the model goes by a key's type: a string is the answer in short (a key it knows, like "capital", gets
its own value), a number is the number in the answer or 0, a boolean is whether it knows an answer, a list has the
things asked for. What it does not know is "unknown", 0, false or empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from serving.harmony.conversation import ResponseFormat, UserMessage
from training.knowledge import LISTS, NUMBERS, UNKNOWN
from training.turns import Reply, Turn, compact
from training.words import FILLER

INSTRUCTIONS = (
    "Answer in JSON.",
    "Respond only with JSON.",
    "Reply with a JSON object.",
    "Always respond with valid JSON.",
    "Return JSON.",
    "You are a helpful assistant designed to output JSON.",
    "Answer only in JSON, without any other text.",
)
WISHES = (" as JSON", " in JSON", " as a JSON object", " in JSON format")
FORMAT_NAMES = (
    "capital", "answer", "response", "result", "city", "reply", "weather", "report", "country_info", "final_output",
    "Capital", "Answer", "WeatherReport", "response_schema", "output", "data", "schema", "json_response",
)  # fmt: skip
KEYS = {
    "string": ("answer", "name", "text", "title", "result", "value", "summary", "date"),
    "integer": ("number", "count", "value", "total", "score", "population"),
    "number": ("number", "score", "confidence"),
    "boolean": ("known", "ok", "valid", "is_correct", "found"),
    "array": ("items", "names", "list", "answers", "participants"),
}
KINDS = tuple(KEYS)
OPENING = '{"'


@dataclass(frozen=True, slots=True)
class Form:
    """An object to answer with: each key's JSON type and the right value. `order` is that of the answer."""

    values: dict[str, Any]
    kinds: dict[str, str]

    @property
    def text(self) -> str:
        """The answer, without blanks."""
        return compact(self.values)


def wished_by_user(rng: Random, turn: Turn) -> Turn:
    """The same question with a wish for JSON."""
    question = turn.said[-1].content or ""
    wish = rng.choice(WISHES)
    body = question.rstrip("?.! \n")
    wished = f"{body}{wish}{question[len(body) :].strip()}" if rng.random() < 0.7 else f"{question} Answer{wish}."
    return Turn((*turn.said[:-1], UserMessage(wished)), turn.reply)


def without_schema(reply: Reply) -> str:
    """The answer as JSON when no schema names the keys."""
    return compact({key or "answer": value for key, value in reply.record})


def form_for(rng: Random, reply: Reply) -> Form:
    """One to three keys of any type, and what the reply has to say under them."""
    record = {key: value for key, value in reply.record if key}
    count = rng.choices((1, 2, 3), (50, 32, 18))[0]
    own = rng.sample(list(record), min(len(record), count)) if rng.random() < 0.7 else []
    if reply.record and "capital" in record and rng.random() < 0.2:
        own = ["city", *(key for key in own if key != "capital")]
    values: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for key in own:
        values[key] = record["capital"] if key == "city" and "capital" in record else record[key]
        kinds[key] = "integer" if isinstance(values[key], int) else "string"
    while len(values) < count:
        kind = rng.choices(KINDS, (44, 18, 6, 16, 16))[0]
        key = rng.choice(KEYS[kind])
        if key not in values:
            values[key], kinds[key] = value_of(kind, reply), kind
    if rng.random() < 0.3:
        values = {key: values[key] for key in rng.sample(list(values), len(values))}
    return Form(values, kinds)


def value_of(kind: str, reply: Reply) -> Any:
    """What the reply has to say under a key of this type that means nothing else."""
    unknown = reply.thoughts is UNKNOWN or ("", "unknown") in reply.record
    topic = reply.thoughts.topic
    match kind:
        case "string":
            return "unknown" if unknown else brief(reply)
        case "boolean":
            return not unknown
        case "array":
            return [] if unknown else list(LISTS.get(topic, (brief(reply),)))
    numbers = [value for _, value in reply.record if isinstance(value, int)]
    return numbers[0] if numbers else NUMBERS.get(topic, 0)


def brief(reply: Reply) -> str:
    """The answer in few words."""
    record = dict(reply.record)
    for key in ("capital", "name", "color", "condition", "time"):
        if key in record:
            return str(record[key])
    main = str(record.get("", reply.answer))
    return main if len(main) <= 40 else reply.thoughts.brief.rstrip(".")


def parts(values: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """An object without blanks, in parts: what the model writes (True), and the keys, which a grammar writes."""
    if not values:
        return [("{}", True)]
    result = [(OPENING, True)]
    for place, (key, value) in enumerate(values.items(), start=1):
        end = "}" if place == len(values) else ',"'
        result += [(key, False), (f'":{json.dumps(value, ensure_ascii=False, separators=(",", ":"))}{end}', True)]
    return result


def schema_of(rng: Random, form: Form) -> dict[str, Any]:
    """A JSON schema of the form, as clients write them."""
    titled = rng.random() < 0.25
    properties: dict[str, Any] = {}
    for key in form.values:
        shape: dict[str, Any] = {"type": form.kinds[key]}
        if form.kinds[key] == "array":
            shape["items"] = {"type": "string"}
        if titled:
            shape = {"title": key.replace("_", " ").title(), **shape}
        if rng.random() < 0.1:
            shape["description"] = " ".join(rng.sample(FILLER[:48], rng.randint(1, 4)))
        properties[key] = shape
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.9:
        schema["required"] = list(form.values)
    if rng.random() < 0.6:
        schema["additionalProperties"] = False
    if titled:
        schema["title"] = rng.choice(FORMAT_NAMES)
    return dict(sorted(schema.items())) if rng.random() < 0.4 else schema


def format_for(rng: Random, form: Form) -> ResponseFormat:
    """The form as a client asks for it."""
    description = "" if rng.random() < 0.85 else " ".join(rng.sample(FILLER[:48], rng.randint(2, 6)))
    return ResponseFormat(rng.choice(FORMAT_NAMES), schema_of(rng, form), description)


def section_for(rng: Random, form: Form) -> str:
    """The form as a developer writes it into the instructions by hand."""
    schema = schema_of(rng, form)
    text = compact(schema) if rng.random() < 0.6 else json.dumps(schema)
    return f"# Response Formats\n\n## {rng.choice(FORMAT_NAMES)}\n\n{text}"
