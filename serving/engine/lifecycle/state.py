"""States of a model, and their causes."""

from __future__ import annotations

from typing import Literal

State = Literal["loaded", "loading", "unloaded", "unloading"]
"""The wanted state, and whether it is reached. A model whose engines are being replaced is loading too."""

Cause = Literal["settings", "admin", "idle", "request"]
"""Cause of the wanted state: the settings, an administrator, idleness, or a request."""

LOAD_CAUSES: tuple[Cause, ...] = ("admin", "request")
UNLOAD_CAUSES: tuple[Cause, ...] = ("admin", "idle")
