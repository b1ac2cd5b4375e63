"""Settings of a model's lifecycle: when it sleeps or is unloaded, and how requests wait for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.settings.base import Section


class IdleSettings(Section):
    """Sleep and unloading of a model without requests."""

    after_s: float = Field(900.0, ge=5, description="A model that nobody has used for so long is idle, in seconds.")
    action: Literal["unload", "sleep"] = Field(
        "unload",
        description="unload: its replicas end; sleep: each gives its GPU memory back and keeps the weights in the "
        "machine's. The next request brings it back.",
    )


class HoldSettings(Section):
    """Queueing of requests while a model is loaded again."""

    longest_s: float = Field(600.0, gt=0, description="Longest time a request waits for the model, in seconds.")
    most: int = Field(
        1000, ge=1, description="Requests that wait in one ingress replica; while so many do, more are refused."
    )
