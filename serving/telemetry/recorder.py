"""Recorder of one request from its first byte to its last, which reports its outcome at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from serving.engine.base import Engine
from serving.errors import ApiError
from serving.generation.schema_misses import Body
from serving.generation.types import (
    ChatAnswer,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.telemetry.metrics import FailoverOutcome, Metrics, RejectionReason
from serving.telemetry.outcomes import of_error, of_status
from serving.telemetry.record import CacheOutcome, OnRecord, RequestRecord
from serving.telemetry.timeline import TimedEngine, Timeline

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Recording:
    """Shared state of recorders. `clock` gives seconds since the epoch, `monotonic` is for durations.

    `sinks` are told of each finished request, in order. With `timed` their records have a timeline, for traces.
    """

    metrics: Metrics
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    sinks: Sequence[OnRecord]
    timed: bool = False


class RequestRecorder:
    """Recorder of one request. Each stage reports to it; `close` counts the request once, in every case.

    The middleware makes it before anything is known, so every method may be called or left out.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        request_id: str,
        api: str,
        method: str,
        path: str,
        carrier: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._recording = recording
        self._metrics = recording.metrics
        self._monotonic = recording.monotonic
        self._began = recording.monotonic()
        self._started_at = recording.clock()
        self.request_id = request_id
        self._api = api
        self._method = method
        self._path = path
        self.team: str | None = None
        self.key_id: str | None = None
        self.address: str | None = None
        self.model: str | None = None
        self.adapter: str | None = None
        self.effort: str | None = None
        self._stream = False
        self._error: ApiError | None = None
        self._queue_s: float | None = None
        self._first_token: float | None = None
        self._first_final: float | None = None
        self._last_token: float | None = None
        self._chunks = 0
        self._usage: Usage | None = None
        self._tool_calls = 0
        self._recoveries: dict[str, int] = {}
        self._failovers = 0
        self._reasoning_truncated = False
        self.served_by: str | None = None
        self.sent_outside: tuple[str, ...] = ()
        self.cache: CacheOutcome | None = None
        self._in_flight: tuple[str, str | None] | None = None
        self._timeline = Timeline(self._began, carrier) if recording.timed else None

    def detached(self) -> RequestRecorder:
        """A recorder of work for the same request that goes on after its reply, counted by itself."""
        other = RequestRecorder(
            self._recording, request_id=self.request_id, api=self._api, method=self._method, path=self._path
        )
        other.team, other.key_id, other.address = self.team, self.key_id, self.address
        return other

    def identify(self, *, model: str, effort: str | None = None, stream: bool = False) -> None:
        """Note the model, by its name in the settings, and the kind of answer. The request is in flight now."""
        if self._in_flight is None:
            self._in_flight = (model, self.team)
            self._metrics.in_flight(model, self.team, 1)
        self.model, self.effort, self._stream = model, effort, stream
        if self._timeline is not None:
            self._timeline.identified = self._monotonic()

    def timed(self, engine: Engine) -> Engine:
        """Engine with its calls in the timeline, where there is one."""
        return engine if self._timeline is None else TimedEngine(engine, self._timeline, self._monotonic)

    @contextlib.contextmanager
    def queueing(self) -> Iterator[None]:
        """Time the wait in the admission queue; identify() comes first."""
        model, team, since = self.model or "", self.team, self._monotonic()
        self._metrics.queued(model, team, 1)
        try:
            yield
        finally:
            self._metrics.queued(model, team, -1)
            until = self._monotonic()
            self._queue_s = (self._queue_s or 0.0) + until - since
            if self._timeline is not None:
                self._timeline.queued.append((since, until))

    def not_queued(self) -> None:
        """Note that the request did not wait in the admission queue."""
        self._queue_s = self._queue_s or 0.0
        if self._timeline is not None:
            now = self._monotonic()
            self._timeline.queued.append((now, now))

    def rejected(self, reason: RejectionReason) -> None:
        """Note that policy, limits or a full queue refuse the request; the caller raises the error."""
        self._metrics.rejected(self.model, self.team, reason)

    def ignored(self, fields: Sequence[str]) -> None:
        """Note fields of the request that nobody knows, by their paths."""
        for field in fields:
            self._metrics.ignored(self._api, field)

    def recovered(self, kind: str) -> None:
        """Note a recovery from malformed Harmony; fit for `on_recovered`."""
        self._recoveries[kind] = self._recoveries.get(kind, 0) + 1
        self._metrics.recovered(self.model or "", kind)

    def schema_missed(self, body: Body) -> None:
        """Note an answer or a call that is not valid by its schema; fit for `on_schema_miss`."""
        self._metrics.schema_missed(self.model or "", body)

    def failed_over(self, outcome: FailoverOutcome, lost_s: float | None = None) -> None:
        """Note that the engine was lost: the request went on elsewhere after `lost_s` seconds, or was given up."""
        self._failovers += 1
        self._metrics.failed_over(self.model or "", outcome, lost_s)

    def failed(self, error: ApiError) -> None:
        """Note the error that the client gets; the first one counts."""
        self._error = self._error or error

    def answered(self, answer: ChatAnswer) -> None:
        """Note the whole of an answer that is not streamed."""
        self._usage = answer.usage
        self._tool_calls = sum(len(choice.tool_calls) for choice in answer.choices)
        self._reasoning_truncated = any(choice.reasoning_truncated for choice in answer.choices)

    def used(self, usage: Usage) -> None:
        """Note the token counts of an answer that is no chat answer."""
        self._usage = usage

    def spent(self, usage: Usage) -> None:
        """Note the token counts known so far; used where no final ones come, as when the client left."""
        if self._usage is None:
            self._usage = usage

    def watching(self, encode: Callable[[_T], bytes]) -> Callable[[_T], bytes]:
        """Wrap `encode` of a stream's events, to see each one as it passes."""
        observe_gap = self._metrics.chunk_gap(self.model or "")
        monotonic = self._monotonic
        final_seen = False

        def watched(event: _T) -> bytes:
            nonlocal final_seen
            frame = encode(event)
            if isinstance(event, TextDelta):
                now = monotonic()
                if event.choice == 0:
                    # A kept answer comes as fast as it is read, which says nothing of any engine.
                    if self._last_token is not None and self.cache != "hit":
                        observe_gap(now - self._last_token)
                    self._last_token = now
                if not final_seen and event.channel == "final":
                    final_seen = True
                    self._first_final = now
                self._chunks += 1
            else:
                self._saw(event)
            return frame

        return watched

    def _saw(self, event: object) -> None:
        match event:
            case ToolArgumentsDelta():
                self._chunks += 1
                self._last_token = self._monotonic()
            case GenerationStarted():
                self._first_token = self._last_token = self._monotonic()
            case ToolCallDelta():
                self._tool_calls += 1
            case ChoiceFinished():
                self._reasoning_truncated |= event.reasoning_truncated
            case GenerationFinished():
                self._usage = event.usage
            case _:
                pass

    def close(self, *, status: int | None, whole: bool) -> None:
        """Count the finished request. `status` was sent, if any; `whole` says whether the reply was sent to its end."""
        if self._in_flight is not None:
            self._metrics.in_flight(*self._in_flight, -1)
            self._in_flight = None
        record = self._record(status, whole, self._monotonic() - self._began)
        self._metrics.finished(record)
        for sink in self._recording.sinks:
            sink(record)

    def _record(self, status: int | None, whole: bool, duration_s: float) -> RequestRecord:
        error = self._error
        if error is not None:
            outcome = of_error(error)
        elif status is not None and whole:
            outcome = of_status(status)
        else:
            outcome = "client_left"
        return RequestRecord(
            request_id=self.request_id,
            api=self._api,
            method=self._method,
            path=self._path,
            started_at=self._started_at,
            duration_s=duration_s,
            outcome=outcome,
            status=status,
            error_code=None if error is None else error.code,
            model=self.model,
            adapter=self.adapter,
            team=self.team,
            key_id=self.key_id,
            address=self.address,
            effort=self.effort,
            stream=self._stream,
            queue_s=self._queue_s,
            first_token_after_s=self._after(self._first_token),
            first_final_after_s=self._after(self._first_final),
            last_token_after_s=self._after(self._last_token),
            chunks=self._chunks,
            usage=self._usage,
            tool_calls=self._tool_calls,
            recoveries=self._recoveries,
            failovers=self._failovers,
            reasoning_truncated=self._reasoning_truncated,
            served_by=self.served_by,
            sent_outside=self.sent_outside,
            cache=self.cache,
            timeline=self._timeline,
        )

    def _after(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self._began
