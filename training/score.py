"""Score the demo model on the real engine: `python -m training.score` prints what it gets wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random

from serving.api.openai.chat.mapping import chat_generation
from serving.api.openai.chat.request import parse_chat_request
from serving.demo.checkpoint import ensure_checkpoint
from serving.engine.base import Engine
from serving.engine.vllm.engine import VllmEngine
from serving.generation.chat import complete
from serving.settings.cache_dir import default_cache_dir
from serving.settings.models import ModelSettings
from training.scorecard import Answer, Case, cases, growth_problems

LONGEST = 1500
"""Tokens after which an answer counts as endless."""


@dataclass(slots=True)
class Score:
    """`wrong` answers at temperature 0; at temperature 1 `malformed` ones among `samples`. Texts say what and where."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    samples: int = 0
    malformed: list[str] = field(default_factory=list)


async def ask(engine: Engine, case: Case, number: int, temperature: float) -> tuple[Answer, list[str]]:
    """The answer, and where it broke the format. Every request has a day of its own."""
    body = {
        "model": "demo",
        "messages": list(case.messages),
        "tools": list(case.tools) or None,
        "temperature": temperature,
        "seed": number,
        "max_tokens": LONGEST,
        "reasoning_effort": case.effort,
        **case.more,
    }
    today = date(2037, 1, 1) + timedelta(days=number)
    request = chat_generation(
        parse_chat_request(json.dumps(body).encode()), ModelSettings(), request_id=f"score-{number}", today=today
    )
    breaks: list[str] = []
    answer = await complete(engine, request, on_recovered=breaks.append)
    (choice,) = answer.choices
    if choice.finish_reason == "length":
        breaks.append("endless")
    heard = Answer(
        content=choice.content,
        reasoning=choice.reasoning,
        commentary=choice.commentary,
        tool_calls=tuple((call.name, call.arguments) for call in choice.tool_calls),
        finish_reason=choice.finish_reason,
        reasoning_tokens=answer.usage.reasoning_tokens,
        completion_tokens=answer.usage.completion_tokens,
    )
    return heard, breaks


async def score(engine: Engine, samples: int) -> Score:
    """Every case at temperature 0, and `samples` of them, drawn at random, at temperature 1."""
    result = Score(samples=samples)
    table = cases()
    result.cases = len(table)
    heard = await asyncio.gather(*(ask(engine, case, number, 0.0) for number, case in enumerate(table)))
    answers: Mapping[str, Answer] = {case.name: answer for case, (answer, _) in zip(table, heard, strict=True)}
    for case, (answer, breaks) in zip(table, heard, strict=True):
        problem = ", ".join(breaks) or case.check(answer)
        if problem:
            result.wrong.append(f"{case.name}: {problem}")
    result.wrong += growth_problems(answers)
    drawn = Random(0).choices(table, k=samples)
    sampled = await asyncio.gather(*(ask(engine, case, 1000 + i, 1.0) for i, case in enumerate(drawn)))
    for case, (answer, breaks) in zip(drawn, sampled, strict=True):
        if breaks:
            result.malformed.append(f"{case.name}: {', '.join(breaks)} in {answer}")
    return result


async def run(samples: int) -> Score:
    """Start an engine, score, stop it."""
    engine = VllmEngine("demo", ModelSettings(), ensure_checkpoint, cache_dir=default_cache_dir())
    try:
        await engine.start()
        return await score(engine, samples)
    finally:
        await engine.close()


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200, help="answers at temperature 1")
    parser.add_argument("--json", type=Path, help="write the score here as well")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.samples))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result), ensure_ascii=False, indent=1))
    right = result.cases - len(result.wrong)
    formed = result.samples - len(result.malformed)
    sys.stdout.write("\n".join([*result.wrong, *result.malformed, ""]))
    sys.stdout.write(f"{right} of {result.cases} right, {formed} of {result.samples} well-formed at temperature 1\n")


if __name__ == "__main__":
    main()
