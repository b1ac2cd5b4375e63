"""The answerer of each request: its model, its team's policy, and engine, cache, fallbacks or backend behind them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.answering import policy
from serving.answering.admitted import AdmittedEngine
from serving.answering.backend import BackendAnswerer
from serving.answering.background import BackgroundEngine
from serving.answering.cached import CachedAnswerer, CacheMode, cache_mode
from serving.answering.engine import EngineAnswerer
from serving.answering.fallback import Alternative, FallbackAnswerer, Health
from serving.answering.models import ListedModel, ModelRegistry, ServedModel
from serving.answering.permits import Permits, rejection_reason
from serving.answering.request_context import RequestContext
from serving.answering.watch import RequestWatch
from serving.backends.registry import Backends, ResolvedBackend
from serving.cache.answers import AnswerCache
from serving.engine.base import Constraint, Engine
from serving.errors import ApiError, InvalidValueError, ModelNotFoundError, PermissionDeniedError
from serving.generation.answerer import Answerer
from serving.generation.completions import CompletionGeneration
from serving.generation.constraint_check import Check, ConstraintChecks
from serving.generation.ids import MintId, mint_call_id
from serving.generation.types import ChatGeneration
from serving.settings.backends import LOCAL_PROVIDER
from serving.settings.http import HttpSettings
from serving.settings.models import ModelSettings
from serving.settings.recovery import RecoverySettings
from serving.settings.teams import Team
from serving.telemetry.metrics import Metrics
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.background_permit import BackgroundPermit
from serving.tenancy.flow_control.permit import AdmissionPermit
from serving.tenancy.tenancy import Tenancy


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A model as one request has it: its reasoning settings are those of the team, now. chat() and raw() answer.

    `served`, `permit`, `mode` and `refusal`, the queue's refusal when the request came, are answerer_for()'s.
    """

    name: str
    settings: ModelSettings
    answerers: Answerers
    context: RequestContext
    served: ServedModel
    permit: AdmissionPermit
    mode: CacheMode = "off"
    refusal: ApiError | None = None

    def chat(
        self,
        generation: ChatGeneration,
        *,
        constraints: Sequence[tuple[str, Constraint]] = (),
        mint_call_id: MintId = mint_call_id,
    ) -> tuple[ChatGeneration, Answerer]:
        """`generation` as the team may have it, and its answerer.

        `constraints`, by the request's fields, are checked before the answer begins. Raises InvalidValueError for
        more output or messages than the team may have.
        """
        permit, context = self.permit, self.context
        permit.effort, permit.sequences = generation.conversation.effort, generation.n
        try:
            generation = policy.restricted_generation(
                generation,
                permit.identity.policy,
                max_messages=self.answerers.http.max_messages,
                recovery=self.answerers.recovery,
            )
        except InvalidValueError:
            context.reject("too_long")
            raise

        if not constraints:
            return generation, self.answerers.answerer_for(context, self, None, mint_call_id)

        def check(engine: Engine) -> Check | None:
            return self.answerers.constraints.pending(self.name, engine, generation.request_id, constraints)

        return generation, self.answerers.answerer_for(context, self, check, mint_call_id)

    def raw(self, generation: CompletionGeneration) -> Answerer:
        """The answerer of a raw completion.

        Raises PermissionDeniedError for a team whose reasoning is limited, InvalidValueError for more output than the
        team may have.
        """
        permit, context, team = self.permit, self.context, self.permit.identity.policy
        permit.sequences = len(generation.prompts) * generation.n
        permit.prompt_tokens = sum(map(len, generation.prompts))
        try:
            policy.check_raw_prompts(team)
            policy.check_output(team, generation.max_tokens)
        except ApiError as error:
            context.reject("too_long" if isinstance(error, InvalidValueError) else "effort_not_allowed")
            raise
        return self.answerers.answerer_for(context, self)


