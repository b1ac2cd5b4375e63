"""The request of POST /v1/batches."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from serving.api.openai.files.upload import checked_expiry
from serving.api.wire.base_model import WireModel
from serving.api.wire.body import parse_object
from serving.api.wire.validation import validate
from serving.batches.records import Endpoint
from serving.errors import InvalidValueError

_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])", re.ASCII)
_HOURS = {"h": 1, "d": 24}
_MOST_METADATA = 16


class ExpiresAfter(WireModel):
    """Time for which the results are kept."""

    anchor: Literal["created_at"]
    seconds: int


class BatchRequest(WireModel):
    """A batch: the file of its lines, and the endpoint that each of them is for."""

    input_file_id: str = Field(min_length=1)
    endpoint: Endpoint
    completion_window: str = Field(description="24h as with OpenAI, or other hours or days: 2h, 7d.")
    metadata: dict[str, Annotated[str, Field(max_length=512)]] | None = None
    output_expires_after: ExpiresAfter | None = None

    def window_s(self, longest_h: float) -> int:
        """Seconds of the completion window; raises InvalidValueError."""
        found = _WINDOW.fullmatch(self.completion_window)
        hours = int(found[1]) * _HOURS[found[2]] if found else 0
        if not 0 < hours <= longest_h:
            raise InvalidValueError(
                f"Invalid 'completion_window': expected 24h, or other hours or days up to {longest_h:g}h.",
                param="completion_window",
            )
        return hours * 3600


def parse_batch_request(body: bytes) -> BatchRequest:
    """Parse the body; raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    request = validate(BatchRequest, parse_object(body))
    if request.output_expires_after is not None:
        expiry = request.output_expires_after
        checked_expiry(expiry.anchor, expiry.seconds, "output_expires_after")
    metadata = request.metadata or {}
    if len(metadata) > _MOST_METADATA or any(len(key) > 64 for key in metadata):
        raise InvalidValueError(
            f"Invalid 'metadata': at most {_MOST_METADATA} keys of at most 64 characters.", param="metadata"
        )
    return request
