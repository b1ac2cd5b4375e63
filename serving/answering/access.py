"""What a team may do with a request: which models, how much thinking, how long answers, when."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.requests import Request

from serving.answering.admitted import AdmittedEngine
from serving.answering.backend import SERVED_BY, BackendAnswers, RequestWatch
from serving.answering.cached import CachedAnswers, CacheMode, cache_mode
from serving.answering.fallback import FallbackAnswers, Health
from serving.answering.models import ModelRegistry, ServedModel
from serving.api.middleware.authentication import identity_of
from serving.api.openai.models.response import ModelCard
from serving.backends.registry import Backends, ResolvedBackend
from serving.cache.answers import AnswerCache
from serving.effort import EFFORTS, Effort, resolve_effort
from serving.engine.base import Engine
from serving.errors import (
    ApiError,
    InvalidValueError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from serving.generation.types import ChatGeneration
from serving.settings.backends import LOCAL_PROVIDER
from serving.settings.http import HttpSettings
from serving.settings.reasoning import ReasoningSettings
from serving.settings.teams import Team
from serving.telemetry.metrics import Metrics, RejectionReason
from serving.telemetry.recorder import find_recorder
from serving.tenancy.flow_control.admission import Admission, Capacity
from serving.tenancy.flow_control.permit import Ticket
from serving.tenancy.tenancy import Tenancy

_MOST_LINES = 1000

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
        health: Mapping[str, Health],
        backends: Backends | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self._models = models
        self._tenancy = tenancy
        self._http = http
        self._metrics = metrics
        self._monotonic = monotonic
        self._backends = backends
        self._cache = cache
        self._lines: dict[str, Admission] = {}
        self._health = health

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
        ModelNotFoundError, also for a model that the team may not use, InvalidValueError for a deadline or an x-cache
        that cannot be read, RateLimitError or OverloadedError where it would not get into the line anyway.
        """
        served = self._models.resolve(self._allowed(request, name))
        mode = cache_mode(request)
        if served.found is not None:
            return self._elsewhere(request, served, served.found)
        identity = identity_of(request)
        admission = self._tenancy.admission(served.name)
        ticket = self._ticket_for(request, admission)
        refusal: ApiError | None = None
        try:
            admission.refuse_hopeless(ticket.waiting())
        except ApiError as error:
            # An answer that is kept, or a fallback, needs no place in line.
            if not served.settings.fallback and not self._may_be_cached(served, mode):
                self._metrics.rejected(served.name, identity.team, _reason(error))
                raise
            refusal = error
        reasoning = _restricted(served.settings.reasoning, identity.policy)
        calm = reasoning
        reasoning = _under_load(reasoning, identity.policy, admission.fill)
        if reasoning is not calm:
            self._count_change(served.name, identity.team, effort, calm, reasoning)
        settings = served.settings
        if reasoning is not settings.reasoning:
            settings = settings.model_copy(update={"reasoning": reasoning})
        if served.adapter is not None and (recorder := find_recorder(request.scope)):
            recorder.adapter = served.adapter.name
        return ServedModel(
            served.name, self._engine(request, served, ticket, refusal, mode), settings, adapter=served.adapter
        )

    def _engine(
        self, request: Request, served: ServedModel, ticket: Ticket, refusal: ApiError | None, mode: CacheMode
    ) -> Engine:
        """The model's engine behind `ticket` and the cache; with fallbacks, it and they."""
        engine: Engine = AdmittedEngine(self._timed(request, served.engine), ticket)
        if self._cache is not None and self._may_be_cached(served, mode):
            engine = CachedAnswers(
                served.identity,
                served.settings,
                engine,
                self._cache,
                ticket,
                request.scope,
                asked_for=mode == "on",
                refuse=functools.partial(self._refuse, served, identity_of(request).team, refusal),
            )
            refusal = None
        watch = self._watch(request, served.called)
        if not served.settings.fallback:
            watch.served_by(LOCAL_PROVIDER)
            return engine
        health = self._health[served.name]
        others = [functools.partial(self._other, request, selector) for selector in served.settings.fallback]
        return FallbackAnswers(served.name, engine, health, others, watch, self._metrics, refusal)

    def _may_be_cached(self, served: ServedModel, mode: CacheMode) -> bool:
        """Answers are kept under their model's identity: of no engine but the settings' own and its adapters."""
        if self._cache is None or mode == "off":
            return False
        return served.adapter is not None or self._models.resolve(served.name).engine is served.engine

    def _refuse(self, served: ServedModel, team: str, refusal: ApiError | None) -> None:
        """What the line said when the request came, now that it needs a place."""
        if refusal is not None:
            if not served.settings.fallback:
                self._metrics.rejected(served.name, team, _reason(refusal))
            raise refusal

    def _other(self, request: Request, selector: str) -> tuple[str, Engine] | None:
        """A fallback: its name and what answers for it; None where it is not there, or out of the house."""
        try:
            served = self._models.resolve(selector)
        except ModelNotFoundError:
            return None
        found = served.found
        if found is not None and not self._may_leave(request):
            found = found.inside()
            if not found.endpoints:
                return None
        before = _ticket(request)
        before.over()  # what it took of the team's limits is given back before it is taken again
        admission = self._admission(found) if found is not None else self._tenancy.admission(served.name)
        ticket = self._ticket_for(request, admission, before.deadline)
        if found is not None:
            return served.name, self._answers(request, found, ticket)
        return served.called, AdmittedEngine(self._timed(request, served.engine), ticket)

    def _elsewhere(self, request: Request, served: ServedModel, found: ResolvedBackend) -> ServedModel:
        """A model of other servers, as this request sees it."""
        if not self._may_leave(request):
            found = found.inside()
            if not found.endpoints:
                self._reject(request, "model_not_allowed")
                raise PermissionDeniedError(
                    f"The model '{served.name}' is outside the house, where your requests may not go. "
                    "Who runs this server can allow it: `external: true` for the team, or `backends.external`.",
                    code="external_not_allowed",
                )
        ticket = self._ticket_for(request, self._admission(found))
        settings = served.settings
        reasoning = _restricted(settings.reasoning, identity_of(request).policy)
        if reasoning is not settings.reasoning:
            settings = settings.model_copy(update={"reasoning": reasoning})
        return ServedModel(found.name, self._answers(request, found, ticket), settings, found)

    def _answers(self, request: Request, found: ResolvedBackend, ticket: Ticket) -> BackendAnswers:
        assert self._backends is not None, "a model was found among them"
        return BackendAnswers(found, self._backends.router, ticket, self._watch(request, found.name))

    def _watch(self, request: Request, model: str) -> RequestWatch:
        return RequestWatch(request.scope, self._metrics, identity_of(request).team, model)

    def _may_leave(self, request: Request) -> bool:
        """Whether the request may go to backends outside the house."""
        if self._tenancy.directory is None:
            return self._backends is not None and self._backends.external
        return identity_of(request).policy.external

    def _admission(self, found: ResolvedBackend) -> Admission:
        """The line in front of the backends that have a model; few sets of backends share all of them."""
        assert self._backends is not None, "a model was found among them"
        group = found.group
        if group not in self._lines:
            if len(self._lines) > _MOST_LINES:
                self._lines = {name: line for name, line in self._lines.items() if line.in_use or line.waiting}
            places = self._backends.concurrent_requests
            capacity = Capacity(places, reserve=0, most_waiting=places)
            self._lines[group] = Admission(group, capacity, self._monotonic, many_teams=True)
        return self._lines[group]

    def _ticket_for(self, request: Request, admission: Admission, deadline: float | None = None) -> Ticket:
        """The request's ticket for that line, from here on the one that counts."""
        if deadline is None and (timeout := _timeout_s(request) or self._tenancy.default_timeout_s) is not None:
            deadline = self._monotonic() + min(timeout, self._http.longest_answer_s)
        ticket = Ticket(identity_of(request), self._tenancy.limiter, admission, self._monotonic, deadline)
        ticket.listener = recorder = find_recorder(request.scope)
        if recorder is not None:
            ticket.on_refused = lambda error: recorder.rejected(_reason(error))
        request.scope["state"][TICKET] = ticket
        return ticket

    @staticmethod
    def _timed(request: Request, engine: Engine) -> Engine:
        recorder = find_recorder(request.scope)
        return engine if recorder is None else recorder.timed(engine)

    def lines(self) -> tuple[dict[str, Admission], dict[str, Admission]]:
        """The lines of this process: in front of each model of ours, and of each group of backends."""
        ours = {served.name: self._tenancy.admission(served.name) for served in self._models.models()}
        return ours, dict(self._lines)

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
        # Who may use a model may use its variants, but not its adapters: those may have learnt what is not for all.
        return name in policy.models or self._models.resolve(name).called in policy.models

    def _allowed(self, request: Request, name: str) -> str:
        """`name`; raises ModelNotFoundError, with one text for models that are not there and not allowed."""
        policy = identity_of(request).policy
        if policy.models is None:
            self._models.resolve(name)
            return name
        if not self._knows(name) or not self._allows(policy, name):
            usable = [card["id"] for card in self.cards(request)]
            self._reject(request, "model_not_allowed")
            shown = name if len(name) <= 64 else name[:64] + "..."
            raise ModelNotFoundError(
                f"The model '{shown}' does not exist, or your team may not use it. "
                f"It may use: {', '.join(usable) or 'none'}.",
                param="model",
            )
        return name

    def _knows(self, name: str) -> bool:
        try:
            self._models.resolve(name)
        except ModelNotFoundError:
            return False
        return True

    def _usable(self, request: Request, name: str) -> bool:
        """Whether the team may use the model of that name, and some server with it may be asked."""
        found = self._models.resolve(name).found
        if found is not None and not self._may_leave(request) and not found.inside().endpoints:
            return False
        return self._allows(identity_of(request).policy, name)

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


def find_served_by(state: dict[str, object]) -> str | None:
    """The x-served-by in a scope's state, once it is known."""
    served_by = state.get(SERVED_BY)
    return served_by if isinstance(served_by, str) else None


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
