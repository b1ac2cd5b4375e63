"""Answers of other servers as one request sees them: behind its team's limits and policy, and counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from serving.answering.watch import RequestWatch
from serving.backends.registry import ResolvedBackend
from serving.backends.routing import Router
from serving.background import in_thread_if_long
from serving.engine.base import EngineRequest
from serving.errors import ContextLengthExceededError, UnsupportedParameterError
from serving.generation.completions import CompletionGeneration
from serving.generation.ids import MintId
from serving.generation.types import ChatEvent, ChatGeneration, GenerationFinished, TextDelta, ToolArgumentsDelta
from serving.harmony.conversation import approximate_size
from serving.harmony.tokenization import render_prompt
from serving.tenancy.flow_control.permit import AdmissionPermit

_EXPECTED_TOKENS = 4096
"""What an answer without max_tokens is taken to have at most, where the context of a server is not known."""


class BackendAnswerer:
    """Answers with a model of other servers. The permit is this answerer's own: it alone begins and ends it."""

    def __init__(
        self, found: ResolvedBackend, router: Router, permit: AdmissionPermit, watch: RequestWatch, mint_call_id: MintId
    ) -> None:
        self._found = found
        self._router = router
        self._permit = permit
        self._watch = watch
        self._mint_call_id = mint_call_id

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer. Raises UnsupportedParameterError."""
        raise no_tokens()

    async def answer(self, request: ChatGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer. Raises as AdmissionPermit.acquire and Router.answer, and AnswerTimeoutError at the deadline."""
        permit, conversation = self._permit, request.conversation
        size = approximate_size(conversation)
        prompt = await in_thread_if_long(size, lambda: render_prompt(conversation))
        request = self._within_policy(request, len(prompt))
        permit.effort, permit.sequences = conversation.effort, request.n
        sampling = replace(request.sampling, max_tokens=request.max_tokens or _EXPECTED_TOKENS)
        engine_request = EngineRequest(request.request_id, prompt, sampling)
        await permit.acquire(engine_request)
        self._watch.model = self._found.name
        try:
            answer = self._router.answer(
                self._found.name, self._found.endpoints, request, self._mint_call_id, prompt, self._watch
            )
            async with aclosing(answer), aclosing(_in_time(permit, answer)) as events:
                async for event in events:
                    self._count(engine_request, event)
                    yield event
        finally:
            permit.release()

    def _within_policy(self, request: ChatGeneration, prompt_tokens: int) -> ChatGeneration:
        """`request` with no more output than the team may have; raises ContextLengthExceededError.

        The prompt is counted as gpt-oss has it, which is what the team's limit speaks of.
        """
        policy = self._permit.identity.policy
        most = request.max_tokens
        if policy.max_output is not None:
            most = min(most or policy.max_output, policy.max_output)
        if policy.max_context is not None:
            left = policy.max_context - prompt_tokens
            if left < (request.max_tokens or 1):
                raise ContextLengthExceededError(
                    f"Your team may use {policy.max_context} tokens of context; your messages have {prompt_tokens} and "
                    f"the answer asks for {request.max_tokens or 1}. Shorten the messages or ask for less.",
                    param="messages",
                )
            most = min(most or left, left)
        return replace(request, max_tokens=most)

    def _count(self, engine_request: EngineRequest, event: ChatEvent) -> None:
        permit = self._permit
        if isinstance(event, TextDelta | ToolArgumentsDelta):
            permit.spent.add(engine_request, 1, 0)
        elif isinstance(event, GenerationFinished):
            permit.spent.add(engine_request, 0, 0)
            usage = event.usage
            permit.spent.prompt, permit.spent.cached = usage.prompt_tokens, usage.cached_tokens
            permit.spent.output = usage.completion_tokens


def no_tokens() -> UnsupportedParameterError:
    """The refusal of requests that speak of tokens, for a model of other servers."""
    return UnsupportedParameterError(
        "This model is at another server, which takes conversations and no tokens. Use /v1/chat/completions.",
        param="model",
    )


def _in_time(permit: AdmissionPermit, events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[ChatEvent]:
    return events if permit.deadline is None else permit.in_time(events)
