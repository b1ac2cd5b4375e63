"""A response as it is stored: what was sent, what came of it, and what it continues."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from serving.api.openai.responses.input import StoredItem
from serving.api.openai.responses.output import Cuts
from serving.api.openai.responses.response import ResponseFailure, ResponseObject


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """`input` are the request's own items. `ancestors` are the ids of all responses it continues, oldest first.

    `cuts` says how each output item's text was streamed. A response in progress is lost when it is still that at
    `deadline`, in seconds since the epoch: the server that worked on it is gone.
    """

    response: ResponseObject
    input: Sequence[StoredItem]
    ancestors: Sequence[str] = ()
    cuts: Sequence[Cuts] = ()
    deadline: float = 0.0

    @property
    def id(self) -> str:
        """The response's."""
        return self.response["id"]

    @property
    def in_progress(self) -> bool:
        """Whether some server works on it."""
        return self.response["status"] == "in_progress"

    @property
    def items(self) -> list[StoredItem]:
        """What it adds to the conversation."""
        return [*self.input, *(dict(item) for item in self.response["output"])]

    def to_bytes(self) -> bytes:
        """For a store."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, stored: bytes, *, now: float) -> ResponseRecord:
        """What to_bytes() made, as of `now`."""
        record = cls(**from_json(stored))
        if record.in_progress and now > record.deadline:
            return dataclasses.replace(record, response=_lost(record.response))
        return record


def _lost(response: ResponseObject) -> ResponseObject:
    lost = response.copy()
    lost["status"] = "failed"
    lost["error"] = ResponseFailure(code="server_error", message="The server that worked on this response was lost.")
    return lost