class Answerers:
    """Finds a request's model and makes its answerer."""

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
        recovery: RecoverySettings | None = None,
    ) -> None:
        self.http = http
        self.recovery = recovery or RecoverySettings()
        self.constraints = ConstraintChecks()
        self._models = models
        self._tenancy = tenancy
        self._metrics = metrics
        self._backends = backends
        self._cache = cache
        self._permits = Permits(tenancy, http, monotonic, backends)
        self._health = health

    def queues(self) -> tuple[dict[str, AdmissionQueue], dict[str, AdmissionQueue]]:
        """The admission queues of this process: of each model of our own, and of each group of backends."""
        ours = {served.name: self._tenancy.admission(served.name) for served in self._models.models()}
        return ours, self._permits.of_groups()

    def listed(self, context: RequestContext) -> list[ListedModel]:
        """The models that the request's team may use, under all their names."""
        team = context.identity.policy
        return [self._models.listed(name) for name in self._models.names() if self._allows(team, name)]

    def find(self, context: RequestContext, name: str) -> ServedModel:
        """The model called `name`.

        Raises ModelNotFoundError with one text for models that do not exist and models that the team may not use.
        """
        team = context.identity.policy
        if team.models is None or (self._models.knows(name) and self._allows(team, name)):
            return self._models.resolve(name)
        usable = [listed.name for listed in self.listed(context)]
        context.reject("model_not_allowed")
        shown = name if len(name) <= 64 else name[:64] + "..."
        raise ModelNotFoundError(
            f"The model '{shown}' does not exist, or your team may not use it. "
            f"It may use: {', '.join(usable) or 'none'}.",
            param="model",
        )

    def ask(self, context: RequestContext, name: str, *, effort: str | None = None) -> AskedModel:
        """The model called `name`, for this request, which asks for `effort`.

        Raises ModelNotFoundError, InvalidValueError for a deadline or an x-cache that cannot be read,
        PermissionDeniedError for a model outside the house where the team's requests may not leave it, RateLimitError
        or OverloadedError where the request would not get into the admission queue.
        """
        served = self.find(context, name)
        mode = cache_mode(context.headers)
        if served.found is not None:
            return self._ask_elsewhere(context, served, served.found)
        identity = context.identity
        permit = self._permits.permit(context, served.name)
        refusal: ApiError | None = None
        try:
            permit.deny_if_full()
        except ApiError as error:
            # A kept answer, or a fallback, needs no slot.
            if not served.settings.fallback and not self._may_be_cached(served, mode):
                self._metrics.rejected(served.name, identity.team, rejection_reason(error))
                raise
            refusal = error
        usual = policy.restricted_reasoning(served.settings.reasoning, identity.policy)
        reasoning = policy.reasoning_under_load(usual, identity.policy, permit.queue)
        if reasoning is not usual:
            before, after = policy.effort_within(usual, effort), policy.effort_within(reasoning, effort)
            if before != after:
                self._metrics.effort_changed(served.name, identity.team, asked=before, used=after)
        settings = served.settings
        if reasoning is not settings.reasoning:
            settings = settings.model_copy(update={"reasoning": reasoning})
        if served.adapter is not None and context.recorder is not None:
            context.recorder.adapter = served.adapter.name
        if not served.settings.fallback:
            RequestWatch(context, self._metrics, served.called).served_by(LOCAL_PROVIDER)
        return AskedModel(served.name, settings, self, context, served, permit, mode, refusal)

    def answerer_for(
        self,
        context: RequestContext,
        model: AskedModel,
        check: Callable[[Engine], Check | None] | None = None,
        mint_call_id: MintId = mint_call_id,
    ) -> Answerer:
        """The answerer of a request for `model`; all wrapping is done here.

        A model of other servers is asked there. A model of our own is its engine behind the request's permit; before
        it the cache, where its answers may be kept; before both, where it has fallbacks, their chain. `check` makes
        the check of the request's constraints for the engine.
        """
        served, refusal = model.served, model.refusal
        if served.found is not None:
            return self._at_backends(context, served.found, model.permit, mint_call_id)
        engine = self._admitted(context, served, model.permit)
        inner = self._at_engine(context, engine, mint_call_id, None if check is None else check(engine))
        answerer: Answerer = inner
        if self._cache is not None and self._may_be_cached(served, model.mode):
            answerer = CachedAnswerer(
                inner,
                self._cache,
                served.identity,
                served.settings,
                context,
                model.permit,
                asked_for=model.mode == "on",
                refuse=functools.partial(self._refuse, served, context, refusal),
            )
            refusal = None
        if not served.settings.fallback:
            return answerer
        return FallbackAnswerer(
            served.name,
            answerer,
            self._health[served.name],
            [functools.partial(self._fallback, context, each, mint_call_id) for each in served.settings.fallback],
            RequestWatch(context, self._metrics, served.called),
            self._metrics,
            refusal,
        )

    def _fallback(self, context: RequestContext, selector: str, mint_call_id: MintId) -> Alternative | None:
        """A fallback of the request's model; None where it is not there, or outside the house."""
        try:
            served = self._models.resolve(selector)
        except ModelNotFoundError:
            return None
        found = served.found
        if found is not None and not self._may_leave(context):
            found = found.inside()
            if not found.endpoints:
                return None
        before = context.permit
        assert before is not None, "the request's own model came first"
        before.close()  # what it took of the team's limits is given back before it is taken again
        permit = self._permits.permit(context, served.name if found is None else found, deadline=before.deadline)
        if found is not None:
            return Alternative(self._at_backends(context, found, permit, mint_call_id), None)
        engine = self._admitted(context, served, permit)
        return Alternative(self._at_engine(context, engine, mint_call_id, None), served.called)

    def _at_backends(
        self, context: RequestContext, found: ResolvedBackend, permit: AdmissionPermit, mint_call_id: MintId
    ) -> BackendAnswerer:
        assert self._backends is not None, "a model was found among them"
        watch = RequestWatch(context, self._metrics, found.name)
        return BackendAnswerer(found, self._backends.router, permit, watch, mint_call_id)

    @staticmethod
    def _admitted(context: RequestContext, served: ServedModel, permit: AdmissionPermit) -> Engine:
        """The model's engine behind the request's permit."""
        engine = served.engine if context.recorder is None else context.recorder.timed(served.engine)
        if context.background is not None and isinstance(permit, BackgroundPermit):
            return BackgroundEngine(engine, permit, context.background.checkpoint)
        return AdmittedEngine(engine, permit)

    @staticmethod
    def _at_engine(
        context: RequestContext, engine: Engine, mint_call_id: MintId, check: Check | None
    ) -> EngineAnswerer:
        recorder = context.recorder
        return EngineAnswerer(
            engine,
            mint_call_id=mint_call_id,
            on_recovered=None if recorder is None else recorder.recovered,
            on_schema_miss=None if recorder is None else recorder.schema_missed,
            check=check,
        )

    def _ask_elsewhere(self, context: RequestContext, served: ServedModel, found: ResolvedBackend) -> AskedModel:
        """A model of other servers, for this request."""
        if not self._may_leave(context):
            found = found.inside()
            if not found.endpoints:
                context.reject("model_not_allowed")
                raise PermissionDeniedError(
                    f"The model '{served.name}' is outside the house, where your requests may not go. "
                    "Who runs this server can allow it: `external: true` for the team, or `backends.external`.",
                    code="external_not_allowed",
                )
        permit = self._permits.permit(context, found)
        settings = served.settings
        reasoning = policy.restricted_reasoning(settings.reasoning, context.identity.policy)
        if reasoning is not settings.reasoning:
            settings = settings.model_copy(update={"reasoning": reasoning})
        return AskedModel(found.name, settings, self, context, ServedModel(found.name, settings, found=found), permit)

    def _may_be_cached(self, served: ServedModel, mode: CacheMode) -> bool:
        """Answers are kept under their model's identity: of no engine but the settings' own and its adapters."""
        if self._cache is None or mode == "off":
            return False
        return served.adapter is not None or self._models.resolve(served.name).own is served.own

    def _refuse(self, served: ServedModel, context: RequestContext, refusal: ApiError | None) -> None:
        """Raise the queue's refusal when the request came, now that it needs a slot."""
        if refusal is not None:
            if not served.settings.fallback:
                self._metrics.rejected(served.name, context.identity.team, rejection_reason(refusal))
            raise refusal

    def _may_leave(self, context: RequestContext) -> bool:
        """Whether the request may go to backends outside the house."""
        if self._tenancy.directory is None:
            return self._backends is not None and self._backends.external
        return context.identity.policy.external

    def _allows(self, team: Team, name: str) -> bool:
        if team.models is None:
            return True
        # A team that may use a model may use its presets, but not its adapters: those may have learnt what is not
        # for all.
        return name in team.models or self._models.resolve(name).called in team.models
