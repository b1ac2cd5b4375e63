"""Settings of recovery: second chances for turns that gave the user nothing, or called what there is not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.settings.base import Section


class RecoverySettings(Section):
    """Second chances for a model's turns, within the request's max_tokens."""

    retry: bool = Field(
        True,
        description="Continue a turn without an answer and without a call (analysis or commentary alone, a header "
        "alone, an empty final message) once, with the header of a final message.",
    )
    unoffered_calls: Literal["text", "retry"] = Field(
        "text",
        description="A call of a function that was not offered becomes commentary (text), or the model is held to name "
        "one that is on offer, once (retry).",
    )
