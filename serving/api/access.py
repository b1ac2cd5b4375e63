"""What a team may do with a request: which models, how much thinking, how long answers, when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from starlette.requests import Request

from serving.api.authentication import identity_of
from serving.api.registry import ModelRegistry, ServedModel
from serving.errors import (
    ApiError,
    InvalidValueError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import EFFORTS, Effort
from serving.harmony.effort import resolve_effort
from serving.protocol.models import ModelCard
from serving.settings import HttpSettings, ReasoningSettings
from serving.telemetry.metrics import Metrics, RejectionReason
from serving.telemetry.recorder import find_recorder
from serving.tenancy.admitted_engine import AdmittedEngine
from serving.tenancy.teams import Team
from serving.tenancy.tenancy import Tenancy
from serving.tenancy.ticket import Ticket

TICKET = "ticket"
"""Where a request's Ticket is in its scope's state."""

_REASONS: dict[str | None, RejectionReason] = {
    None: "queue_full",
    "requests_per_minute": "requests_per_minute",
    "tokens_per_minute": "tokens_per_minute",
    "concurrent_requests": "concurrency",
    "tokens_per_day": "daily_tokens",
    "tokens_per_month": "monthly_tokens",
}


class Access:
    """Asked by every route that generates: `serve` for the model, then `apply_policy` or `expect` for the request."""

    def __init__(
        self,
        models: ModelRegistry,
        tenancy: Tenancy,
        http: HttpSettings,
        metrics: Metrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._models = models
        self._tenancy = tenancy
        self._http = http
        self._metrics = metrics
        self._monotonic = monotonic

    def cards(self, request: Request) -> list[ModelCard]:
        """The models that the team may use, under all their names."""
        return [card for card in self._models.cards() if self._allows(identity_of(request).policy, card["id"])]

    def card(self, request: Request, name: str) -> ModelCard:
        """One of them; raises ModelNotFoundError."""
        return self._models.card(self._allowed(request, name))

    def serve(self, request: Request, name: str, *, effort: str | None = None) -> ServedModel:
        """The model called `name`, as this request sees it.

        Its reasoning settings are held to what the team may have, and to what there is time for now; its engine
        stands behind the team's limits and the line. `effort` is what the request asks for. Raises
        ModelNotFoundError, also for a model that the team may not use, InvalidValueError for a deadline that cannot
        be read, RateLimitError or OverloadedError where it would not get into the line anyway.
        """
        served = self._models.resolve(self._allowed(request, name))
        identity = identity_of(request)
        admission = self._tenancy.admission(served.name)
        now = self._monotonic()
        timeout = _timeout_s(request) or self._tenancy.default_timeout_s
        deadline = None if timeout is None else now + min(timeout, self._http.longest_answer_s)
        ticket = Ticket(identity, self._tenancy.limiter, admission, self._monotonic, deadline)
        ticket.listener = recorder = find_recorder(request.scope)
        if recorder is not None:
            ticket.on_refused = lambda error: recorder.rejected(_reason(error))
        request.scope["state"][TICKET] = ticket
        try:
            admission.refuse_hopeless(ticket.waiting())
        except ApiError as error:
            self._metrics.rejected(served.name, identity.team, _reason(error))
            raise
        reasoning = _restricted(served.settings.reasoning, identity.policy)
        calm = reasoning
        reasoning = _under_load(reasoning, identity.policy, admission.fill)
        if reasoning is not calm:
            self._count_change(served.name, identity.team, effort, calm, reasoning)
        settings = served.settings
        if reasoning is not settings.reasoning:
            settings = settings.model_copy(update={"reasoning": reasoning})
        engine = served.engine if recorder is None else recorder.timed(served.engine)
        return ServedModel(served.name, AdmittedEngine(engine, ticket), settings)

    def apply_policy(self, request: Request, generation: ChatGeneration) -> ChatGeneration:
        """`generation` as the team may have it; raises InvalidValueError for more output or messages than that."""
        ticket = _ticket(request)
        ticket.effort, ticket.sequences = generation.conversation.effort, generation.n
        policy = ticket.identity.policy
        if (messages := len(generation.conversation.messages)) > self._http.max_messages:
            self._reject(request, "too_long")
            raise InvalidValueError(
                f"The conversation has {messages} messages, and this server reads at most {self._http.max_messages}.",
                param="messages",
            )
        self._check_output(request, policy, generation.max_tokens)
        if not policy.show_reasoning and generation.include_reasoning:
            return replace(generation, include_reasoning=False)
        return generation

    def expect(self, request: Request, *, sequences: int, prompt_tokens: int, max_tokens: int | None) -> None:
        """A completion of raw tokens is coming.

        Raises PermissionDeniedError for teams whose thinking is restricted: who writes the prompt's tokens writes its
        effort, and reads every channel.
        """
        ticket = _ticket(request)
        ticket.sequences, ticket.prompt_tokens = sequences, prompt_tokens
        policy = ticket.identity.policy
        if not policy.show_reasoning or policy.highest_effort != "high" or policy.max_reasoning_tokens is not None:
            self._reject(request, "effort_not_allowed")
            raise PermissionDeniedError(
                "Your team may not complete raw prompts, because its reasoning is limited. Use /v1/chat/completions."
            )
        self._check_output(request, policy, max_tokens)

    def _check_output(self, request: Request, policy: Team, max_tokens: int | None) -> None:
        if policy.max_output is not None and max_tokens is not None and max_tokens > policy.max_output:
            self._reject(request, "too_long")
            raise InvalidValueError(
                f"Your team may ask for at most {policy.max_output} tokens; the request asks for {max_tokens}.",
                param="max_tokens",
            )

    def _allows(self, policy: Team, name: str) -> bool:
        if policy.models is None:
            return True
        served = self._models.resolve(name)
        return name in policy.models or served.name in policy.models

    def _allowed(self, request: Request, name: str) -> str:
        """`name`; raises ModelNotFoundError, with one text for models that are not there and not allowed."""
        policy = identity_of(request).policy
        if policy.models is None:
            self._models.resolve(name)
            return name
        usable = [card["id"] for card in self._models.cards() if self._allows(policy, card["id"])]
        if name not in usable:
            self._reject(request, "model_not_allowed")
            shown = name if len(name) <= 64 else name[:64] + "..."
            raise ModelNotFoundError(
                f"The model '{shown}' does not exist, or your team may not use it. "
                f"It may use: {', '.join(usable) or 'none'}.",
                param="model",
            )
        return name

    def _count_change(
        self, model: str, team: str, asked: str | None, calm: ReasoningSettings, loaded: ReasoningSettings
    ) -> None:
        before = resolve_effort(asked, calm.default_effort, "clamp", highest=calm.highest_effort)
        after = resolve_effort(asked, loaded.default_effort, "clamp", highest=loaded.highest_effort)
        if before != after:
            self._metrics.effort_changed(model, team, asked=before, used=after)

    @staticmethod
    def _reject(request: Request, reason: RejectionReason) -> None:
        if recorder := find_recorder(request.scope):
            recorder.rejected(reason)


def find_ticket(state: dict[str, object]) -> Ticket | None:
    """The ticket in a scope's state; None for requests that generate nothing."""
    ticket = state.get(TICKET)
    return ticket if isinstance(ticket, Ticket) else None


