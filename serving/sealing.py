"""Sealed texts: authenticated encryption of what clients keep for the server, such as a model's analysis.

AES-256-GCM, under a key for each pair of team and model (HKDF-SHA256). Team and model are associated data too. A sealed
text names its key, team and model by 4 bytes of a keyed hash each, so that a refusal can say which of them is another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from serving.errors import SealError

_PREFIX = "gos1_"
_MARK_BYTES = 4
_NONCE_BYTES = 12
_HEAD_BYTES = 3 * _MARK_BYTES + _NONCE_BYTES
SECRET_BYTES = 32


def secret_of(text: str) -> bytes:
    """Secret of 32 bytes that a key in the settings stands for."""
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal of one team and model: close() encrypts under the first of `secrets`, open() decrypts under each of them.

    `purpose` keeps apart what is sealed for different uses.
    """

    secrets: Sequence[bytes]
    team: str
    model: str
    purpose: Literal["reasoning", "compaction"] = "reasoning"

    def __repr__(self) -> str:
        return f"Seal(team={self.team!r}, model={self.model!r}, purpose={self.purpose!r})"

    @property
    def compacting(self) -> Seal:
        """The seal of compacted conversations."""
        return replace(self, purpose="compaction")

    def close(self, text: str) -> str:
        """The sealed form of `text`: letters, digits, `-` and `_`; another one each time."""
        secret = self.secrets[0]
        nonce = os.urandom(_NONCE_BYTES)
        head = self._marks(secret) + nonce
        sealed = AESGCM(self._key(secret)).encrypt(nonce, text.encode("utf-8", "surrogatepass"), self._bound_to(head))
        return _PREFIX + base64.urlsafe_b64encode(head + sealed).decode().rstrip("=")

    def open(self, sealed: str) -> str:
        """The text that close() was given; raises SealError, which says why it cannot be read."""
        blob = _decoded(sealed)
        head, body = blob[:_HEAD_BYTES], blob[_HEAD_BYTES:]
        for secret in self.secrets:
            key_mark, team_mark, model_mark = (
                self._mark(secret, name) for name in ("key:", f"team:{self.team}", f"model:{self.model}")
            )
            if not hmac.compare_digest(head[:_MARK_BYTES], key_mark):
                continue
            if not hmac.compare_digest(head[_MARK_BYTES : 2 * _MARK_BYTES], team_mark):
                raise SealError("it was made for another team")
            if not hmac.compare_digest(head[2 * _MARK_BYTES : 3 * _MARK_BYTES], model_mark):
                raise SealError("it was made by another model")
            nonce = head[3 * _MARK_BYTES :]
            try:
                text = AESGCM(self._key(secret)).decrypt(nonce, body, self._bound_to(head))
            except InvalidTag as error:
                raise SealError("it was changed, cut short, or made for another use") from error
            return text.decode("utf-8", "surrogatepass")
        raise SealError("it was encrypted under a key that this server does not have, or no longer has")

    def _marks(self, secret: bytes) -> bytes:
        names = ("key:", f"team:{self.team}", f"model:{self.model}")
        return b"".join(self._mark(secret, name) for name in names)

    @staticmethod
    def _mark(secret: bytes, name: str) -> bytes:
        return hmac.digest(secret, name.encode(), "sha256")[:_MARK_BYTES]

    def _key(self, secret: bytes) -> bytes:
        return HKDF(SHA256(), length=32, salt=None, info=self._bound_to(b"key")).derive(secret)

    def _bound_to(self, head: bytes) -> bytes:
        names = (self.purpose, self.team, self.model)
        return head + b"".join(len(name.encode()).to_bytes(4, "big") + name.encode() for name in names)


def _decoded(sealed: str) -> bytes:
    if not sealed.startswith(_PREFIX):
        raise SealError("it was not encrypted by this server")
    text = sealed.removeprefix(_PREFIX)
    try:
        blob = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise SealError("it was changed or cut short") from error
    if len(blob) < _HEAD_BYTES:
        raise SealError("it was changed or cut short")
    return blob


def is_ours(sealed: str) -> bool:
    """Whether a sealed text has the form of ours, under whatever key."""
    return sealed.startswith(_PREFIX)


class Seals:
    """Seals of all teams and models, under the secrets that `secrets` gives; it is asked once.

    What it raises, such as StoreUnavailableError, passes through, and the next seal asks again.
    """

    def __init__(self, secrets: Callable[[], Awaitable[Sequence[bytes]]]) -> None:
        self._ask = secrets
        self._secrets: Sequence[bytes] | None = None

    async def of(self, team: str, model: str) -> Seal:
        """The seal of a team and a model."""
        if self._secrets is None:
            self._secrets = await self._ask()
        return Seal(self._secrets, team, model)


def random_secret() -> Callable[[], Awaitable[bytes]]:
    """Source of one secret that is made at random now, for a process that is the whole service."""
    secret = os.urandom(SECRET_BYTES)

    async def give() -> bytes:
        return secret

    return give
