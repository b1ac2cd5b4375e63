"""Registrations of backends and adapters that are added while serving: JSON by name, kept until removed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from serving.errors import StoreUnavailableError

_T = TypeVar("_T")

_LARGEST_FILE = 16 * 1024 * 1024


class Registrations(Protocol):
    """Registrations that all ingress replicas share. Every method raises StoreUnavailableError."""

    async def read(self) -> Mapping[str, str]:
        """All registrations: JSON by name."""
        ...

    async def put(self, name: str, value: str) -> None:
        """Keep a registration; replaces one of the same name."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a registration; False where there is none."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class MemoryRegistrations:
    """Registrations in memory, for one process."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def read(self) -> Mapping[str, str]:
        """See Registrations."""
        return dict(self._kept)

    async def put(self, name: str, value: str) -> None:
        """See Registrations."""
        self._kept[name] = value

    async def remove(self, name: str) -> bool:
        """See Registrations."""
        return self._kept.pop(name, None) is not None

    async def close(self) -> None:
        """See Registrations."""


class FileRegistrations:
    """Registrations in a JSON file that processes of one machine share, or of several where its disk is shared.

    Written whole and moved into place, under a lock beside it, so that no change is lost and no half of one is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> Mapping[str, str]:
        """See Registrations."""
        return await asyncio.to_thread(self._guarded, self._read)

    async def put(self, name: str, value: str) -> None:
        """See Registrations."""

        def add(kept: dict[str, str]) -> bool:
            kept[name] = value
            return True

        await asyncio.to_thread(self._guarded, lambda: self._change(add))

    async def remove(self, name: str) -> bool:
        """See Registrations."""
        return await asyncio.to_thread(
            self._guarded, lambda: self._change(lambda kept: kept.pop(name, None) is not None)
        )

    async def close(self) -> None:
        """See Registrations."""

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open(encoding="utf-8") as file:
                kept = json.loads(file.read(_LARGEST_FILE))
        except FileNotFoundError:
            return {}
        if not isinstance(kept, dict):
            raise ValueError("it holds no object")
        return {name: json.dumps(value) for name, value in kept.items()}

    def _change(self, change: Callable[[dict[str, str]], bool]) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_name(f"{self._path.name}.lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._read()
            if not change(kept):
                return False
            draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            text = json.dumps({name: json.loads(value) for name, value in kept.items()}, indent=1)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            draft.replace(self._path)
            return True

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except (OSError, ValueError) as error:
            raise StoreUnavailableError(f"The file of registrations, {self._path}, cannot be used: {error}") from error
