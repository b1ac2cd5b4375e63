"""HTTP to the endpoint under test: whole replies and the events of streams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import httpx2

from serving.certification.conversation import CheckFailedError, Json, require, shortened
from serving.sse_decoder import EventStream

_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Reply:
    """Whole reply."""

    status: int
    body: Json

    @property
    def words(self) -> str:
        """The reply in a line."""
        return f"{self.status} {shortened(json.dumps(self.body, ensure_ascii=False))}"


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of a streamed reply, in order. `done` says that `data: [DONE]` was the last."""

    events: list[Json]
    done: bool


class Endpoint:
    """Endpoint under test. `url` ends where the routes begin, in /v1 for most servers; paths follow it."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(headers=dict(headers), timeout=timeout_s, follow_redirects=True)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Reply:
        """Reply to a GET. Raises CheckFailedError where there is none."""
        return self._ask("GET", path)

    def post(self, path: str, body: Mapping[str, Json] | str) -> Reply:
        """Reply to a POST of JSON, or of text that may be none. Raises CheckFailedError where there is none."""
        return self._ask("POST", path, body if isinstance(body, str) else json.dumps(body))

    def stream(self, path: str, body: Mapping[str, Json]) -> Stream:
        """Events of a streamed reply. Raises CheckFailedError for a reply that is no stream, or that breaks off."""
        decoder, payloads = EventStream(), list[bytes]()
        try:
            with self._client.stream(
                "POST", f"{self.url}{path}", content=json.dumps(body), headers={"content-type": "application/json"}
            ) as response:
                if response.status_code != 200:
                    response.read()
                    raise CheckFailedError(f"the stream was refused: {response.status_code} {shortened(response.text)}")
                kind = response.headers.get("content-type", "")
                require(kind.startswith("text/event-stream"), f"a stream's content type is {kind!r}")
                for data in response.iter_bytes():
                    payloads += decoder.feed(data)
        except httpx2.HTTPError as error:
            raise CheckFailedError(f"the stream broke off: {error or type(error).__name__}") from error
        require(not decoder.rest.strip(), "the stream ends within an event")
        done = bool(payloads) and payloads[-1] == _DONE
        return Stream([_parsed(each) for each in payloads if each != _DONE], done)

    def _ask(self, method: str, path: str, content: str | None = None) -> Reply:
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            response = self._client.request(method, f"{self.url}{path}", content=content, headers=headers)
        except httpx2.HTTPError as error:
            raise CheckFailedError(f"no reply: {error or type(error).__name__}") from error
        try:
            return Reply(response.status_code, response.json())
        except ValueError:
            return Reply(response.status_code, response.text)


def _parsed(payload: bytes) -> Json:
    try:
        return json.loads(payload)
    except ValueError as error:
        raise CheckFailedError(f"an event is no JSON: {shortened(payload.decode(errors='replace'))}") from error
