"""Rate limiter of one ingress replica.

A request takes its reservation from the replica's lease of the team's limits. Only when the lease is used up does the
limiter acquire more from the store, once, for this request and those of the next quarter second. So most requests wait
for nothing, and no token ever does. All leases together hold at most a fiftieth of a limit to spare, and give it back
when it is not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from serving.errors import QuotaExceededError, RateLimitError, StoreUnavailableError
from serving.settings.limits import CALENDAR, KIND_OF, LIMIT_KINDS
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.rate_limits.base import WINDOW, Acquisition, Amounts, Denied, Granted, LimitStore, Window
from serving.tenancy.rate_limits.lease import Block, Lease
from serving.tenancy.rate_limits.memory import MemoryLimitStore

logger = logging.getLogger(__name__)

_REPORT_EVERY_S = 0.1
_BLOCK_S = 0.05
_RETRY_STORE_S = 1.0
_REMIND_S = 10.0
_TIMEOUT_S = 2.0
_FIRST_TIMEOUT_S = 10.0
"""Timeout of a store that has not answered yet: it may have to be started."""
_LONGEST_SLOT_WAIT_S = 30.0


class Reservation:
    """Reservation of one request of its team's limits, at an expected cost of `tokens`.

    `settle` or `cancel` ends it; a second call does nothing.
    """

    def __init__(self, lease: Lease | None, at: float, tokens: int, slots: int) -> None:
        self._lease = lease
        self._at = at
        self._tokens = tokens
        self._slots = slots

    def settle(self, tokens: int) -> None:
        """Settle the reservation: the request has ended and cost `tokens`."""
        self._end(0, tokens)

    def cancel(self) -> None:
        """Give all of the reservation back: the request was not admitted."""
        self._end(-1, 0)

    def _end(self, requests: int, tokens: int) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        lease.correct(
            self._at,
            requests if lease.counts("requests") else 0,
            tokens - self._tokens if lease.counts("tokens") else 0,
        )
        lease.release_slots(self._slots)
        lease.finishing.add(1)


class Limiter:
    """Rate limiter of the replica `holder`, one of `replicas`, over `store`.

    While the store cannot be reached, each replica applies its own part of every limit, and logs so. `clock` is
    monotonic, `wall` gives seconds since the epoch.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        holder: str,
        replicas: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._holder = holder
        self._replicas = replicas
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._fallback = MemoryLimitStore(wall)
        self._timeout_s = _FIRST_TIMEOUT_S
        self._lost_until = float("-inf")
        self._reminded = float("-inf")

    async def acquire(self, identity: Identity, tokens: int, *, concurrent: bool = True) -> Reservation:
        """Reserve a request of about `tokens`; raises RateLimitError or QuotaExceededError, with the time to wait.

        `concurrent` False: the request is none of the team's concurrent requests, and counts in all other limits.
        """
        if not identity.limited:
            return Reservation(None, 0.0, 0, 0)
        lease = self._lease(identity)
        slots = 1 if concurrent and lease.counts("slots") else 0
        wanted = Amounts(1 if lease.counts("requests") else 0, tokens if lease.counts("tokens") else 0, slots)
        self._deny_blocked(identity, lease, wanted)
        got, missing = lease.reserve(wanted)
        if missing != Amounts():
            try:
                await self._extend(identity, lease, missing)
            except BaseException:
                lease.unreserve(got)
                raise
        lease.record_start(tokens)
        return Reservation(lease, self._clock(), wanted.tokens, slots)

    def windows(self, identity: Identity) -> tuple[Window | None, Window | None]:
        """State of the team's requests and tokens of this minute, as far as this replica knows."""
        lease = self._leases.get(identity.team)
        if lease is None:
            return None, None
        requests, tokens = lease.windows
        return _with_spare(requests, lease.requests), _with_spare(tokens, lease.tokens)

    async def run(self, used_before: Callable[[], Awaitable[Mapping[str, tuple[int, int]]]]) -> None:
        """Report settlements to the store; runs until cancelled.

        `used_before` returns what teams used of this day and month before the store began to count. The first call
        starts a store that has to be started, so that no request waits for that.
        """
        try:
            await self._store.seed(await used_before())
        except StoreUnavailableError as error:
            self._store_lost(error)
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Report settlements to the store now."""
        if self._clock() < self._lost_until:
            return
        reports = {team: report for team, lease in self._leases.items() if (report := lease.report())}
        for team in [team for team, lease in self._leases.items() if lease.expired]:
            del self._leases[team]
        if not reports:
            return
        try:
            await self._store.report(list(reports.values()))
        except StoreUnavailableError as error:
            self._store_lost(error)
            for team, report in reports.items():
                self._leases[team].restore(report)

    async def close(self) -> None:
        """Give back what the leases have to spare, and close the store."""
        for lease in self._leases.values():
            lease.correct(self._clock(), -lease.requests, -lease.tokens)
            lease.requests = lease.tokens = 0
        await self.flush()
        await self._store.close()

    def _lease(self, identity: Identity) -> Lease:
        lease = self._leases.get(identity.team)
        if lease is None:
            lease = self._leases[identity.team] = Lease(identity.team, self._holder, self._clock)
        lease.limits = identity.policy
        return lease

    async def _extend(self, identity: Identity, lease: Lease, missing: Amounts) -> None:
        lease.slots_pending += missing.slots
        # `held` leaves out the slots of `need`.
        acquisition = Acquisition(
            identity.team,
            lease.limits,
            self._holder,
            lease.next_sequence(),
            lease.held - missing.slots,
            missing,
            lease.spare(),
        )
        acquiring = asyncio.create_task(self._acquire(acquisition, lease))
        acquiring.add_done_callback(lambda done: self._add_granted(lease, missing, done))
        # The store may have counted it already: a client that leaves does not cancel it.
        outcome = await asyncio.shield(acquiring)
        if isinstance(outcome, Denied):
            raise self._denied(identity, lease, outcome, missing)
        lease.reserve(missing)

    def _add_granted(self, lease: Lease, missing: Amounts, acquiring: asyncio.Task[Granted | Denied]) -> None:
        """Add a grant to the lease, from which its request takes it unless the request has ended."""
        lease.slots_pending -= missing.slots
        if acquiring.cancelled() or acquiring.exception() is not None:
            return
        outcome = acquiring.result()
        lease.windows = outcome.requests, outcome.tokens
        if isinstance(outcome, Granted):
            lease.block = None
            lease.grant(outcome.got)

    async def _acquire(self, acquisition: Acquisition, lease: Lease) -> Granted | Denied:
        if self._clock() >= self._lost_until:
            try:
                async with asyncio.timeout(self._timeout_s):
                    outcome = await self._store.acquire(acquisition)
                self._timeout_s = _TIMEOUT_S
                return outcome
            except (StoreUnavailableError, TimeoutError) as error:
                self._store_lost(error)
        part = {
            kind.name: max(1, most // self._replicas)
            for kind in LIMIT_KINDS
            if (most := acquisition.limits.limit(kind))
        }
        limits = acquisition.limits.model_copy(update=part)
        own = replace(acquisition, limits=limits, spare=Amounts())
        outcome = await self._fallback.acquire(own)
        if isinstance(outcome, Granted):
            # Reported to the store once it is back, so that the amount is not granted twice.
            lease.correct(self._clock(), outcome.got.requests, outcome.got.tokens)
        return outcome

    def _store_lost(self, error: StoreUnavailableError | TimeoutError) -> None:
        now = self._clock()
        self._timeout_s = _TIMEOUT_S
        self._lost_until = now + _RETRY_STORE_S
        if now - self._reminded >= _REMIND_S:
            self._reminded = now
            logger.error(
                "limits are kept by each ingress replica alone, at 1/%d of each: %s %r",
                self._replicas,
                error,
                error.__cause__,
            )

    def _deny_blocked(self, identity: Identity, lease: Lease, wanted: Amounts) -> None:
        """Deny requests that the store would deny too, so that a flood does not reach it."""
        block, now = lease.block, self._clock()
        if block is None:
            return
        if now >= block.until:
            lease.block = None
        elif wanted.tokens >= block.tokens:
            block.denied += 1
            wait = block.free_at - now + block.denied * _step_s(block.limit, lease, wanted)
            raise _error(identity, block.limit, max(wait, 0.001))

    def _denied(self, identity: Identity, lease: Lease, denied: Denied, missing: Amounts) -> RateLimitError:
        wait, now = denied.retry_after_s, self._clock()
        if wait is None:
            wait = min(_LONGEST_SLOT_WAIT_S, 1 / lease.finishing.per_second) if lease.finishing.per_second else 1.0
        else:
            tokens = 0 if KIND_OF[denied.limit].unit == "requests" else missing.tokens
            lease.block = Block(denied.limit, tokens, now + min(_BLOCK_S, wait), now + wait)
        return _error(identity, denied.limit, wait)


def _step_s(limit: str, lease: Lease, wanted: Amounts) -> float:
    """Seconds by which the next denied request has to wait longer than the one before."""
    kind = KIND_OF[limit]
    most = lease.limits.limit(kind)
    if kind.span != "minute" or not most:
        return 0.0
    return WINDOW * min(1.0, wanted.of(kind.unit) / most)


def _with_spare(window: Window | None, spare: int) -> Window | None:
    return None if window is None else Window(window.limit, min(window.limit, window.left + spare), window.full_in_s)


def _error(identity: Identity, limit: str, wait: float) -> RateLimitError:
    most = getattr(identity.policy, limit)
    words = limit.replace("_", " ")
    text = f"Rate limit reached for team '{identity.team}': {most} {words}. Try again in {wait:.1f} s."
    if KIND_OF[limit] in CALENDAR:
        error: RateLimitError = QuotaExceededError(text, retry_after_s=wait, should_retry=False)
    else:
        error = RateLimitError(text, retry_after_s=wait)
    error.limit = limit
    return error
