"""The admission queue in front of a model's engines.

Each ingress replica has a queue of its own, and an equal part of the engines' slots. One queue for all would be fair to
the request, but every request would then wait for a round trip when a slot comes free, to a process whose loss stops
them all. HAProxy spreads requests evenly over the replicas, so each queue sees the same teams in the same proportions,
and shares that hold in every queue hold over all of them.

The engines' own queues are kept short, since in them nobody is fair: a request is handed over when there is a slot
for it (the engine's max_num_seqs, and a small margin so that an engine never waits for the next).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.errors import AnswerTimeoutError, ApiError, DeadlineExceededError, OverloadedError, RateLimitError
from serving.settings.admission import AdmissionSettings
from serving.settings.models import ModelSettings
from serving.tenancy.flow_control.fair_queue import FairQueue, NoRoom, Waiting
from serving.tenancy.throughput import Mean, Rate

_FIRST_GUESS_TOKENS = 256.0
_LONGEST_ADVICE_S = 60.0


# Sequences of an engine whose settings name no number and that has not said yet how many it decodes.
_SEQUENCES_AT_FIRST = 64


@dataclass(frozen=True, slots=True)
class Capacity:
    """Slots of a model's engines that one ingress replica may fill, and requests that it may hold back."""

    slots: int
    reserve: int
    most_waiting: int

    @classmethod
    def of(
        cls,
        model: ModelSettings,
        admission: AdmissionSettings,
        *,
        replicas: int,
        ingresses: int,
        sequences: int | None = None,
    ) -> Capacity:
        """With `replicas` engines, shared by `ingresses`; rounded up, so that each has one slot at least.

        `sequences`: what an engine says that it decodes together; until one has, the settings' number, or a modest one.
        """
        sequences = (sequences or model.max_num_seqs or _SEQUENCES_AT_FIRST) * max(1, replicas)
        slots = max(1, math.ceil(sequences * (1 + admission.margin) / ingresses))
        reserve = math.ceil(slots * admission.reserve) if slots > 1 and admission.reserve else 0
        most = 4 * sequences if admission.max_queued is None else admission.max_queued
        return cls(slots, reserve, max(1, math.ceil(most / ingresses)))


@dataclass(slots=True, eq=False)
class _Queued:
    item: Waiting
    answer: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    admitted: bool = False


