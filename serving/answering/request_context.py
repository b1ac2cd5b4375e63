"""What the layers of the server know of one HTTP request, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from serving.answering.background import BackgroundRequest
from serving.errors import ApiError
from serving.generation.types import Usage
from serving.telemetry.metrics import RejectionReason
from serving.telemetry.record import CacheOutcome
from serving.telemetry.recorder import RequestRecorder
from serving.tenancy.auth.authenticator import OPEN
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.permit import AdmissionPermit

_KEY = "context"


@dataclass(slots=True)
class RequestContext:
    """Context of one request, made by the outermost middleware.

    `recorder` is None for requests that are not recorded, such as GET /health. `identity` is OPEN on routes that need
    no key. `permit`, `served_by` (the reply's x-served-by) and `cache_outcome` (its x-cache) are set once the
    request's model is known; those of a request that generates nothing stay None. `background` is there for requests
    that this process asks itself.
    """

    request_id: str
    headers: Headers
    recorder: RequestRecorder | None = None
    background: BackgroundRequest | None = None
    identity: Identity = OPEN
    notices: Mapping[str, str] | None = None
    permit: AdmissionPermit | None = None
    served_by: str | None = None
    cache_outcome: CacheOutcome | None = None

    @property
    def recording(self) -> RequestRecorder:
        """The recorder; raises LookupError for a request that is not recorded."""
        if self.recorder is None:
            raise LookupError("the request has no recorder; is RequestMetricsMiddleware among the middleware?")
        return self.recorder

    def detached(self) -> RequestContext:
        """The context of work for this request that goes on after its reply; who does the work closes its recorder."""
        return RequestContext(self.request_id, self.headers, recorder=self.recording.detached(), identity=self.identity)

    def settle(self) -> None:
        """Settle the permit, if there is one, at the end of the request or of its work."""
        if (permit := self.permit) is not None:
            if self.recorder is not None and permit.spent.prompt:
                self.recorder.spent(Usage(permit.spent.prompt, permit.spent.output, cached_tokens=permit.spent.cached))
            permit.close()

    def reject(self, reason: RejectionReason) -> None:
        """Count a refusal of the request; the caller raises the error."""
        if self.recorder is not None:
            self.recorder.rejected(reason)

    def ignored(self, notices: Mapping[str, str], fields: Sequence[str]) -> None:
        """Note what of the request was ignored: the reply's headers that say so, and the fields' names to count."""
        self.notices = notices
        if self.recorder is not None:
            self.recorder.ignored(fields)

    def failed(self, error: ApiError) -> None:
        """Record what the client is told instead of an answer."""
        if self.recorder is not None:
            self.recorder.failed(error)


def attach_context(scope: Scope, context: RequestContext) -> None:
    """Leave `context` in the scope, for context_of()."""
    scope.setdefault("state", {})[_KEY] = context


def context_of(scope: Scope) -> RequestContext:
    """The context of the request in `scope`; raises LookupError where no middleware has made one."""
    context = scope.get("state", {}).get(_KEY)
    if context is None:
        raise LookupError("the request has no context; is RequestIdMiddleware the outermost middleware?")
    assert isinstance(context, RequestContext)
    return context
