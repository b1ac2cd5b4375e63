"""What keys, limits, admission, usage and the audit log add to a request: `python -m benchmarks.policy_cost`.

Two applications in one process, on the scripted engine without pauses and without a socket: one open, one with a teams
file that sets every limit. They are asked in turns; what is printed is the time from the request to the end of its
reply. The store of limits is this process's memory: in a cluster a request that has to ask the store adds a call to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from fastapi import FastAPI

from benchmarks.asgi import chat_scope
from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.keys import Key, new_key, new_salt
from serving.settings.tree import Settings

BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}).encode()
COMPLETION = "<|channel|>final<|message|>Hello there, how are you today?<|return|>"
WARM_UP = 200
LIMITS = {
    "models": ["demo"],
    "requests_per_minute": 1_000_000,
    "tokens_per_minute": 1_000_000_000,
    "concurrent_requests": 100,
    "tokens_per_day": 1_000_000_000_000,
}


async def reply_s(app: FastAPI, key: Key | None) -> float:
    """How long one reply takes, in seconds."""
    scope = chat_scope(BODY, *([] if key is None else [(b"authorization", f"Bearer {key.text}".encode())]))
    asked, over = False, asyncio.Event()
    status = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": BODY, "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    began = time.perf_counter()
    await app(scope, receive, send)
    took = time.perf_counter() - began
    over.set()
    assert status == 200, status
    return took


async def measured(folder: Path, requests: int) -> dict[str, list[float]]:
    """Seconds of each reply, of both applications."""
    key = new_key()
    team = {**LIMITS, "keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]}
    (folder / "teams.yaml").write_text(json.dumps({"teams": {"research": team}}))
    engine = ScriptedEngine(Script((ScriptLine(completion=COMPLETION),)))
    await engine.start()
    sections: dict[str, dict[str, Any]] = {
        "open": {},
        "teams": {"teams_file": str(folder / "teams.yaml"), "audit": {"file": str(folder / "audit.jsonl")}},
    }
    keys = {"open": None, "teams": key}
    took: dict[str, list[float]] = {name: [] for name in sections}
    async with contextlib.AsyncExitStack() as stack:
        apps = {
            name: create_app(await stack.enter_async_context(Parts.in_process(Settings(**section), {"demo": engine})))
            for name, section in sections.items()
        }
        for number in range(WARM_UP + requests):
            for name, app in apps.items():
                seconds = await reply_s(app, keys[name])
                if number >= WARM_UP:
                    took[name].append(seconds)
    await engine.close()
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--requests", type=int, default=3000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        took = asyncio.run(measured(Path(folder), requests))
    p50 = {name: median(seconds) * 1000 for name, seconds in took.items()}
    p99 = {name: quantiles(seconds, n=100)[98] * 1000 for name, seconds in took.items()}
    for name in took:
        print(f"{name:6} p50 {p50[name]:.3f} ms  p99 {p99[name]:.3f} ms")
    print(f"added  p50 {p50['teams'] - p50['open']:.3f} ms  p99 {p99['teams'] - p99['open']:.3f} ms")


if __name__ == "__main__":
    main()
