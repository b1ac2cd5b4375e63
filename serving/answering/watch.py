"""What is noted of one request while servers are asked for its answer."""

from __future__ import annotations

from urllib.parse import quote

from serving.answering.request_context import RequestContext
from serving.backends.backend import Backend
from serving.backends.routing import Outcome
from serving.telemetry.metrics import Metrics


class RequestWatch:
    """Records which server is asked for a request and which one answers. See Watcher of serving/backends/routing.py."""

    def __init__(self, context: RequestContext, metrics: Metrics, model: str) -> None:
        self._context = context
        self._metrics = metrics
        self.model = model

    def sent(self, backend: Backend) -> None:
        """The conversation goes to `backend` now."""
        if backend.external:
            self._metrics.sent_outside(self._context.identity.team, backend.name)
            recorder = self._context.recorder
            if recorder is not None and backend.name not in recorder.sent_outside:
                recorder.sent_outside += (backend.name,)

    def ended(self, backend: Backend, outcome: Outcome) -> None:
        """The attempt at `backend` is over."""
        self._metrics.backend_asked(backend.name, outcome)

    def serves(self, backend: Backend) -> None:
        """The first token of `backend` is there."""
        self.served_by(backend.name)

    def served_by(self, provider: str) -> None:
        """Note the provider that answers; headers take ASCII alone."""
        selector = f"{provider}:{self.model}"
        self._context.served_by = quote(selector, safe=":/@+ ")
        if self._context.recorder is not None:
            self._context.recorder.served_by = selector
