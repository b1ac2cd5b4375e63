"""One model's life, as one ingress process knows it."""

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
    """Whoever runs the models' replicas."""

    def running(self, model: str) -> int | None:
        """How many can answer now; None while that is not known. Asks nobody."""
        ...

    def want(self, model: str, loaded: bool) -> None:
        """Told again and again what is wanted. Where others bring it about there is nothing to do."""
        ...

    async def close(self) -> None:
        """Stop what is under way. May be called more than once."""
        ...


class Observer(Protocol):
    """Counts what happens; the metrics of telemetry do."""

    def model_changed(self, model: str, loaded: bool, cause: Cause) -> None:
        """This process has had a model loaded or unloaded."""
        ...

    def model_back(self, model: str, seconds: float) -> None:
        """A model that this process has had loaded answers after so long."""
        ...

    def model_is(self, model: str, state: State) -> None:
        """How a model is now."""
        ...

    def requests_held(self, model: str, count: int) -> None:
        """So many requests wait for it here."""
        ...


class ModelLifecycle:
    """`take` is told what the store has, `attend` looks whether it is idle, `use` is told of each request."""

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
        """Whether it is to be loaded, as far as is known here."""
        return self._wanted

    @property
    def target(self) -> int | None:
        """How many replicas it is to have; None where whoever scales it has not said."""
        return self._target if self._wanted.loaded else 0

    @property
    def running(self) -> int | None:
        """How many replicas run; None while that is not known."""
        return self._replicas.running(self.name)

    @property
    def used_at(self) -> float | None:
        """When it was used last, in seconds since the epoch; None: not since anybody remembers."""
        return max(self._used, self._own_use) or None

    @property
    def state(self) -> State:
        """How it is now."""
        if self._wanted.loaded:
            return "loaded" if self.running else "loading"
        return "unloading" if self.running else "unloaded"

    @property
    def unloaded_on_purpose(self) -> bool:
        """True while it is unloaded, or being loaded again, because that was wanted: no fault of anybody's."""
        return not self._wanted.loaded or (self.state == "loading" and self.longest_wait > 0)

    @property
    def longest_wait(self) -> float:
        """How long a request that comes now may wait for it to be loaded, in seconds.

        None does where nobody has had it loaded lately: there is more to it then than the time that loading takes.
        """
        if self._wanted.cause == "settings":
            return 0.0
        longest = self.settings.hold.longest_s
        return longest if self._clock() - self._wanted.since < longest else 0.0

    def take(self, kept: Kept) -> None:
        """What the store has of it."""
        self._read_at = self._monotonic()
        self._target = kept.replicas
        self._used = max(self._used, kept.used or 0.0)
        if kept.wanted is not None:
            self._wanted = kept.wanted
        self._replicas.want(self.name, self._wanted.loaded)

    async def read(self) -> None:
        """Know what the store has now. Raises StoreUnavailableError."""
        self.take((await self._store.read([self.name]))[self.name])

    async def tick(self, busy: bool) -> None:
        """Once a second: say that it is used, or see that it is idle. Raises StoreUnavailableError."""
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
        """Have it loaded or unloaded; nothing where it is already. Raises StoreUnavailableError."""
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
        """A request has come. Has the model loaded where it may be.

        Raises ModelUnloadedError where an administrator has unloaded it, StoreUnavailableError.
        """
        self._own_use = self._clock()
        if not self._wanted.loaded:
            await self._reload()

    def refuse_if_gone(self) -> None:
        """Raise ModelUnloadedError where an administrator has unloaded it and no replica is left."""
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
        """Around the wait of a request for the model, with something to call again and again while it waits.

        That raises EngineNotReadyError after the longest wait, ModelUnloadedError where it is unloaded meanwhile. The
        block itself raises OverloadedError where too many wait.
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
        """When anybody last wanted it loaded."""
        return max(self._used, self._own_use, self._wanted.since, self._began)

    def _unloaded(self) -> ModelUnloadedError:
        return ModelUnloadedError(
            f"The model '{self.name}' is unloaded. Who runs this server can load it: "
            f"POST /admin/models/{self.name}/load.",
            param="model",
            should_retry=False,
        )
