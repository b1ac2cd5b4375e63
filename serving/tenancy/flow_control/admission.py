"""The line in front of a model's engines.

Each ingress replica has a line of its own, and of the engines' places an equal part. One line for all would be fair to
the request, but every request would then wait for a round trip when a place comes free, to a process whose loss stops
them all. HAProxy spreads requests evenly over the replicas, so each line sees the same teams in the same proportions,
and shares that hold in every line hold over all of them.

The engines' own queues are kept short, since in them nobody is fair: a request is handed over when there is a place
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
    """What one ingress replica may hand to a model's engines, and hold back."""

    places: int
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
        """With `replicas` engines, shared by `ingresses`; rounded up, so that each has one place at least.

        `sequences`: what an engine says that it decodes together; until one has, the settings' number, or a modest one.
        """
        sequences = (sequences or model.max_num_seqs or _SEQUENCES_AT_FIRST) * max(1, replicas)
        places = max(1, math.ceil(sequences * (1 + admission.margin) / ingresses))
        reserve = math.ceil(places * admission.reserve) if places > 1 and admission.reserve else 0
        most = 4 * sequences if admission.max_queued is None else admission.max_queued
        return cls(places, reserve, max(1, math.ceil(most / ingresses)))


@dataclass(slots=True, eq=False)
class _InLine:
    item: Waiting
    answer: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    let_in: bool = False


class Admission:
    """One model's line in one ingress replica. `clock` is monotonic, in seconds."""

    def __init__(self, model: str, capacity: Capacity, clock: Callable[[], float], *, many_teams: bool) -> None:
        self._model = model
        self._clock = clock
        self._queue = FairQueue(
            capacity.places, reserve=capacity.reserve, most_waiting=capacity.most_waiting, newcomers=many_teams
        )
        self._lined_up: dict[int, _InLine] = {}
        self._tokens = Rate(clock)
        self._requests = Rate(clock)
        self._token_s = Mean(0.0)
        self._output = Mean(_FIRST_GUESS_TOKENS)
        self._output_of: dict[tuple[str, str], Mean] = {}
        self._promised = 0.0
        self._promised_at = clock()

    @property
    def fill(self) -> float:
        """How full the line is, 0 to 1."""
        return self._queue.fill

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._queue.waiting

    @property
    def in_use(self) -> int:
        """How many places are taken."""
        return self._queue.in_use

    @property
    def places(self) -> int:
        """How many places there are."""
        return self._queue.places

    def resize(self, capacity: Capacity) -> None:
        """There are more or fewer engines now."""
        self._queue.resize(capacity.places, reserve=capacity.reserve, most_waiting=capacity.most_waiting)
        self._let_in()

    def expected_output(self, team: str, effort: str, most: int) -> float:
        """Tokens that an answer will probably have, by the team's last ones at that effort."""
        mean = self._output_of.get((team, effort), self._output)
        return min(float(most), mean.value)

    def refuse_hopeless(self, item: Waiting) -> None:
        """Raise at once, before work is put into a request, where there is no room for it anyway."""
        queue = self._queue
        share = queue.share(item)
        if queue.waiting >= queue.most_waiting and queue.waiting_of(item.team) >= queue.most_waiting * share:
            raise self._no_room("over_share" if share < 1 else "full", item)

    async def enter(self, item: Waiting, deadline: float | None, output_tokens: float) -> None:
        """Returns when `item` has its places, which release() gives back.

        `deadline` is by the clock. Raises RateLimitError where the team has too many in line, OverloadedError where
        there is no room or no time for it, AnswerTimeoutError where the deadline cannot be kept by anyone, or passed
        in line. Cancelling leaves the line.
        """
        self._refuse_late(item, deadline, output_tokens)
        try:
            pushed_out = self._queue.arrive(item)
        except NoRoom as error:
            raise self._no_room(error.reason, item) from error
        if pushed_out is not None:
            answer = self._lined_up.pop(id(pushed_out)).answer
            if not answer.done():  # it may be leaving by itself at this moment
                answer.set_exception(self._no_room("over_share", pushed_out))
        place = self._lined_up[id(item)] = _InLine(item)
        self._let_in()
        try:
            if not place.answer.done():
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._clock())):
                    await place.answer
        except TimeoutError as error:
            self._abandon(place)
            raise DeadlineExceededError("The request's time ran out while it waited for its turn.") from error
        except asyncio.CancelledError:
            self._abandon(place)
            raise

    def release(self, team: str, places: int) -> None:
        """Give places back, and let in who waits for them."""
        self._queue.free(team, places)
        self._let_in()

    def finished(self, team: str, effort: str, *, expected: float, tokens: int, output: int, seconds: float) -> None:
        """A request is over: it cost `tokens` where `expected` were charged, `output` of them in `seconds`."""
        self._queue.settle(team, tokens - expected)
        self._tokens.add(tokens)
        self._requests.add(1)
        if output:
            self._token_s.add(seconds / output)
            self._output.add(output)
            if len(self._output_of) > 10_000:
                self._output_of.clear()  # teams come and go; what is usual is soon learnt again
            self._output_of.setdefault((team, effort), Mean(self._output.value)).add(output)

    def _let_in(self) -> None:
        while item := self._queue.next():
            place = self._lined_up.pop(id(item))
            if place.answer.done():  # cancelled, and its task has not run since
                self._queue.free(item.team, item.places)
            else:
                place.let_in = True
                place.answer.set_result(None)

    def _abandon(self, place: _InLine) -> None:
        """Undo whatever has become of a place in line whose owner does not want it any more."""
        item = place.item
        self._lined_up.pop(id(item), None)
        if place.let_in:
            self.release(item.team, item.places)
        else:
            self._queue.leave(item)
            self._let_in()  # what stood behind a wide one may fit
        if place.answer.done() and not place.answer.cancelled():
            place.answer.exception()  # seen; asyncio would complain

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
        """When there will be room in line, by how fast it drains; who is told a time is counted for the next one."""
        now = self._clock()
        rate = self._requests.per_second * self._queue.share(item) if self._requests.known else 1.0
        rate = max(rate, 1 / _LONGEST_ADVICE_S)
        self._promised = max(0.0, self._promised - (now - self._promised_at) * rate) + 1
        self._promised_at = now
        return min(_LONGEST_ADVICE_S, self._promised / rate)
