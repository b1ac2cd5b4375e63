"""All adapters: those of the settings and those added since, by the names that clients use."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.background import Background
from serving.engine.base import Adapter, AdapterHost
from serving.errors import (
    ApiError,
    ConflictError,
    InvalidValueError,
    NotFoundError,
    StoreUnavailableError,
)
from serving.settings.tree import NAME_RULE, Settings, is_model_name
from serving.store.registrations import MemoryRegistrations, Registrations

logger = logging.getLogger(__name__)

_REFRESH_S = 2.0
_MOST_ADDED = 1000


@dataclass(frozen=True, slots=True)
class KnownAdapter:
    """An adapter and the model it is over; `declared` in the settings or added while serving."""

    model: str
    adapter: Adapter
    declared: bool


class Adapters:
    """The adapters of an application, those of the settings and those added; its maker calls `start` and `close`.

    `hosts` are the models' engines. `new_version` gives a token that never comes twice. Added adapters are shared
    through `registrations`: what one ingress replica is told the others know 2 s later. Engines need not be told: each
    request brings what an engine has to know (EngineRequest.adapter).
    """

    def __init__(
        self,
        settings: Settings,
        hosts: Mapping[str, AdapterHost],
        *,
        new_version: Callable[[], str],
        registrations: Registrations | None = None,
    ) -> None:
        self._models = models = settings.models
        self._taken = {*models, *settings.variants, *(alias for model in models.values() for alias in model.aliases)}
        self._hosts = hosts
        self._new_version = new_version
        self._registrations = registrations or MemoryRegistrations()
        self._declared = {
            adapter: KnownAdapter(name, Adapter(adapter, declared.source), declared=True)
            for name, model in models.items()
            for adapter, declared in model.adapters.items()
        }
        self._added: dict[str, KnownAdapter] = {}
        self._kept: Mapping[str, str] = {}
        self._background = Background()
        self._started = False
        self._changing = asyncio.Lock()
        self._unreadable = False

    def find(self, name: str) -> KnownAdapter | None:
        """The adapter that clients call `name`."""
        return self._declared.get(name) or self._added.get(name)

    def all(self) -> dict[str, KnownAdapter]:
        """Every adapter by its name, declared ones first."""
        return self._declared | self._added

    async def start(self) -> None:
        """Read what has been added, and keep reading; nothing the second time."""
        if self._started:
            return
        self._started = True
        await self._refresh()
        self._background.run(self._keep_current(), "read added adapters")

    async def close(self) -> None:
        """End it. May be called more than once."""
        await self._background.close()
        await self._registrations.close()

    async def add(self, name: str, model: str, source: str) -> KnownAdapter:
        """Have all engines of `model` load an adapter; from then on `name` means it. One of that name is replaced.

        Raises InvalidValueError naming the field, ConflictError where the model has no room for adapters,
        EngineNotReadyError where no engine runs that could load it, OverloadedError, StoreUnavailableError.
        """
        if not is_model_name(name):
            raise InvalidValueError(f"Invalid value for 'name': {NAME_RULE}.", param="name")
        if name in self._declared or name in self._taken:
            raise InvalidValueError(f"The settings have a model '{name}'; choose another name.", param="name")
        if model not in self._models:
            raise InvalidValueError(
                f"'{model}' is no model of this server; those are: {', '.join(self._models)}.", param="model"
            )
        host = self._host(model)
        known = KnownAdapter(model, Adapter(name, source, self._new_version()), declared=False)
        try:
            await host.load_adapter(known.adapter)
            before = await self._keep(known)
        except ApiError:
            await self._put_away(known)
            raise
        if before is not None:
            await self._put_away(before)
        return known

    async def remove(self, name: str) -> None:
        """Forget an added adapter, and have engines put it away once no answer under way uses it.

        Raises NotFoundError, InvalidValueError for one of the settings, StoreUnavailableError.
        """
        if name in self._declared:
            raise InvalidValueError(f"The adapter '{name}' is of the settings; remove it there.", param="name")
        async with self._changing:
            if not await self._registrations.remove(name):
                raise NotFoundError(f"No adapter '{name}' has been added.", param="name", code="adapter_not_found")
            gone = self._added.pop(name, None)
            self._kept = {kept: text for kept, text in self._kept.items() if kept != name}
        if gone is not None:
            await self._put_away(gone)

    async def _keep(self, known: KnownAdapter) -> KnownAdapter | None:
        """Have its name mean it, here and in the other processes; returns what the name meant before."""
        name, text = known.adapter.name, _text(known)
        async with self._changing:
            if name not in self._added and len(self._added) >= _MOST_ADDED:
                raise InvalidValueError(f"There are {_MOST_ADDED} added adapters already.", param="name")
            await self._registrations.put(name, text)
            before = self._added.get(name)
            self._added[name], self._kept = known, {**self._kept, name: text}
        return before

    def _host(self, model: str) -> AdapterHost:
        room = self._models[model].lora_settings
        host = self._hosts.get(model)
        if room is None or host is None:
            raise ConflictError(
                f"The engines of model '{model}' were started without room for adapters. Name the directories they may "
                f"lie in under `models.{model}.lora.directories` in the settings, and start the server again."
            )
        return host

    async def _put_away(self, known: KnownAdapter) -> None:
        """Tell the engines; one that does not hear it puts the adapter away when it needs the room."""
        host = self._hosts.get(known.model)
        if host is None:
            return
        try:
            await host.unload_adapter(known.adapter)
        except ApiError as error:
            logger.info("engines of %s were not told to put %r away: %s", known.model, known.adapter.name, error)

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self._refresh()

    async def _refresh(self) -> None:
        async with self._changing:
            try:
                kept = await self._registrations.read()
            except StoreUnavailableError as error:
                if not self._unreadable:
                    logger.error("%s Adapters that were known stay.", error)
                self._unreadable = True
                return
            self._unreadable = False
            if kept == self._kept:
                return
            self._kept = dict(kept)
            self._added = {
                name: known
                for name, text in kept.items()
                if name not in self._declared and (known := self._read(name, text)) is not None
            }

    def _read(self, name: str, text: str) -> KnownAdapter | None:
        """Adapter that another process or time has added; None for one that fits these settings no more."""
        try:
            value = json.loads(text)
            model, source, version = (str(value[field]) for field in ("model", "source", "version"))
        except (ValueError, TypeError, KeyError):
            logger.error("the added adapter %r is passed over: it cannot be read", name)
            return None
        if name in self._taken:
            logger.error("the added adapter %r is passed over: the settings have a model of that name", name)
            return None
        room = self._models[model].lora_settings if model in self._models else None
        if room is None:
            logger.error("the added adapter %r is passed over: no model %r has room for adapters", name, model)
            return None
        return KnownAdapter(model, Adapter(name, source, version), declared=False)


def _text(known: KnownAdapter) -> str:
    adapter = known.adapter
    return json.dumps({"model": known.model, "source": adapter.source, "version": adapter.version})
