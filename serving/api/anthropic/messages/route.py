"""Anthropic's Messages API: POST /v1/messages and POST /v1/messages/count_tokens."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, date, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.deadline import within
from serving.answering.reasoning import reasoning_limits
from serving.answering.request_context import context_of
from serving.api.anthropic.messages.context_management import ContextManagement, edited
from serving.api.anthropic.messages.events import MESSAGE_STOP, PING, error_event
from serving.api.anthropic.messages.input import conversation_of
from serving.api.anthropic.messages.mapping import constraints_in, messages_generation
from serving.api.anthropic.messages.output import MessageBuilder, MessageEncoder
from serving.api.anthropic.messages.request import MessagesRequest, parse_count_tokens_request, parse_messages_request
from serving.api.anthropic.messages.response import AppliedEdits, CountedTokens, MessageReply
from serving.api.context import ApiContext, request_id
from serving.api.error_replies import ANTHROPIC_PATH
from serving.api.recovered import with_recovered
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.unenforced import unenforced
from serving.api.wire.anthropic_errors import messages_error
from serving.api.wire.body import read
from serving.api.wire.presets import COUNT_TOKENS, MESSAGES, expanding
from serving.background import in_thread_if_long
from serving.errors import ApiError
from serving.generation.answer import AnswerBuilder
from serving.generation.answerer import Answerer
from serving.generation.ids import mint_call_id
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import Conversation
from serving.harmony.tokenization import render_prompt

PATH = ANTHROPIC_PATH
COUNT_PATH = f"{PATH}/count_tokens"


def messages_router(context: ApiContext) -> Router:
    """The routes; their request schemas are added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="messages"), tags=["messages"])
    expand = expanding(context.variants, MESSAGES)
    expand_counted = expanding(context.variants, COUNT_TOKENS)

    @router.post(PATH, summary="Answer a conversation as Anthropic's API does, whole or as a stream")
    async def create_message(request: Request) -> Response:
        asked = await read(request, context.http, parse_messages_request, expand)
        asker = context_of(request.scope)
        model = context.answerers.ask(asker, asked.model, effort=asked.effort)
        token = context.new_id()
        generation = messages_generation(asked, model.settings, request_id=f"msg-{token}", today=_today(context))
        edits: AppliedEdits | None = None
        if (management := asked.context_management) is not None:
            conversation, size = generation.conversation, len(await request.body())
            context_now = await in_thread_if_long(size, lambda: edited(conversation, management))
            generation = replace(generation, conversation=context_now.conversation)
            edits = AppliedEdits(applied_edits=list(context_now.applied))
        generation, answerer = model.chat(generation, constraints=constraints_in(asked), mint_call_id=_mint_tool_use_id)
        effort = generation.conversation.effort
        asker.recording.identify(model=model.name, effort=effort, stream=bool(asked.stream))
        reply = _Reply(context, request, asked, generation, answerer, edits, message_id=f"msg_{token}")
        return reply.streamed() if asked.stream else await reply.whole()

    @router.post(COUNT_PATH, summary="How many tokens a prompt has")
    async def count_tokens(request: Request) -> Response:
        asked = await read(request, context.http, parse_count_tokens_request, expand_counted)
        asker = context_of(request.scope)
        served = context.answerers.find(asker, asked.model)
        asker.recording.identify(model=served.name)
        limits = reasoning_limits(served.settings.reasoning, effort=asked.effort, effort_param=asked.effort_field)
        conversation = conversation_of(asked, effort=limits.effort, today=_today(context))
        counted = await in_thread_if_long(
            len(await request.body()), lambda: _counted(conversation, asked.context_management)
        )
        return JSONResponse(counted, headers={"request-id": request_id(request)})

    return router


def _counted(conversation: Conversation, management: ContextManagement | None) -> CountedTokens:
    before = len(render_prompt(conversation))
    if management is None:
        return CountedTokens(input_tokens=before)
    after = len(render_prompt(edited(conversation, management).conversation))
    return CountedTokens(input_tokens=after, context_management={"original_input_tokens": before})


def _today(context: ApiContext) -> date:
    return datetime.fromtimestamp(context.clock(), UTC).date()


class _Reply:
    """One request on its way back to the client."""

    def __init__(
        self,
        context: ApiContext,
        request: Request,
        asked: MessagesRequest,
        generation: ChatGeneration,
        answerer: Answerer,
        edits: AppliedEdits | None,
        *,
        message_id: str,
    ) -> None:
        self._http = context.http
        self._request = request
        self._request_id = request_id(request)
        self._model = asked.model
        self._message_id = message_id
        self._edits = edits
        self._generation = generation
        self._answerer = answerer
        self._headers = {"x-reasoning-effort": generation.conversation.effort, "request-id": self._request_id}
        if generation.forced_tools:
            self._headers |= unenforced(generation)
        self._recorder = context_of(request.scope).recording

    async def whole(self) -> Response:
        """Return the reply in one piece."""
        reply = await until_disconnect(self._request.receive, self._complete())
        return JSONResponse(reply, headers=with_recovered(self._headers, reply["usage"].get("recovered", {})))

    def streamed(self) -> Response:
        """Return the reply as events."""
        return EventStream(
            self._answerer.answer(self._generation, streaming=True),
            self._recorder.watching(MessageEncoder(self._message_id, self._model, self._edits)),
            headers=self._headers,
            request_id=self._request_id,
            keep_alive_s=self._http.keep_alive_s,
            longest_s=self._http.longest_answer_s,
            done=MESSAGE_STOP,
            keep_alive=PING,
            encode_error=self._error_event,
        )

    async def _complete(self) -> MessageReply:
        builder, answer = MessageBuilder(self._message_id, self._model, self._edits), AnswerBuilder(self._generation)
        events = self._answerer.answer(self._generation, streaming=False)
        async with within(self._http.longest_answer_s), aclosing(events):
            async for event in events:
                builder.add(event)
                answer.add(event)
        self._recorder.answered(answer.answer())
        return builder.reply()

    def _error_event(self, error: ApiError) -> bytes:
        return error_event(messages_error(error, self._request_id))


def _mint_tool_use_id() -> str:
    """A call's id in Anthropic's form."""
    return "toolu_" + mint_call_id().removeprefix("call_")
