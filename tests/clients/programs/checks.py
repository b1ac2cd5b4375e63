"""Checks of a client, run in its own environment: each returns what the client shows its user.

A program marks its checks with @check("API.NAME") and ends with run(). The results go as JSON into the file that
CHECKS names. The questions are those that the script of tests/clients/harness.py answers; a tag with the client's name
(CLIENT) and the check's tells prompts apart.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

MODEL = "demo"
NO_MODEL = "no-such-model"
WEATHER = "sunny, 21 degrees"

_checks: dict[str, Callable[[], Any]] = {}


def check(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        _checks[name] = function
        return function

    return register


def tagged(text: str, check: str) -> str:
    return f"{text} ({os.environ['CLIENT']}: {check})"


def hello(check: str) -> str:
    return tagged("Say hello.", check)


def count(check: str) -> str:
    return tagged("Count to six.", check)


def weather(check: str) -> str:
    return tagged("What is the weather in Zürich?", check)


def run() -> None:
    """Run all checks in one event loop; one that fails is recorded and does not keep the others from running."""
    results = asyncio.run(_run())
    with open(os.environ["CHECKS"], "w", encoding="utf-8") as file:
        json.dump(results, file, ensure_ascii=False)


async def _run() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, function in _checks.items():
        try:
            if inspect.iscoroutinefunction(function):
                shown = await asyncio.wait_for(function(), 30)
            else:
                shown = await asyncio.wait_for(asyncio.to_thread(function), 30)
            results[name] = {"shown": shown}
        except Exception:  # noqa: BLE001  # what a client raises is the result
            results[name] = {"failed": traceback.format_exc()}
    return results
