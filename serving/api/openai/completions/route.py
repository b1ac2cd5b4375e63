"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.deadline import within
from serving.answering.request_context import context_of
from serving.api.context import ApiContext
from serving.api.openai.completions.chunks import TextChunks
from serving.api.openai.completions.reply import TextChunkEncoder, text_completion
from serving.api.openai.completions.request import CompletionRequest, Prompt, parse_completion_request
from serving.api.openai.sampling import constraint_of, sampling_of
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.wire.body import read
from serving.background import in_thread_if_long
from serving.errors import InvalidRequestError, InvalidValueError
from serving.generation import completions
from serving.generation.answerer import Answerer
from serving.generation.completions import CompletionAnswer, CompletionGeneration
from serving.generation.constraint_check import refusal
from serving.generation.types import ChatEvent
from serving.harmony.tokenization import decode_raw, encode_raw

PATH = "/v1/completions"


def completions_router(context: ApiContext) -> Router:
    """The route; its request schema is added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="completions"), tags=["completions"])

    @router.post(PATH, summary="Go on after a text or token ids, without a conversation around them")
    async def create_completion(request: Request) -> Response:
        asked = await read(request, context.http, parse_completion_request)
        if asked.model in context.variants:
            raise InvalidValueError(
                f"'{asked.model}' presets conversations, and this route has none: name the model "
                f"'{context.variants[asked.model].model}' instead.",
                param="model",
            )
        asker = context_of(request.scope)
        model = context.answerers.ask(asker, asked.model)
        asker.recording.identify(model=model.name, stream=bool(asked.stream))
        prompts = await in_thread_if_long(len(await request.body()), lambda: _token_ids(asked))
        generation = _generation(asked, prompts, request_id=f"cmpl-{context.new_id()}")
        reply = _Reply(context, request, asked, generation, model.raw(generation))
        return reply.streamed() if asked.stream else await reply.whole()

    return router


def _token_ids(asked: CompletionRequest) -> tuple[list[int], ...]:
    allow = bool(asked.allow_special_tokens)
    return tuple(
        encode_raw(prompt, allow_special=allow) if isinstance(prompt, str) else prompt for prompt in asked.prompt
    )


def _generation(asked: CompletionRequest, prompts: tuple[list[int], ...], *, request_id: str) -> CompletionGeneration:
    return CompletionGeneration(
        request_id=request_id,
        prompts=prompts,
        sampling=sampling_of(asked, logprobs=asked.logprobs),
        n=asked.n or 1,
        max_tokens=asked.max_tokens,
        stop=tuple(asked.stop or ()),
        skip_special=asked.skip_special_tokens is not False,
        constraint=constraint_of(asked),
    )


class _Reply:
    """One request on its way back to the client."""

    def __init__(
        self,
        context: ApiContext,
        request: Request,
        asked: CompletionRequest,
        generation: CompletionGeneration,
        answerer: Answerer,
    ) -> None:
        self._http = context.http
        self._request = request
        self._recorder = context_of(request.scope).recording
        self._asked = asked
        self._answerer = answerer
        self._created = int(context.clock())
        self._generation = generation

    async def whole(self) -> Response:
        """Return the reply in one piece."""
        answer = await until_disconnect(self._request.receive, self._complete())
        self._recorder.used(answer.usage)
        return JSONResponse(
            text_completion(
                answer,
                completion_id=self._generation.request_id,
                created=self._created,
                model=self._asked.model,
                echoed=self._echoed(),
                with_logprobs=self._asked.logprobs is not None,
            )
        )

    def streamed(self) -> Response:
        """Return the reply in chunks."""
        usage = self._asked.include_usage
        chunks = TextChunks(self._generation.request_id, self._created, self._asked.model, include_usage=usage)
        encode = TextChunkEncoder(chunks, echoed=self._echoed(), include_usage=usage)
        return EventStream(
            self._events(),
            self._recorder.watching(encode),
            headers={},
            request_id=self._recorder.request_id,
            keep_alive_s=self._http.keep_alive_s,
            longest_s=self._http.longest_answer_s,
        )

    async def _complete(self) -> CompletionAnswer:
        try:
            async with within(self._http.longest_answer_s):
                events = self._answerer.complete_raw(self._generation, streaming=False)
                return await completions.whole(events, self._generation)
        except InvalidRequestError as error:
            raise self._named(error) from error

    async def _events(self) -> AsyncGenerator[ChatEvent]:
        try:
            async with aclosing(self._answerer.complete_raw(self._generation, streaming=True)) as events:
                async for event in events:
                    yield event
        except InvalidRequestError as error:
            raise self._named(error) from error

    def _named(self, error: InvalidRequestError) -> InvalidRequestError:
        """An engine does not know which field a constraint came in."""
        form = self._asked.answer_format
        return error if error.param is not None or form is None else refusal(error, form.field)

    def _echoed(self) -> list[str] | None:
        """The prompt's text for each choice."""
        if not self._asked.echo:
            return None
        return [text for text in map(self._text, self._asked.prompt) for _ in range(self._generation.n)]

    def _text(self, prompt: Prompt) -> str:
        return prompt if isinstance(prompt, str) else decode_raw(prompt, skip_special=self._generation.skip_special)
