"""Script that answers each question of the checks as a model should."""

from __future__ import annotations

import json

from serving.certification.questions import (
    COUNT,
    FORCED_TOOLS,
    HELLO,
    SCHEMA_CASES,
    SKY,
    TOOL_CASES,
    WEATHER_RESULT,
)
from serving.engine.scripted import Script, ScriptLine


def answer(text: str, analysis: str = "The user asks.") -> str:
    return (
        f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant<|channel|>final<|message|>{text}<|return|>"
    )


def call(name: str, arguments: object) -> str:
    return (
        "<|channel|>analysis<|message|>A tool has this.<|end|><|start|>assistant<|channel|>commentary<|message|>"
        f"Let me look.<|end|><|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        f"{json.dumps(arguments)}<|call|>"
    )


def lines() -> list[ScriptLine]:
    return [
        ScriptLine(tail_contains=WEATHER_RESULT, completion=answer("It is sunny in Paris, 20 degrees.")),
        *(
            ScriptLine(prompt_contains=case.question, completion=call(case.tool.name, case.tool.example))
            for case in TOOL_CASES
        ),
        *(
            ScriptLine(prompt_contains=f"Call {tool.name}.", completion=call(tool.name, tool.example))
            for tool in FORCED_TOOLS
        ),
        *(
            ScriptLine(prompt_contains=case.ask.question, completion=answer(json.dumps(case.example)))
            for case in SCHEMA_CASES
        ),
        ScriptLine(prompt_contains=SKY.question, completion=answer("Air scatters blue light more.\n\nThat is all. 🙂")),
        ScriptLine(prompt_contains=COUNT, completion=answer("one, two, three, " * 30)),
        ScriptLine(prompt_contains=HELLO.question, completion=answer("Hello there!")),
        ScriptLine(completion=answer("I see.")),
    ]


def script(*before: ScriptLine) -> Script:
    """The script, with other lines before its own."""
    return Script((*before, *lines()))
