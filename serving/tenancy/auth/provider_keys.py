"""Keys of an identity provider: found by its discovery document, kept, and read again as they rotate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
from pydantic_core import from_json

from serving.errors import StoreUnavailableError
from serving.settings.oidc import OidcSettings

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_MOST_BYTES = 512 * 1024
_COOL_DOWN_S = 10.0
"""Least time between two reads for tokens with an unknown key, as anybody can send such tokens."""
_LONGEST_STALE_S = 3600.0
"""Time for which keys are valid while the provider is away."""


class ProviderKeys:
    """Public keys of the provider, by id. `clock` is monotonic, in seconds.

    Each read replaces all keys: one that the provider withdraws is valid no longer. While the provider cannot be
    reached, the last keys are, for an hour.
    """

    def __init__(self, settings: OidcSettings, clock: Callable[[], float]) -> None:
        assert settings.issuer is not None
        self._settings = settings
        self._issuer = settings.issuer
        self._clock = clock
        self._keys: list[dict[str, Any]] = []
        self._read_at: float | None = None
        self._tried_at = float("-inf")
        self._reading = asyncio.Lock()
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False)

    async def run(self) -> None:
        """Read the keys again and again, until cancelled."""
        while True:
            await self._read(at_least_s=0.0)
            await asyncio.sleep(self._settings.refresh_s)

    async def close(self) -> None:
        """Close connections. May be called more than once."""
        await self._http.aclose()

    async def find(self, key_id: str | None) -> list[dict[str, Any]]:
        """Keys that may have signed a token, as JSON Web Keys; none for an id that the provider does not publish.

        Raises StoreUnavailableError where the provider's keys are not known.
        """
        found = self._matching(key_id)
        if not found or self._stale:
            await self._read(at_least_s=_COOL_DOWN_S)
            found = self._matching(key_id)
        if self._stale:
            raise StoreUnavailableError(
                "The identity provider cannot be reached, so no token can be checked now. Keys work.",
                code="identity_provider_unavailable",
                retry_after_s=5,
            )
        return found

    @property
    def _stale(self) -> bool:
        return self._read_at is None or self._clock() - self._read_at > _LONGEST_STALE_S

    def _matching(self, key_id: str | None) -> list[dict[str, Any]]:
        return [key for key in self._keys if key_id is None or key.get("kid") == key_id]

    async def _read(self, *, at_least_s: float) -> None:
        """Read the keys, unless the last try was less than `at_least_s` ago."""
        async with self._reading:
            if self._clock() - self._tried_at < at_least_s:
                return
            self._tried_at = self._clock()
            try:
                document = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if document.get("issuer") != self._issuer:
                    raise ValueError(f"its document is of another issuer, {str(document.get('issuer'))[:200]!r}")
                address = str(document.get("jwks_uri"))
                if not self._settings.allows(address):
                    raise ValueError(f"its jwks_uri, {address[:200]!r}, is not https")
                keys = (await self._json(address)).get("keys")
                self._keys = [key for key in keys or () if _is_usable(key)] if isinstance(keys, list) else []
                self._read_at = self._clock()
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
                logger.error("the keys of the identity provider %s cannot be read: %r", self._issuer, error)

    async def _json(self, address: str) -> dict[str, Any]:
        """JSON object at an address; raises ValueError for anything else, and httpx2's errors."""
        async with self._http.stream("GET", address, headers={"accept": "application/json"}) as reply:
            if reply.status_code != 200:
                raise ValueError(f"{address} answered {reply.status_code}")
            body = bytearray()
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"{address} answered with more than {_MOST_BYTES} bytes")
        value = from_json(bytes(body))
        if not isinstance(value, dict):
            raise ValueError(f"{address} answered with no JSON object")
        return value


def _is_usable(key: Any) -> bool:
    """Whether a JSON Web Key is a public one for signatures that this server can read; others are left out."""
    if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
        return False
    try:
        jwt.PyJWK(key)
    except jwt.PyJWTError:
        return False
    return True