class AdmissionQueue:
    """One model's admission queue in one ingress replica. `clock` is monotonic, in seconds."""

    def __init__(self, model: str, capacity: Capacity, clock: Callable[[], float], *, many_teams: bool) -> None:
        self._model = model
        self._clock = clock
        self._queue = FairQueue(
            capacity.slots, reserve=capacity.reserve, most_waiting=capacity.most_waiting, newcomers=many_teams
        )
        self._queued: dict[int, _Queued] = {}
        self._tokens = Rate(clock)
        self._requests = Rate(clock)
        self._token_s = Mean(0.0)
        self._output = Mean(_FIRST_GUESS_TOKENS)
        self._output_of: dict[tuple[str, str], Mean] = {}
        self._promised = 0.0
        self._promised_at = clock()

    @property
    def fill(self) -> float:
        """Saturation of the queue, 0 to 1."""
        return self._queue.fill

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.waiting

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._queue.in_use

    @property
    def slots(self) -> int:
        """Slots that there are."""
        return self._queue.slots

    def resize(self, capacity: Capacity) -> None:
        """Follow a fleet that has grown or shrunk."""
        self._queue.resize(capacity.slots, reserve=capacity.reserve, most_waiting=capacity.most_waiting)
        self._admit_next()

    def expected_output(self, team: str, effort: str, most: int) -> float:
        """Tokens that an answer will probably have, by the team's last answers at that effort."""
        mean = self._output_of.get((team, effort), self._output)
        return min(float(most), mean.value)

    def refuse_hopeless(self, item: Waiting) -> None:
        """Refuse a request for which the queue has no room, before work is put into it."""
        queue = self._queue
        share = queue.share(item)
        if queue.waiting >= queue.most_waiting and queue.waiting_of(item.team) >= queue.most_waiting * share:
            raise self._no_room("over_share" if share < 1 else "full", item)

    async def enter(self, item: Waiting, deadline: float | None, output_tokens: float) -> None:
        """Wait until `item` has its slots, which release() gives back.

        `deadline` is by the clock. Raises RateLimitError where the team has too many waiting, OverloadedError
        where there is no room or no time for it, AnswerTimeoutError where nobody could keep the deadline, or it passed
        in the queue. Cancelling leaves the queue.
        """
        self._refuse_late(item, deadline, output_tokens)
        try:
            pushed_out = self._queue.arrive(item)
        except NoRoom as error:
            raise self._no_room(error.reason, item) from error
        if pushed_out is not None:
            answer = self._queued.pop(id(pushed_out)).answer
            if not answer.done():  # it may be leaving by itself at this moment
                answer.set_exception(self._no_room("over_share", pushed_out))
        entry = self._queued[id(item)] = _Queued(item)
        self._admit_next()
        try:
            if not entry.answer.done():
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._clock())):
                    await entry.answer
        except TimeoutError as error:
            self._abandon(entry)
            raise DeadlineExceededError("The request's time ran out while it waited for its turn.") from error
        except asyncio.CancelledError:
            self._abandon(entry)
            raise

    def release(self, team: str, slots: int) -> None:
        """Give slots back, and admit the requests that wait for them."""
        self._queue.free(team, slots)
        self._admit_next()

    def finished(self, team: str, effort: str, *, expected: float, tokens: int, output: int, seconds: float) -> None:
        """Settle a request that cost `tokens` where `expected` were charged, `output` of them in `seconds`."""
        self._queue.settle(team, tokens - expected)
        self._tokens.add(tokens)
        self._requests.add(1)
        if output:
            self._token_s.add(seconds / output)
            self._output.add(output)
            if len(self._output_of) > 10_000:
                self._output_of.clear()  # teams come and go; the means are soon learnt again
            self._output_of.setdefault((team, effort), Mean(self._output.value)).add(output)

    def _admit_next(self) -> None:
        while item := self._queue.next():
            entry = self._queued.pop(id(item))
            if entry.answer.done():  # cancelled, and its task has not run since
                self._queue.free(item.team, item.slots)
            else:
                entry.admitted = True
                entry.answer.set_result(None)

    def _abandon(self, entry: _Queued) -> None:
        """Undo a wait that its request has given up, admitted or not."""
        item = entry.item
        self._queued.pop(id(item), None)
        if entry.admitted:
            self.release(item.team, item.slots)
        else:
            self._queue.leave(item)
            self._admit_next()  # a request behind a wide one may fit
        if entry.answer.done() and not entry.answer.cancelled():
            entry.answer.exception()  # seen; asyncio would complain

    def _refuse_late(self, item: Waiting, deadline: float | None, output_tokens: float) -> None:
        if deadline is None or not self._token_s.known:
            return
        left = deadline - self._clock()
        answering = output_tokens * self._token_s.value
        if answering > left:
            raise AnswerTimeoutError(
                f"An answer takes about {answering:.1f} s, and the request allows {max(left, 0):.1f} s. "
                "Allow more time, or ask for fewer tokens.",
                code="deadline_unattainable",
            )
        waiting = self._wait_s(item)
        if waiting + answering > left:
            raise OverloadedError(
                f"The request would wait about {waiting:.1f} s for its turn, too long to be answered in "
                f"{max(left, 0):.1f} s.",
                code="deadline_unattainable",
                retry_after_s=min(_LONGEST_ADVICE_S, waiting + answering - left),
            )

    def _wait_s(self, item: Waiting) -> float:
        if not self._queue.waiting or not self._tokens.known:
            return 0.0
        return self._queue.ahead(item) / max(self._tokens.per_second, 1e-9)

    def _no_room(self, reason: str, item: Waiting) -> ApiError:
        wait = self._advice_s(item)
        if reason == "over_share":
            return RateLimitError(
                f"Your team has more requests waiting for model '{self._model}' than its share. "
                f"Try again in {wait:.1f} s.",
                code="queue_full",
                retry_after_s=wait,
            )
        return OverloadedError(
            f"Too many requests wait for model '{self._model}'. Try again in {wait:.1f} s.",
            code="queue_full",
            retry_after_s=wait,
        )

    def _advice_s(self, item: Waiting) -> float:
        """Seconds until the queue has room, by how fast it drains; each answer counts for the next one."""
        now = self._clock()
        rate = self._requests.per_second * self._queue.share(item) if self._requests.known else 1.0
        rate = max(rate, 1 / _LONGEST_ADVICE_S)
        self._promised = max(0.0, self._promised - (now - self._promised_at) * rate) + 1
        self._promised_at = now
        return min(_LONGEST_ADVICE_S, self._promised / rate)
