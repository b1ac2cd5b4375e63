"""Registry of all backends, from the settings and registered since, with periodic health checks."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serving.backends.backend import Backend
from serving.backends.client import quiet_client
from serving.backends.routing import Endpoint, Router
from serving.background import Background
from serving.errors import InvalidValueError, NotFoundError, StoreUnavailableError
from serving.settings.backends import BackendSettings, BackendsSettings
from serving.store.registrations import MemoryRegistrations, Registrations

logger = logging.getLogger(__name__)

_REFRESH_S = 2.0
_MOST_REGISTERED = 1000


@dataclass(frozen=True, slots=True)
class ResolvedBackend:
    """Model that backends serve: its name for clients, and its endpoints."""

    name: str
    endpoints: tuple[Endpoint, ...]

    def inside(self) -> ResolvedBackend:
        """The same without external endpoints."""
        return ResolvedBackend(
            self.name, tuple(endpoint for endpoint in self.endpoints if not endpoint.backend.external)
        )

    @property
    def group(self) -> str:
        """Names of the backends, joined."""
        return ", ".join(sorted(endpoint.backend.name for endpoint in self.endpoints))


class Backends:
    """Registry of the backends of one process; its owner calls `start` and `close`.

    `clock` is monotonic. Registered backends are shared through `registrations`: what one ingress replica is told the
    others know 2 s later.
    """

    def __init__(
        self,
        section: BackendsSettings,
        *,
        clock: Callable[[], float],
        registrations: Registrations | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._section = section
        self._clock = clock
        self._registrations = registrations or MemoryRegistrations()
        self._kept: dict[str, str] = {}
        self._backends: dict[str, Backend] = {
            name: Backend(name, backend, section, clock, declared=True) for name, backend in section.servers.items()
        }
        self._retired: list[Backend] = []
        self._background = Background()
        self._started = False
        self._unreadable = False
        self.router = Router(section.patience, uniform)
        quiet_client()

    @property
    def external(self) -> bool:
        """Whether requests may go to external backends where there are no teams."""
        return self._section.external

    @property
    def concurrent_requests(self) -> int:
        """Requests under way at one group of backends, at most."""
        return self._section.concurrent_requests

    def all(self) -> list[Backend]:
        """All backends, declared ones first."""
        return list(self._backends.values())

    def names(self) -> dict[str, tuple[Backend, ...]]:
        """Backends by the model names that clients may use."""
        names: dict[str, tuple[Backend, ...]] = {}
        for backend in self._backends.values():
            for name in backend.names:
                names[name] = (*names.get(name, ()), backend)
        return names

    def find(self, name: str) -> ResolvedBackend | None:
        """Endpoints of the model `name`, or `PROVIDER:MODEL`; None where no backend has it.

        A provider is a backend's name, or a type for all backends of that type.
        """
        everywhere = tuple(
            Endpoint(backend, own)
            for backend in self._backends.values()
            if backend.offers(name) and (own := backend.own_name(name)) is not None
        )
        if everywhere:
            return ResolvedBackend(name, everywhere)
        provider, colon, model = name.partition(":")
        if not colon or not model:
            return None
        named = self._backends.get(provider)
        there = [named] if named else [b for b in self._backends.values() if b.type == provider]
        # A server that was not reached yet may have the model: it says so itself when it is asked.
        endpoints = tuple(
            Endpoint(backend, own)
            for backend in there
            if (own := backend.own_name(model) or (model if not backend.models and backend.listed is None else None))
        )
        return ResolvedBackend(endpoints[0].backend.public_name(model), endpoints) if endpoints else None

    async def start(self) -> None:
        """Read the registrations, check every backend once, and repeat both in the background. Idempotent."""
        if self._started:
            return
        self._started = True
        await self._refresh()
        await asyncio.gather(*(backend.check() for backend in self._backends.values()))
        self._background.run(self._keep_current(), "read registered backends")
        self._background.run(self._keep_checking(), "look at backends")

    async def close(self) -> None:
        """Stop the background tasks and close all connections. May be called more than once."""
        self._started = True  # nothing begins after the end
        await self._background.close()
        for backend in (*self._backends.values(), *self._retired):
            await backend.close()
        await self._registrations.close()

    async def register(self, name: str, settings: BackendSettings) -> Backend:
        """Add a backend, or replace a registered one, and check it once.

        Raises InvalidValueError where the settings have one of that name, where it is at an address that is not
        allowed, or has a key that may not be used; StoreUnavailableError.
        """
        if name in self._section.servers:
            raise InvalidValueError(f"The settings have a backend '{name}'; choose another name.", param="name")
        if name not in self._kept and len(self._kept) >= _MOST_REGISTERED:
            raise InvalidValueError(f"There are {_MOST_REGISTERED} registered backends already.", param="name")
        type_ = self._section.type_of(name, settings)
        if type_ is None or self._section.url_of(type_, settings) is None:
            raise InvalidValueError(
                "Missing required parameter: 'url'.", param="url", code="missing_required_parameter"
            )
        if settings.api_key_env is not None and settings.api_key_env not in self._section.keys:
            raise InvalidValueError(
                f"No key is known by the name {settings.api_key_env}. The environment of this server must have the "
                "variable when it starts, and `backends.key_variables` must name it.",
                param="api_key_env",
            )
        backend = Backend(name, settings, self._section, self._clock, declared=False)
        try:
            await backend.check_address()
            text = settings.model_dump_json(exclude_defaults=True)
            await self._registrations.put(name, text)
        except BaseException:
            await backend.close()
            raise
        self._adopt(name, text, backend)
        await backend.check()
        return backend

    async def remove(self, name: str) -> None:
        """Remove a registered backend; its answers under way go on. Raises NotFoundError, InvalidValueError."""
        if name in self._section.servers:
            raise InvalidValueError(f"The backend '{name}' is of the settings; remove it there.", param="name")
        if not await self._registrations.remove(name):
            raise NotFoundError(f"No backend '{name}' is registered.", param="name", code="backend_not_found")
        self._drop(name)

    def _adopt(self, name: str, text: str, backend: Backend) -> None:
        self._drop(name)
        self._backends[name], self._kept[name] = backend, text

    def _drop(self, name: str) -> None:
        self._kept.pop(name, None)
        if (gone := self._backends.pop(name, None)) is not None:
            self._retired.append(gone)

    async def _refresh(self) -> None:
        try:
            kept = await self._registrations.read()
        except StoreUnavailableError as error:
            if not self._unreadable:
                logger.error("%s Backends that were known stay.", error)
            self._unreadable = True
            return
        self._unreadable = False
        for name in [name for name in self._kept if name not in kept]:
            self._drop(name)
        for name, text in kept.items():
            if name not in self._section.servers and self._kept.get(name) != text:
                self._take(name, text)

    def _take(self, name: str, text: str) -> None:
        """A registration of another process or time; one that this version cannot use is passed over."""
        try:
            settings = BackendSettings.model_validate(_plain(text))
            type_ = self._section.type_of(name, settings)
            if type_ is None or self._section.url_of(type_, settings) is None:
                raise ValueError("it has no address")
        except (ValidationError, ValueError) as error:
            self._kept[name] = text
            logger.error("the registered backend %r is passed over: %s", name, error)
            return
        self._adopt(name, text, Backend(name, settings, self._section, self._clock, declared=False))

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self._refresh()
            idle = [backend for backend in self._retired if not backend.outstanding]
            self._retired = [backend for backend in self._retired if backend.outstanding]
            for backend in idle:
                await backend.close()
            fresh = [backend for backend in self._backends.values() if backend.reachable is None]
            await asyncio.gather(*(backend.check() for backend in fresh))

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(self._section.patience.check_every_s)
            await asyncio.gather(*(backend.check() for backend in self._backends.values()))


def _plain(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value
