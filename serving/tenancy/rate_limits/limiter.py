"""The limits of teams, as one ingress replica keeps them.

A request takes what it needs from what the replica has to spare; only when that is used up the store is asked, once,
for this request and the next quarter second's. So most requests wait for nothing, and no token ever does. What lies to
spare in all replicas together is at most a fiftieth of a limit, and goes back when it is not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from serving.errors import QuotaExceededError, RateLimitError, StoreUnavailableError
from serving.settings.limits import CALENDAR, KIND_OF, LIMIT_KINDS
from serving.settings.teams import Team
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.rate_limits.base import WINDOW, Acquisition, Amounts, Denied, Granted, LimitStore, Window
from serving.tenancy.rate_limits.lease import Block, Lease
from serving.tenancy.rate_limits.memory import MemoryLimitStore

logger = logging.getLogger(__name__)

_TELL_S = 0.1
_BLOCK_S = 0.05
_RETRY_STORE_S = 1.0
_REMIND_S = 10.0
_PATIENCE_S = 2.0
_FIRST_PATIENCE_S = 10.0
"""For a store that has not answered yet: it may have to be started."""
_LONGEST_SLOT_WAIT_S = 30.0


class Reservation:
    """What one request has taken of its team's limits. `settle` or `undo` ends it; the second call does nothing."""

    def __init__(self, lease: Lease | None, at: float, tokens: int, slots: int) -> None:
        self._lease = lease
        self._at = at
        self._tokens = tokens
        self._slots = slots

    def settle(self, tokens: int) -> None:
        """The request is over and cost `tokens`."""
        self._end(0, tokens)

    def undo(self) -> None:
        """The request was not let in after all."""
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
        lease.free_slots(self._slots)
        lease.finishing.add(1)


