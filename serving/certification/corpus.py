"""Requests that clients send, from public reports: what must be taken, and what must be refused in words."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from serving.certification.conversation import require
from serving.certification.endpoint import Endpoint


class ClientRequest(BaseModel):
    """One request. `body` goes to `route` with the model's name in it.

    `status` is what must come of it; `names` is what a refusal must name in its message or as its parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    route: Literal["chat/completions", "responses", "messages"]
    body: dict[str, Any]
    status: Literal[200, 400] = 200
    names: str = ""

    def check(self, endpoint: Endpoint, model: str) -> str:
        """Send it. Raises CheckFailedError for another status than is due."""
        reply = endpoint.post(f"/{self.route}", {"model": model, **self.body})
        require(reply.status == self.status, f"wanted {self.status}, got {reply.words}")
        if self.names:
            require(self.names in str(reply.body), f"the refusal does not name {self.names}: {reply.words}")
        return ""


def client_requests() -> list[ClientRequest]:
    """All of them, in the order of the file."""
    text = resources.files("serving.certification").joinpath("requests.jsonl").read_text(encoding="utf-8")
    return [ClientRequest.model_validate_json(line) for line in text.splitlines() if line.strip()]
