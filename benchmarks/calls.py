"""How many calls of this project's functions a request takes: `python -m benchmarks.calls [--by-file]`.

One application in one process, on the scripted engine behind a FailoverEngine, without a socket. A profiler counts
each call of a function in serving/, and each step of a generator or coroutine there: of a warm streamed chat request
until the engine is asked, of one chunk in the middle of a stream, and of such a chunk with a cache and a fallback.
Counts, unlike times, are the same on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI

import serving
from benchmarks.asgi import chat_scope
from serving.app import create_app
from serving.engine.base import EngineRequest
from serving.engine.failover import FailoverEngine
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.failover import FailoverSettings
from serving.settings.models import ModelSettings
from serving.settings.storage import CacheSettings
from serving.settings.tree import Settings

SERVING = str(Path(serving.__file__).parent)
WORDS = 40
COMPLETION = f"<|channel|>final<|message|>{'word ' * WORDS}<|return|>"
_MIDDLE = slice(WORDS // 4, WORDS // 2)


@dataclass(frozen=True)
class Calls:
    """Calls of functions in serving/, by the function's file."""

    by_file: Counter[str]

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_file.total()

    def __str__(self) -> str:
        return f"{self.total} calls in {len(self.by_file)} files"


class Profiler:
    """Counts calls while it is on."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count in the block, unless stop() ends it sooner."""
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def stop(self) -> None:
        """Count no more."""
        sys.setprofile(None)

    def take(self) -> Calls:
        """What was counted since the last time."""
        seen, self._seen = self._seen, Counter()
        return Calls(seen)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERVING):
            self._seen[frame.f_code.co_filename[len(SERVING) + 1 :]] += 1


class _Watched(ScriptedEngine):
    """Stops the profiler when it is asked, if it is told to."""

    profiler: Profiler | None = None

    def generate(self, request: EngineRequest) -> Any:
        if self.profiler is not None:
            self.profiler.stop()
        return super().generate(request)


@asynccontextmanager
async def application(**further: Any) -> AsyncIterator[tuple[FastAPI, _Watched]]:
    """An application on an engine that plays COMPLETION, a token each millisecond."""
    line = ScriptLine(completion=COMPLETION, step_ms=1)
    engine = _Watched(Script((line,)), model="demo", max_model_len=131072)
    await engine.start()
    settings = Settings(**{"models": {"demo": ModelSettings(source="demo")}, **further})
    engines = {
        name: FailoverEngine(name, engine, FailoverSettings(), lambda outcome, lost_s: None) for name in settings.models
    }
    async with Parts.in_process(settings, engines) as parts:
        yield create_app(parts), engine


async def ask(app: FastAPI, profiler: Profiler, number: int) -> list[Calls]:
    """Ask for a stream; returns the calls before each of its messages."""
    question = {"model": "demo", "messages": [{"role": "user", "content": f"Hello number {number}!"}]}
    body = json.dumps({**question, "stream": True, "temperature": 0}).encode()
    scope = chat_scope(body)
    parts: list[Calls] = []
    given = False
    text = b""

    async def receive() -> dict[str, object]:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal text
        text += message.get("body", b"")
        parts.append(profiler.take())

    with profiler.on():
        await app(scope, receive, send)
    assert b"word" in text, text
    return parts


async def head() -> Calls:
    """Of a warm streamed chat request, from its first byte until the engine is asked."""
    profiler = Profiler()
    async with application() as (app, engine):
        await ask(app, profiler, 0)
        profiler.take()
        engine.profiler = profiler
        return (await ask(app, profiler, 1))[0]


async def chunk(**further: Any) -> Calls:
    """Of one chunk in the middle of a stream, by its most usual number of calls."""
    profiler = Profiler()
    async with application(**further) as (app, _):
        await ask(app, profiler, 0)
        profiler.take()
        middle = (await ask(app, profiler, 1))[_MIDDLE]
    usual, _ = Counter(calls.total for calls in middle).most_common(1)[0]
    return next(calls for calls in middle if calls.total == usual)


def with_cache_and_fallback() -> dict[str, Any]:
    """Settings of a model whose answers are kept, and that another would answer for."""
    return {
        "models": {"demo": ModelSettings(source="demo", fallback=("other",)), "other": ModelSettings(source="demo")},
        "cache": CacheSettings(backend="memory"),
    }


async def measure() -> dict[str, Calls]:
    """The three counts, by what they are of."""
    return {
        "a request until the engine is asked": await head(),
        "a chunk": await chunk(),
        "a chunk with cache and fallback": await chunk(**with_cache_and_fallback()),
    }


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by-file", action="store_true", help="also print each file's calls")
    options = parser.parse_args()
    for name, calls in asyncio.run(measure()).items():
        print(f"{name}: {calls}")
        if options.by_file:
            for file, number in calls.by_file.most_common():
                print(f"  {number:4} {file}")


if __name__ == "__main__":
    main()