def _ticket(request: Request) -> Ticket:
    ticket: Ticket = request.scope["state"][TICKET]
    return ticket


def _reason(error: ApiError) -> RejectionReason:
    if isinstance(error, RateLimitError):
        return _REASONS[error.limit]
    if isinstance(error, OverloadedError) and error.code == "queue_full":
        return "queue_full"
    return "deadline"


def _restricted(reasoning: ReasoningSettings, policy: Team) -> ReasoningSettings:
    """The model's settings, and no more than the team may have."""
    changes: dict[str, object] = {}
    highest = _lower(reasoning.highest_effort, policy.highest_effort)
    if highest != reasoning.highest_effort:
        changes["highest_effort"] = highest
    default = _lower(policy.default_effort or reasoning.default_effort, highest)
    if default != reasoning.default_effort:
        changes["default_effort"] = default
    if policy.max_reasoning_tokens is not None:
        most = policy.max_reasoning_tokens
        if reasoning.highest_max_reasoning_tokens is not None:
            most = min(most, reasoning.highest_max_reasoning_tokens)
        changes["highest_max_reasoning_tokens"] = most
    return reasoning.model_copy(update=changes) if changes else reasoning


def _under_load(reasoning: ReasoningSettings, policy: Team, fill: float) -> ReasoningSettings:
    highest = _lower(reasoning.highest_effort, policy.effort_under_load.most(fill))
    if highest == reasoning.highest_effort:
        return reasoning
    return reasoning.model_copy(
        update={
            "highest_effort": highest,
            "default_effort": _lower(reasoning.default_effort, highest),
            # What the team may ask for at other times is no mistake now.
            "unsupported_effort": "clamp",
        }
    )


def _lower(one: Effort, other: Effort) -> Effort:
    return min(one, other, key=EFFORTS.index)


def _timeout_s(request: Request) -> float | None:
    text = request.headers.get("x-request-timeout")
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
