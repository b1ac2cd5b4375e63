"""AdmissionQueue queues of this process, and the permits of requests for them."""

from __future__ import annotations

import math
from collections.abc import Callable

from starlette.datastructures import Headers

from serving.answering.request_context import RequestContext
from serving.backends.registry import Backends, ResolvedBackend
from serving.errors import ApiError, InvalidValueError, OverloadedError, RateLimitError
from serving.settings.http import HttpSettings
from serving.settings.limits import KIND_OF
from serving.telemetry.metrics import RejectionReason
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.background_permit import BackgroundPermit
from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.permit import AdmissionPermit
from serving.tenancy.tenancy import Tenancy

_MOST_QUEUES = 1000


class Permits:
    """Makes the permits of requests, for the queue of a model of our own or of a group of backends."""

    def __init__(
        self, tenancy: Tenancy, http: HttpSettings, monotonic: Callable[[], float], backends: Backends | None
    ) -> None:
        self._tenancy = tenancy
        self._http = http
        self._monotonic = monotonic
        self._backends = backends
        self._groups: dict[str, AdmissionQueue] = {}

    def permit(
        self, context: RequestContext, model: str | ResolvedBackend, *, deadline: float | None = None
    ) -> AdmissionPermit:
        """A permit of the request for `model`'s queue, from now on the request's own.

        The deadline, by the monotonic clock, is that of the request's header where none is given. Raises
        InvalidValueError for a header that cannot be read.
        """
        queue = self._tenancy.admission(model) if isinstance(model, str) else self._group(model)
        if context.background is not None:
            # Without a listener: its wait is none that anybody should be told of.
            permit: AdmissionPermit = BackgroundPermit(
                context.identity, self._tenancy.limiter, queue.background, self._monotonic
            )
            context.permit = permit
            return permit
        if deadline is None:
            timeout = _timeout_s(context.headers) or self._tenancy.default_timeout_s
            if timeout is not None:
                deadline = self._monotonic() + min(timeout, self._http.longest_answer_s)
        permit = AdmissionPermit(context.identity, self._tenancy.limiter, queue, self._monotonic, deadline)
        permit.listener = context.recorder
        if context.recorder is not None:
            permit.on_denied = lambda error: context.reject(rejection_reason(error))
        context.permit = permit
        return permit

    def of_groups(self) -> dict[str, AdmissionQueue]:
        """The queue of each group of backends that requests have come for."""
        return dict(self._groups)

    def _group(self, found: ResolvedBackend) -> AdmissionQueue:
        """The queue of the backends that have a model; few sets of backends share all of them."""
        assert self._backends is not None, "a model was found among them"
        group = found.group
        if group not in self._groups:
            if len(self._groups) > _MOST_QUEUES:
                self._groups = {name: each for name, each in self._groups.items() if each.in_use or each.waiting}
            slots = self._backends.concurrent_requests
            capacity = Capacity(slots, reserve=0, max_queued=slots, background=max(1, slots // 2))
            self._groups[group] = AdmissionQueue(group, capacity, self._monotonic, many_teams=True)
        return self._groups[group]


def rejection_reason(error: ApiError) -> RejectionReason:
    """The metrics' reason for a refusal by limits, queue or deadline."""
    if isinstance(error, RateLimitError):
        return "queue_full" if error.limit is None else KIND_OF[error.limit].reason
    if isinstance(error, OverloadedError) and error.code == "queue_full":
        return "queue_full"
    return "deadline"


def _timeout_s(headers: Headers) -> float | None:
    text = headers.get("x-request-timeout")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidValueError(
            "The header 'x-request-timeout' should be a number of seconds above 0.", param="x-request-timeout"
        )
    return seconds
