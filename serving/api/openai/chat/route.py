"""POST /v1/chat/completions."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.deadline import within
from serving.answering.request_context import context_of
from serving.api.context import ApiContext
from serving.api.openai.chat.chunks import ChatChunks
from serving.api.openai.chat.mapping import chat_generation, constraints_in
from serving.api.openai.chat.reply import ChunkEncoder, chat_completion
from serving.api.openai.chat.request import ChatCompletionRequest, parse_chat_request
from serving.api.openai.chat.style import ReplyStyle, reply_style
from serving.api.openai.chat.thinking import SeparateThinking
from serving.api.recovered import with_recovered
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.unenforced import unenforced
from serving.api.wire.body import read
from serving.api.wire.presets import CHAT, expanding
from serving.generation import chat
from serving.generation.answerer import Answerer
from serving.generation.types import ChatAnswer, ChatGeneration

PATH = "/v1/chat/completions"


def chat_router(context: ApiContext) -> Router:
    """The route; its request schema is added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="chat"), tags=["chat"])
    expand = expanding(context.variants, CHAT)

    @router.post(PATH, summary="Answer a conversation, whole or as a stream")
    async def create_chat_completion(request: Request) -> Response:
        asked = await read(request, context.http, parse_chat_request, expand)
        asker = context_of(request.scope)
        model = context.answerers.ask(asker, asked.model, effort=asked.effort)
        now = context.clock()
        generation = chat_generation(
            asked,
            model.settings,
            request_id=f"chatcmpl-{context.new_id()}",
            today=datetime.fromtimestamp(now, UTC).date(),
        )
        generation, answerer = model.chat(generation, constraints=constraints_in(asked))
        effort = generation.conversation.effort
        asker.recording.identify(model=model.name, effort=effort, stream=bool(asked.stream))
        reply = _Reply(context, request, asked, generation, answerer, created=int(now))
        return reply.streamed() if asked.stream else await reply.whole()

    return router


class _Reply:
    """One request on its way back to the client."""

    def __init__(
        self,
        context: ApiContext,
        request: Request,
        asked: ChatCompletionRequest,
        generation: ChatGeneration,
        answerer: Answerer,
        *,
        created: int,
    ) -> None:
        self._http = context.http
        self._request = request
        self._asked = asked
        self._generation = generation
        self._answerer = answerer
        self._created = created
        self._headers: dict[str, str] = {"x-reasoning-effort": generation.conversation.effort}
        if generation.forced_tools:
            self._headers |= unenforced(generation)
        self._recorder = context_of(request.scope).recording

    async def whole(self) -> Response:
        """Return the reply in one piece."""
        answer = await until_disconnect(self._request.receive, self._complete())
        self._recorder.answered(answer)
        body = chat_completion(
            answer,
            self._style(),
            completion_id=self._generation.request_id,
            created=self._created,
            model=self._asked.model,
            separate=self._separate(),
        )
        return JSONResponse(body, headers=with_recovered(self._headers, answer.usage.recovered))

    def streamed(self) -> Response:
        """Return the reply in chunks."""
        usage = self._asked.include_usage
        asked, request_id = self._asked, self._generation.request_id
        chunks = ChatChunks(request_id, self._created, asked.model, self._style(), include_usage=usage)
        encode = ChunkEncoder(chunks, choices=self._generation.n, include_usage=usage, separate=self._separate())
        return EventStream(
            self._answerer.answer(self._generation, streaming=True),
            self._recorder.watching(encode),
            headers=self._headers,
            request_id=self._recorder.request_id,
            keep_alive_s=self._http.keep_alive_s,
            longest_s=self._http.longest_answer_s,
        )

    def _style(self) -> ReplyStyle:
        return reply_style(self._http, has_form=self._generation.answer is not None)

    def _separate(self) -> SeparateThinking | None:
        if not self._asked.separate_thinking:
            return None
        return SeparateThinking(show_reasoning=self._generation.include_reasoning)

    async def _complete(self) -> ChatAnswer:
        async with within(self._http.longest_answer_s):
            return await chat.whole(self._answerer.answer(self._generation, streaming=False), self._generation)
