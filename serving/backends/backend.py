"""One backend and its state: models, load, health."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from urllib.parse import urlsplit

from pydantic import SecretStr

from serving.backends.addresses import AllowList, Gate, is_loopback
from serving.backends.breaker import CircuitBreaker
from serving.backends.chunks import Chunk
from serving.backends.client import BackendClient
from serving.backends.dialects import DIALECTS, body
from serving.errors import ApiError, InvalidValueError, ModelNotFoundError
from serving.generation.types import ChatGeneration
from serving.settings.backends import BackendSettings, BackendsSettings, BackendType

logger = logging.getLogger(__name__)


class Backend:
    """Backend with its client and circuit breaker. `declared`: not registered. `clock` is monotonic.

    `listed` is what the server says it has, once it was asked; `models` are names that clients use, to the server's.
    """

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        section: BackendsSettings,
        clock: Callable[[], float],
        *,
        declared: bool,
    ) -> None:
        type_ = section.type_of(name, settings)
        url = section.url_of(type_, settings) if type_ is not None else None
        assert type_ is not None, "settings and registration refuse a backend without a type"
        assert url is not None, "and one without an address"
        self.name = name
        self.type: BackendType = type_
        self.url = url
        self.settings = settings
        self.declared = declared
        self.external = settings.external if settings.external is not None else not is_loopback(url)
        self.dialect = DIALECTS[type_]
        self.models: Mapping[str, str] = settings.models
        self.listed: Mapping[str, None] | None = None
        self.outstanding = 0
        self.turn = 0
        self.reachable: bool | None = None
        self.problem: str | None = None
        self.full_until = float("-inf")
        retry = section.patience
        self.breaker = CircuitBreaker(retry.failures, retry.closed_s, clock)
        key: SecretStr | None = section.key_of(type_, settings)
        self._gate = Gate(AllowList(section.allow), trusted=declared)
        self._client = BackendClient(name, url, key, self._gate, retry)
        self._clock = clock

    @property
    def ready(self) -> bool:
        """Whether the backend is reachable, allowed by its breaker and not full."""
        return self.breaker.allows and self.reachable is not False and self.waits_s <= 0

    @property
    def waits_s(self) -> float:
        """Seconds until the backend, which said that it is full, is tried again."""
        return max(0.0, self.full_until - self._clock())

    @property
    def load(self) -> float:
        """Requests under way, divided by the weight."""
        return self.outstanding / self.settings.weight

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its models that clients use, as far as is known."""
        return tuple(self.models or self.listed or ())

    def own_name(self, model: str) -> str | None:
        """Server's own name of `model`, which is a client's name or the server's own; None: not here."""
        if self.models:
            return self.models.get(model) or (model if model in self.models.values() else None)
        return model if self.listed is not None and model in self.listed else None

    def offers(self, name: str) -> bool:
        """Whether `name` is one of `names`."""
        return name in self.models if self.models else self.listed is not None and name in self.listed

    def public_name(self, model: str) -> str:
        """Client's name of `model`, which may be the server's own."""
        return next((name for name, own in self.models.items() if model in (name, own)), model)

    async def answer(self, request: ChatGeneration, model: str) -> AsyncGenerator[Chunk, None]:
        """Chunks of the answer; `model` is the server's name for it. Raises as BackendClient.chunks."""
        self.outstanding += 1
        try:
            async with aclosing(self._client.chunks(body(self.dialect, request, model))) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self.outstanding -= 1

    def full(self, for_s: float | None) -> None:
        """Note that the backend is full for `for_s` seconds; one second where it gave no time."""
        self.full_until = self._clock() + (1.0 if for_s is None else for_s)

    async def check(self) -> None:
        """Fetch its list of models and note whether it is reachable. Raises nothing for a server that is not."""
        was = self.reachable
        try:
            self.listed = dict.fromkeys(await self._client.models())
        except ModelNotFoundError:
            self.listed = self.listed or {}  # it answers, and lists nothing
        except ApiError as error:
            self.reachable, self.problem = False, error.message
            if was is not False:
                logger.warning("%s", error.message)
            return
        self.reachable, self.problem = True, None
        if was is False:
            logger.info("the backend '%s' answers again", self.name)

    async def check_address(self) -> None:
        """Raise InvalidValueError where its address is not allowed or cannot be resolved."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        try:
            await self._gate.open(host, parts.port or 0)
        except (OSError, UnicodeError) as error:
            raise InvalidValueError(f"No address is known for the host '{host}'.", param="url") from error

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()
