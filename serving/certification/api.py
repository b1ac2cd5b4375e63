"""The seam between checks and the APIs that an endpoint may offer."""

from __future__ import annotations

from typing import Protocol

from serving.certification.conversation import Ask, Json, Said
from serving.certification.endpoint import Stream


class Api(Protocol):
    """One API: its requests, and its replies and streams read into Said.

    Readers take what a check needs and raise KeyError, TypeError and the like for replies of another shape; `validate`
    and `validate_stream` look at all of a reply and raise CheckFailedError or pydantic's ValidationError.
    """

    @property
    def name(self) -> str:
        """Name in the table."""
        ...

    @property
    def path(self) -> str:
        """Path after the endpoint's URL."""
        ...

    @property
    def least_tokens(self) -> int:
        """Least maximum of tokens that a request may ask for."""
        ...

    def body(self, model: str, ask: Ask, *, stream: bool) -> dict[str, Json]:
        """Request's body."""
        ...

    def read(self, body: Json) -> Said:
        """Read a whole reply."""
        ...

    def read_stream(self, stream: Stream) -> Said:
        """Read a stream by its deltas alone."""
        ...

    def validate(self, body: Json) -> None:
        """Check the whole reply's shape."""
        ...

    def validate_stream(self, stream: Stream) -> None:
        """Check each event's shape, and their order."""
        ...
