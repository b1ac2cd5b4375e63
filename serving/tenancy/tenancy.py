"""Tenancy of one process: authentication, rate limits, admission queues, usage and audit log."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from serving.background import Background
from serving.settings.tree import Settings
from serving.store.from_settings import redis_missing
from serving.telemetry.record import OnRecord
from serving.tenancy.audit import AuditLog
from serving.tenancy.auth.authenticator import Authenticator, admin_hash
from serving.tenancy.auth.team_directory import TeamDirectory
from serving.tenancy.auth.throttle import AuthThrottle
from serving.tenancy.auth.tokens import TokenAuthenticator
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.fleet import Fleet, FleetSize
from serving.tenancy.rate_limits.base import LimitStore
from serving.tenancy.rate_limits.limiter import Limiter
from serving.tenancy.rate_limits.memory import MemoryLimitStore
from serving.tenancy.usage.base import UsageStore
from serving.tenancy.usage.from_settings import make_usage_store
from serving.tenancy.usage.ledger import UsageLedger

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class Tenancy:
    """Tenancy of one process, made once with the application.

    `start` begins the background work, which needs an event loop; the first request calls it where the application has
    not. `close` ends that work. `clock` gives seconds since the epoch, `monotonic` seconds that never go back. The
    admission queues have the slots of the replicas in `fleet`, and without a fleet those of the fewest replicas in the
    settings. Raises SettingsError for a teams file or an admin key's file that is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        limit_store: LimitStore | None = None,
        usage_store: UsageStore | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self.directory = TeamDirectory(Path(settings.teams_file), clock) if settings.teams_file else None
        self.authenticator = Authenticator(self.directory, admin_hash(settings))
        self.tokens = (
            TokenAuthenticator(settings.oidc, self.directory, monotonic)
            if settings.oidc.issuer is not None and self.directory is not None
            else None
        )
        self.throttle = AuthThrottle(monotonic)
        self.limiter = Limiter(
            limit_store or make_limit_store(settings, clock),
            holder=uuid.uuid4().hex,
            replicas=settings.ingress_replicas,
            clock=monotonic,
            wall=clock,
        )
        self.ledger = UsageLedger(usage_store or make_usage_store(settings), clock, settings.usage.keep_days)
        name = f"{socket.gethostname()}-{os.getpid()}"
        self.audit = AuditLog(settings.audit, name, monotonic) if settings.audit.file is not None else None
        self.default_timeout_s = settings.admission.default_timeout_s
        self._settings = settings
        self._fleet = fleet
        self._size = FleetSize(
            {name: model.replicas.min for name, model in settings.models.items()}, settings.ingress_replicas
        )
        self._queues = {
            name: AdmissionQueue(name, self._capacity(name), monotonic, many_teams=self.directory is not None)
            for name in settings.models
        }
        self._background = Background()
        self._started = False

    @property
    def models(self) -> Collection[str]:
        """Names of the models in the settings."""
        return self._queues.keys()

    def admission(self, model: str) -> AdmissionQueue:
        """Admission queue of a model, by its name in the settings."""
        return self._queues[model]

    def resize(self, size: FleetSize) -> None:
        """Size the admission queues for so many replicas; what is not known stays as it is."""
        before = self._size
        self._size = FleetSize(
            {**before.engines, **size.engines},
            size.ingresses or before.ingresses,
            {**before.sequences, **size.sequences},
        )
        if self._size == before:
            return
        for name, queue in self._queues.items():
            queue.resize(self._capacity(name))
        logger.info(
            "the admission queues are sized for engines %s, shared by %s ingress replicas",
            self._size.engines,
            self._size.ingresses,
        )

    def _capacity(self, name: str) -> Capacity:
        size = self._size
        return Capacity.of(
            self._settings.models[name],
            self._settings.admission,
            sequences=size.sequences.get(name),
            replicas=size.engines[name],
            ingresses=size.ingresses or 1,
            background=self._settings.batches.share,
        )

    async def _follow(self, fleet: Fleet) -> None:
        while True:
            self.resize(fleet.size())
            await asyncio.sleep(_LOOK_EVERY_S)

    @property
    def sinks(self) -> tuple[OnRecord, ...]:
        """Observers of each finished request."""
        return (self.ledger.record, *((self.audit.record,) if self.audit else ()))

    def start(self) -> None:
        """Begin the background work; a second call does nothing."""
        if self._started:
            return
        self._started = True
        self._background.run(self.limiter.run(self.ledger.used_lately), "report to the store of limits")
        self._background.run(self.ledger.run(), "bring usage to its store")
        if self.audit is not None:
            self._background.run(self.audit.run(), "write the audit log")
        if self.directory is not None:
            self._background.run(self.directory.watch(), "watch the teams file")
        if self.tokens is not None:
            self._background.run(self.tokens.keys.run(), "read the identity provider's keys")
        if self._fleet is not None:
            self._background.run(self._follow(self._fleet), "follow the number of replicas")

    async def close(self) -> None:
        """End the background work, and close the stores. May be called more than once."""
        self._started = True  # nothing begins after the end
        await self._background.close()
        await self.limiter.close()
        await self.ledger.close()
        if self.audit is not None:
            await self.audit.close()
        if self.tokens is not None:
            await self.tokens.keys.close()


def make_limit_store(settings: Settings, clock: Callable[[], float]) -> LimitStore:
    """Make the limit store that the settings name; `memory` is this process's own. Raises SettingsError."""
    if settings.limits.backend == "redis" and settings.redis.url is not None:
        # Redis's client is an extra.
        try:
            from serving.tenancy.rate_limits.redis import RedisLimitStore
        except ImportError as error:
            raise redis_missing("limits.backend") from error
        return RedisLimitStore(settings.redis.url)
    return MemoryLimitStore(clock)
