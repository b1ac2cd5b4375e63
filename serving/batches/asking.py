"""The asking of a batch's lines: answers, their retries, and how many lines are asked at a time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import from_json

from serving.answering.background import BackgroundRequest
from serving.batches.records import Endpoint, Spent

_RETRY_AFTER_S = 5.0
_MOST_REFUSALS = 100
_MOST_FAILURES = 3
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply to a line's request; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def spent(self) -> Spent:
        """Tokens that the answer has, by its usage; none for an error."""
        if self.status >= 400:
            return Spent()
        usage: dict[str, Any] = from_json(self.body).get("usage") or {}
        chat = "prompt_tokens" in usage
        inputs, outputs = ("prompt_tokens", "completion_tokens") if chat else ("input_tokens", "output_tokens")
        return Spent(
            input_tokens=usage.get(inputs) or 0,
            cached_tokens=(usage.get(f"{inputs}_details") or {}).get("cached_tokens") or 0,
            output_tokens=usage.get(outputs) or 0,
            reasoning_tokens=(usage.get(f"{outputs}_details") or {}).get("reasoning_tokens") or 0,
        )


class Ask(Protocol):
    """Asks this server itself, as a client of the team would."""

    async def __call__(self, endpoint: Endpoint, body: bytes, request_id: str, request: BackgroundRequest) -> Answer:
        """Answer to POST `endpoint` with the JSON `body`."""
        ...


class Retries:
    """Retries of one line. A refusal for now, by limits or for want of an engine, is none of the line's faults."""

    def __init__(self) -> None:
        self._refusals = 0
        self._failures = 0

    def wait_s(self, answer: Answer) -> float | None:
        """Seconds until the line is asked again; None where the answer is the line's result."""
        if answer.status in (429, 503):
            self._refusals += 1
            return None if self._refusals > _MOST_REFUSALS else _retry_after_s(answer)
        if answer.status == 504 or (answer.status == 500 and b'"engine_died"' in answer.body):
            self._failures += 1
            return None if self._failures > _MOST_FAILURES else _RETRY_AFTER_S
        return None


def _retry_after_s(answer: Answer) -> float:
    text = answer.headers.get("retry-after-ms", "")
    seconds = int(text) / 1000 if text.isdecimal() else _RETRY_AFTER_S
    # Not all at once: each would find that the first one had taken what there was.
    return max(0.1, seconds) * random.uniform(1.0, 1.2)


class Place:
    """Place of one line; give_back() returns it, once."""

    def __init__(self, owner: Places) -> None:
        self._owner: Places | None = owner

    def give_back(self) -> None:
        """Return the place; a second call does nothing."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.returned()


class Places:
    """Places for the lines that this process asks at a time; batches take them in turns.

    `most` is asked again and again, as engines come and go.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Number of lines that are asked now."""
        return self._taken

    async def take(self) -> Place:
        """Wait for a place."""
        while self._taken >= self._most():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await turn
            except TimeoutError:
                continue
            finally:
                self._waiting.remove(turn)
        self._taken += 1
        return Place(self)

    def returned(self) -> None:
        """Take a place back; Place calls it."""
        self._taken -= 1
        if turn := next((turn for turn in self._waiting if not turn.done()), None):
            turn.set_result(None)
