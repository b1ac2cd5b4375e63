"""Questions to one model of an endpoint through one API."""

from __future__ import annotations

from dataclasses import dataclass

from serving.certification.api import Api
from serving.certification.conversation import Ask, CheckFailedError, Json, Said
from serving.certification.endpoint import Endpoint, Reply, Stream


@dataclass(frozen=True, slots=True)
class Speaker:
    """One model, asked through one API. No answer may have a special token of Harmony in a text."""

    endpoint: Endpoint
    api: Api
    model: str

    def said(self, ask: Ask, *, stream: bool = False) -> Said:
        """Answer, whole or put together from a stream's deltas. Raises CheckFailedError where there is none."""
        said = self.api.read_stream(self.stream(ask)) if stream else self.api.read(self.body(ask))
        if (token := said.leaked()) is not None:
            raise CheckFailedError(f"a text has the special token {token} in it")
        return said

    def body(self, ask: Ask) -> Json:
        """Whole reply's body; CheckFailedError for any other status than 200."""
        reply = self.reply(ask)
        if reply.status != 200:
            raise CheckFailedError(f"the request was refused: {reply.words}")
        return reply.body

    def reply(self, ask: Ask) -> Reply:
        """Whole reply, whatever its status."""
        return self.endpoint.post(self.api.path, self.api.body(self.model, ask, stream=False))

    def stream(self, ask: Ask) -> Stream:
        """Events of the streamed reply."""
        stream = self.endpoint.stream(self.api.path, self.api.body(self.model, ask, stream=True))
        if not stream.events:
            raise CheckFailedError("the stream has no events")
        return stream
