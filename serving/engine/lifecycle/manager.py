"""Manager of all models' lifecycles in one ingress process.

A store keeps the wanted state of each model, and all processes read it once a second. `Replicas` bring that state
about: in a cluster, the policy by which Ray Serve scales a model. The policy ends replicas only after every process has
read that none are wanted, so that no request goes to an ending replica.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from serving.background import Background
from serving.engine.base import EngineReport, Sleeper
from serving.engine.lifecycle.model import ModelLifecycle, Observer, Replicas
from serving.engine.lifecycle.store import LifecycleStore
from serving.errors import ConflictError, EngineNotReadyError, ModelNotFoundError, StoreUnavailableError
from serving.settings.tree import Settings

logger = logging.getLogger(__name__)

REFRESH_S = 1.0
_LOOK_EVERY_S = 0.1

Change = Literal["load", "unload", "sleep", "wake"]


class Busy(Protocol):
    """Callback: whether requests to a model are at work."""

    def __call__(self, model: str) -> bool:
        """True while an engine works on a request to `model`."""
        ...


class ModelManager:
    """The models' lifecycles; the maker of the application makes it once, starts and closes it.

    `sleepers` are the engines that can be put to sleep. `clock` gives seconds since the epoch, `monotonic` seconds
    that never go back.
    """

    def __init__(
        self,
        settings: Settings,
        sleepers: Mapping[str, Sleeper],
        store: LifecycleStore,
        replicas: Replicas,
        observer: Observer,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._sleepers = sleepers
        self._store = store
        self._replicas = replicas
        self._observer = observer
        self._clock = clock
        self._lifecycles = {
            name: ModelLifecycle(name, model, store, replicas, observer, clock=clock, monotonic=monotonic)
            for name, model in settings.models.items()
        }
        self._busy: Busy = _idle
        self._background = Background()
        self._started = False
        self._unreadable = False

    def watch(self, busy: Busy) -> None:
        """Ask `busy`, once a second, whether a model is in use: a long answer uses it without a new request."""
        self._busy = busy

    def of(self, model: str) -> ModelLifecycle:
        """The lifecycle of a model, by its name in the settings; raises ModelNotFoundError."""
        lifecycle = self._lifecycles.get(model)
        if lifecycle is None:
            raise ModelNotFoundError(
                f"The settings have no model '{model[:64]}'; they have {', '.join(self._lifecycles)}.", param="name"
            )
        return lifecycle

    def all(self) -> list[ModelLifecycle]:
        """All of them."""
        return list(self._lifecycles.values())

    async def start(self) -> None:
        """Read what is wanted, and keep reading; nothing the second time."""
        if self._started:
            return
        self._started = True
        await self._refresh()
        self._background.run(self._keep_current(), "follow the lifecycles of models")

    async def close(self) -> None:
        """End it. May be called more than once."""
        await self._background.close()
        await self._replicas.close()

    async def change(self, model: str, change: Change) -> ModelLifecycle:
        """Begin a change that an administrator asks for.

        Raises ModelNotFoundError, ConflictError where a model that is not loaded, or cannot, is to sleep or to wake,
        EngineNotReadyError, StoreUnavailableError.
        """
        lifecycle = self.of(model)
        match change:
            case "load" | "unload":
                await lifecycle.want(loaded=change == "load", cause="admin")
            case "sleep" | "wake":
                await lifecycle.read()
                if lifecycle.state != "loaded":
                    raise ConflictError(
                        f"The model '{model}' is {lifecycle.state}, and only a loaded one can {change}."
                    )
                sleeper = self._sleeper(model)
                await (sleeper.sleep() if change == "sleep" else sleeper.wake())
        return lifecycle

    async def reached(self, lifecycle: ModelLifecycle, change: Change, *, wait: bool) -> bool:
        """Whether `change` is complete; with `wait`, wait for that as long as requests may wait for the model."""
        goal = {"load": "loaded", "unload": "unloaded"}.get(change, lifecycle.state)
        if not wait:
            return lifecycle.state == goal
        try:
            async with asyncio.timeout(lifecycle.settings.hold.longest_s):
                while True:
                    if lifecycle.state == goal:
                        return True
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            return False

    async def reports(self, model: str) -> list[EngineReport]:
        """Reports of the model's replicas that answer."""
        sleeper = self._sleepers.get(model)
        if sleeper is None:
            return []
        try:
            return await sleeper.reports()
        except EngineNotReadyError:
            return []

    async def read(self) -> None:
        """Read the changes of other processes from the store; keep the last state if the store cannot be read."""
        await self._refresh()

    def observe(self) -> None:
        """Give the observer the current states; called before each scrape."""
        for lifecycle in self._lifecycles.values():
            self._observer.model_is(lifecycle.name, lifecycle.state)
            self._observer.requests_held(lifecycle.name, lifecycle.held)

    def _sleeper(self, model: str) -> Sleeper:
        sleeper = self._sleepers.get(model)
        if sleeper is None:
            raise ConflictError(f"The engines of model '{model}' cannot sleep; use unload.")
        return sleeper

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            kept = await self._store.read(self._lifecycles)
            for name, lifecycle in self._lifecycles.items():
                lifecycle.take(kept[name])
                await lifecycle.tick(self._busy(name))
        except StoreUnavailableError as error:
            if not self._unreadable:
                logger.error("%s Models stay as they are.", error)
            self._unreadable = True
        else:
            self._unreadable = False


def _idle(model: str) -> bool:
    return False
