"""The lifecycle of one model in one ingress process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from serving.engine.lifecycle.state import Cause, State
from serving.engine.lifecycle.store import Kept, LifecycleStore, Wanted
from serving.errors import EngineNotReadyError, ModelUnloadedError, OverloadedError
from serving.settings.lifecycle import IdleSettings
from serving.settings.models import ModelSettings

logger = logging.getLogger(__name__)

# What is known is at most so old when a request is refused for it.
_FRESH_S = 0.2
_RETRY_AFTER_S = 5.0


class Replicas(Protocol):
    """The replicas of all models: a protocol of the cluster, and of a single process."""

    def running(self, model: str) -> int | None:
        """Number of running replicas, from memory; None while it is unknown."""
        ...

    def want(self, model: str, loaded: bool) -> None:
        """Load or unload the model. Called repeatedly; does nothing where the cluster follows the store itself."""
        ...

    async def close(self) -> None:
        """Stop what is under way. May be called more than once."""
        ...


class Observer(Protocol):
    """Counts what happens; the metrics of telemetry do."""

    def model_changed(self, model: str, loaded: bool, cause: Cause) -> None:
        """This process has begun to load or unload a model."""
        ...

    def model_back(self, model: str, seconds: float) -> None:
        """A model that this process loads is ready, after `seconds`."""
        ...

    def model_is(self, model: str, state: State) -> None:
        """The current state of a model."""
        ...

    def requests_held(self, model: str, count: int) -> None:
        """Number of requests that wait for a model in this process."""
        ...


class ModelLifecycle:
    """The lifecycle of one model: `take` the store's state, `tick` once a second, `ensure_loaded` for each request."""

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        store: LifecycleStore,
        replicas: Replicas,
        observer: Observer,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.name = name
        self.settings = settings
        self.held = 0
        self._store = store
        self._replicas = replicas
        self._observer = observer
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock()
        self._wanted = Wanted(loaded=settings.replicas.min > 0, cause="settings", since=self._began)
        self._target: int | None = None
        self._read_at = float("-inf")
        self._used = 0.0
        self._own_use = 0.0
        self._loading_since: float | None = None
        idle = settings.idle_settings
        self._idle: IdleSettings | None = idle if idle is not None and idle.action == "unload" else None

    @property
    def wanted(self) -> Wanted:
        """The wanted state, as last read from the store or changed here."""
        return self._wanted

    @property
    def target(self) -> int | None:
        """Number of replicas that the autoscaler wants; None before the autoscaler has said so."""
        return self._target if self._wanted.loaded else 0

    @property
    def running(self) -> int | None:
        """Number of running replicas; None while it is unknown."""
        return self._replicas.running(self.name)

    @property
    def used_at(self) -> float | None:
        """Time of the last use, in seconds since the epoch; None if there is no record."""
        return max(self._used, self._own_use) or None

    @property
    def state(self) -> State:
        """The current state."""
        if self._wanted.loaded:
            return "loaded" if self.running else "loading"
        return "unloading" if self.running else "unloaded"

    @property
    def unloaded_on_purpose(self) -> bool:
        """True while the model is unloaded, or being loaded again, because that was wanted: no failure."""
        return not self._wanted.loaded or (self.state == "loading" and self.longest_wait > 0)

    @property
    def longest_wait(self) -> float:
        """Seconds that a request that comes now may wait for loading.

        0 unless the wanted state changed within `hold.longest_s`: later, loading alone does not explain its absence.
        """
        if self._wanted.cause == "settings":
            return 0.0
        longest = self.settings.hold.longest_s
        return longest if self._clock() - self._wanted.since < longest else 0.0

    def take(self, kept: Kept) -> None:
        """Adopt the store's state."""
        self._read_at = self._monotonic()
        self._target = kept.replicas
        self._used = max(self._used, kept.used or 0.0)
        if kept.wanted is not None:
            self._wanted = kept.wanted
        self._replicas.want(self.name, self._wanted.loaded)

    async def read(self) -> None:
        """Adopt the store's state of this moment. Raises StoreUnavailableError."""
        self.take((await self._store.read([self.name]))[self.name])

    async def tick(self, busy: bool) -> None:
        """Record use, and unload the model if it is idle; called once a second. Raises StoreUnavailableError."""
        if self._loading_since is not None and self.state == "loaded":
            self._observer.model_back(self.name, self._monotonic() - self._loading_since)
            self._loading_since = None
        if busy or self.held:
            self._own_use = self._clock()
        if self._idle is None:
            return
        if self._own_use > self._used:
            self._used = self._own_use
            await self._store.use(self.name, self._own_use)
        if not self._wanted.loaded:
            # It was unloaded while a request came here, of which nobody had heard yet.
            if self._wanted.cause == "idle" and self._own_use > self._wanted.since:
                await self.want(loaded=True, cause="request")
        elif self.running and self._clock() - self._last_wanted() >= self._idle.after_s:
            await self.want(loaded=False, cause="idle")

    async def want(self, *, loaded: bool, cause: Cause) -> None:
        """Load or unload the model; do nothing if it is so already. Raises StoreUnavailableError."""
        await self.read()
        before = self._wanted
        # What an administrator unloads stays so, though it was unloaded already.
        if before.loaded == loaded and (loaded or cause != "admin" or before.cause == "admin"):
            return
        self._wanted = Wanted(loaded, cause, self._clock())
        await self._store.want(self.name, self._wanted)
        self._replicas.want(self.name, loaded)
        if before.loaded != loaded:
            self._loading_since = self._monotonic() if loaded else None
            self._observer.model_changed(self.name, loaded, cause)
            logger.info("model %s is to be %s (%s)", self.name, "loaded" if loaded else "unloaded", cause)

    async def ensure_loaded(self) -> None:
        """Record a request's use, and load the model if it is unloaded.

        Raises ModelUnloadedError if an administrator has unloaded it, StoreUnavailableError.
        """
        self._own_use = self._clock()
        if not self._wanted.loaded:
            await self._reload()

    def refuse_if_gone(self) -> None:
        """Raise ModelUnloadedError if an administrator has unloaded the model and no replica is left."""
        if not self._wanted.loaded and self._wanted.cause == "admin" and not self.running:
            raise self._unloaded()

    async def _reload(self) -> None:
        if self._monotonic() - self._read_at > _FRESH_S:
            await self.read()
        wanted = self._wanted
        if not wanted.loaded and wanted.cause == "admin":
            raise self._unloaded()
        if not wanted.loaded:
            await self.want(loaded=True, cause="request")

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[], None]]:
        """Context of a request's wait for the model; gives a check that the request calls while it waits.

        The check raises EngineNotReadyError after the longest wait, and ModelUnloadedError if an administrator unloads
        the model meanwhile. Entering the context raises OverloadedError if too many requests wait.
        """
        if self.held >= self.settings.hold.most:
            raise OverloadedError(
                f"{self.held} requests wait for model '{self.name}', which is being loaded. Try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        longest = self.settings.hold.longest_s
        give_up = self._monotonic() + longest

        def look() -> None:
            if not self._wanted.loaded and self._wanted.cause == "admin":
                raise self._unloaded()
            if self._monotonic() > give_up:
                raise EngineNotReadyError(
                    f"The model '{self.name}' is still being loaded after {longest:g} s.",
                    retry_after_s=_RETRY_AFTER_S,
                )

        self.held += 1
        try:
            yield look
        finally:
            self.held -= 1

    def _last_wanted(self) -> float:
        """Time of the last use or wish to load."""
        return max(self._used, self._own_use, self._wanted.since, self._began)

    def _unloaded(self) -> ModelUnloadedError:
        return ModelUnloadedError(
            f"The model '{self.name}' is unloaded. Who runs this server can load it: "
            f"POST /admin/models/{self.name}/load.",
            param="model",
            should_retry=False,
        )