class Limiter:
    """Takes from `store` for this replica, `holder`, one of `replicas`.

    While the store cannot be reached each replica goes by its own part of every limit, and the log says so. `clock` is
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
        self._alone = MemoryLimitStore(wall)
        self._patience_s = _FIRST_PATIENCE_S
        self._lost_until = float("-inf")
        self._reminded = float("-inf")

    async def acquire(self, identity: Identity, tokens: int) -> Reservation:
        """Take a request of about `tokens`; raises RateLimitError or QuotaExceededError, with the time to wait."""
        limits = identity.policy
        if not _limited(limits):
            return Reservation(None, 0.0, 0, 0)
        lease = self._lease(identity)
        slots = 1 if lease.counts("slots") else 0
        wanted = Amounts(1 if lease.counts("requests") else 0, tokens if lease.counts("tokens") else 0, slots)
        self._refuse_blocked(identity, lease, wanted)
        got, missing = lease.reserve(wanted)
        if missing != Amounts():
            try:
                await self._fetch(identity, lease, missing)
            except BaseException:
                lease.put_back(got)
                raise
        lease.started(tokens)
        return Reservation(lease, self._clock(), wanted.tokens, slots)

    def windows(self, identity: Identity) -> tuple[Window | None, Window | None]:
        """The team's requests and tokens of this minute, as far as this replica knows."""
        lease = self._leases.get(identity.team)
        if lease is None:
            return None, None
        requests, tokens = lease.windows
        return _with_spare(requests, lease.requests), _with_spare(tokens, lease.tokens)

    async def run(self, used_before: Callable[[], Awaitable[Mapping[str, tuple[int, int]]]]) -> None:
        """Tell the store what was settled; runs until cancelled.

        `used_before` gives what teams used of this day and month before the store began to count. A store that has to
        be started is started by this, not by the first request.
        """
        try:
            await self._store.seed(await used_before())
        except StoreUnavailableError as error:
            self._lost(error)
        while True:
            await asyncio.sleep(_TELL_S)
            await self.flush()

    async def flush(self) -> None:
        """Tell the store what was settled."""
        if self._clock() < self._lost_until:
            return
        reports = {team: report for team, lease in self._leases.items() if (report := lease.report())}
        for team in [team for team, lease in self._leases.items() if lease.forgettable]:
            del self._leases[team]
        if not reports:
            return
        try:
            await self._store.report(list(reports.values()))
        except StoreUnavailableError as error:
            self._lost(error)
            for team, report in reports.items():
                self._leases[team].restore(report)

    async def close(self) -> None:
        """Give back what is spare, and let go of the store."""
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

    async def _fetch(self, identity: Identity, lease: Lease, missing: Amounts) -> None:
        lease.slots_asked += missing.slots
        # What is being asked for is said with the amount itself.
        acquisition = Acquisition(
            identity.team,
            lease.limits,
            self._holder,
            lease.next_sequence(),
            lease.held - missing.slots,
            missing,
            lease.spare(),
        )
        asking = asyncio.create_task(self._ask(acquisition, lease))
        asking.add_done_callback(lambda done: self._heard(lease, missing, done))
        # The store may have counted it already: the answer is waited for, be the client there or not.
        outcome = await asyncio.shield(asking)
        if isinstance(outcome, Denied):
            raise self._refused(identity, lease, outcome, missing)
        lease.reserve(missing)

    def _heard(self, lease: Lease, missing: Amounts, asking: asyncio.Task[Granted | Denied]) -> None:
        """Put what the store gave to what is spare; whoever asked takes it from there, unless they have left."""
        lease.slots_asked -= missing.slots
        if asking.cancelled() or asking.exception() is not None:
            return
        outcome = asking.result()
        lease.windows = outcome.requests, outcome.tokens
        if isinstance(outcome, Granted):
            lease.block = None
            lease.add(outcome.got)

    async def _ask(self, acquisition: Acquisition, lease: Lease) -> Granted | Denied:
        if self._clock() >= self._lost_until:
            try:
                async with asyncio.timeout(self._patience_s):
                    outcome = await self._store.acquire(acquisition)
                self._patience_s = _PATIENCE_S
                return outcome
            except (StoreUnavailableError, TimeoutError) as error:
                self._lost(error)
        part = {
            kind.name: max(1, most // self._replicas)
            for kind in LIMIT_KINDS
            if (most := acquisition.limits.limit(kind))
        }
        own = Acquisition(
            acquisition.team,
            acquisition.limits.model_copy(update=part),
            acquisition.holder,
            acquisition.sequence,
            acquisition.held,
            acquisition.need,
            Amounts(),
        )
        outcome = await self._alone.acquire(own)
        if isinstance(outcome, Granted):
            # The store is told once it is back, so that nobody has this twice.
            lease.correct(self._clock(), outcome.got.requests, outcome.got.tokens)
        return outcome

    def _lost(self, error: StoreUnavailableError | TimeoutError) -> None:
        now = self._clock()
        self._patience_s = _PATIENCE_S
        self._lost_until = now + _RETRY_STORE_S
        if now - self._reminded >= _REMIND_S:
            self._reminded = now
            logger.error(
                "limits are kept by each ingress replica alone, at 1/%d of each: %s %r",
                self._replicas,
                error,
                error.__cause__,
            )

    def _refuse_blocked(self, identity: Identity, lease: Lease, wanted: Amounts) -> None:
        """A flood that is refused anyway does not reach the store."""
        block, now = lease.block, self._clock()
        if block is None:
            return
        if now >= block.until:
            lease.block = None
        elif wanted.tokens >= block.tokens:
            block.told += 1
            wait = block.free_at - now + block.told * _step_s(block.limit, lease, wanted)
            raise _error(identity, block.limit, max(wait, 0.001))

    def _refused(self, identity: Identity, lease: Lease, refused: Denied, missing: Amounts) -> RateLimitError:
        wait, now = refused.retry_after_s, self._clock()
        if wait is None:
            wait = min(_LONGEST_SLOT_WAIT_S, 1 / lease.finishing.per_second) if lease.finishing.per_second else 1.0
        else:
            tokens = 0 if KIND_OF[refused.limit].unit == "requests" else missing.tokens
            lease.block = Block(refused.limit, tokens, now + min(_BLOCK_S, wait), now + wait)
        return _error(identity, refused.limit, wait)


def _limited(limits: Team) -> bool:
    return any(limits.limit(kind) is not None for kind in LIMIT_KINDS)


def _step_s(limit: str, lease: Lease, wanted: Amounts) -> float:
    """How much later the next one gets in."""
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
