"""How a model can be, and why."""

from __future__ import annotations

from typing import Literal

State = Literal["loaded", "loading", "unloaded", "unloading"]
"""What is wanted, and whether it is so already. A model whose engines are being replaced is loading too."""

Cause = Literal["settings", "admin", "idle", "request"]
"""Who wants it so: the settings since the start, an administrator, nobody who would use it, or somebody who does."""

LOAD_CAUSES: tuple[Cause, ...] = ("admin", "request")
UNLOAD_CAUSES: tuple[Cause, ...] = ("admin", "idle")
