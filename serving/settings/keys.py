"""API keys: their format, creation, storage and comparison.

A key is `sk-`, 10 characters that name it, 43 that are secret (256 random bits), 6 of checksum; letters and digits
alone, so that a double click takes all of it. What is stored is the name and a salted hash of the secret.

The hash is one keyed pass of BLAKE2b, not bcrypt or Argon2. Those are slow on purpose, because passwords that people
choose can be guessed; 256 random bits cannot, at any speed, so slowness would only be a way to keep the server busy.
The salt keeps two stored hashes from being compared with each other or looked up in a table.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "sk-"
ID_LENGTH = 10
_SECRET_LENGTH = 43  # 62 ** 43 is just above 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 is above 2 ** 32
_ALPHABET = string.digits + string.ascii_letters
_SCHEME = "blake2b"
_SALT_BYTES = hashlib.blake2b.SALT_SIZE
_DIGEST_BYTES = 32

KEY_ID = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}")
_KEY = re.compile(
    rf"sk-(?P<id>[0-9A-Za-z]{{{ID_LENGTH}}})(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}})"
    rf"(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})",
    re.ASCII,
)
_STORED = re.compile(
    rf"{_SCHEME}:(?P<salt>[0-9a-f]{{{2 * _SALT_BYTES}}}):(?P<digest>[0-9a-f]{{{2 * _DIGEST_BYTES}}})", re.ASCII
)
_LOOKS_LIKE_A_KEY = re.compile(r"sk-[0-9A-Za-z_-]{8,}")


@dataclass(frozen=True, slots=True)
class KeyHash:
    """Hash of a secret, written as `blake2b:SALT:DIGEST`, 16 and 32 bytes in hexadecimal."""

    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        return f"{_SCHEME}:{self.salt.hex()}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> KeyHash:
        """Parse `text`; raises ValueError, which never repeats `text`: it may be a key, put into the wrong place."""
        found = _STORED.fullmatch(text)
        if found is None:
            raise ValueError(f"should be {_SCHEME}:SALT:DIGEST, as `serving keys new` prints it")
        return cls(bytes.fromhex(found["salt"]), bytes.fromhex(found["digest"]))

    def matches(self, secret: str) -> bool:
        """Whether `secret` has this hash; takes the same time either way."""
        return hmac.compare_digest(_digest(secret, self.salt), self.digest)


@dataclass(frozen=True, slots=True)
class Key:
    """API key in the clear, which only its owner has; its repr hides the secret."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    @property
    def text(self) -> str:
        """Text of the key, as a client sends it."""
        return f"{PREFIX}{self.id}{self.secret}{_checksum(self.id + self.secret)}"

    def hashed(self, salt: bytes) -> KeyHash:
        """Hash to store; `salt` is 16 random bytes."""
        return KeyHash(salt, _digest(self.secret, salt))


def new_key(choose: Callable[[str], str] = secrets.choice) -> Key:
    """Make a random key."""
    return Key(
        "".join(choose(_ALPHABET) for _ in range(ID_LENGTH)), "".join(choose(_ALPHABET) for _ in range(_SECRET_LENGTH))
    )


def new_salt() -> bytes:
    """Make 16 random bytes for Key.hashed."""
    return secrets.token_bytes(_SALT_BYTES)


def split(text: str) -> Key | None:
    """Split a key into its parts; None for a text that cannot be a key. Ignores the checksum: see is_mistyped."""
    found = _KEY.fullmatch(text)
    return Key(found["id"], found["secret"]) if found else None


def is_mistyped(text: str) -> bool:
    """Whether `text` contradicts its checksum, so that it is no key as it was printed.

    For people at their own terminal. A server says nothing of it: to a stranger it would be a hint.
    """
    key = split(text)
    return key is None or key.text != text


def hide_keys(text: str) -> str:
    """Mask everything in `text` that looks like a key, for messages and logs."""
    return _LOOKS_LIKE_A_KEY.sub(f"{PREFIX}...", text)


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), salt=salt, digest_size=_DIGEST_BYTES).digest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits: list[str] = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
