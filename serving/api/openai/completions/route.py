"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.deadline import within
from serving.answering.models import ServedModel
from serving.api.context import ApiContext, request_id
from serving.api.openai.completions.chunks import TextChunks
from serving.api.openai.completions.reply import TextChunkEncoder, text_completion
from serving.api.openai.completions.request import CompletionRequest, Prompt, parse_completion_request
from serving.api.openai.sampling import constraint_of, sampling_of
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.wire.body import in_thread_if_long, parsed
from serving.errors import InvalidRequestError, InvalidValueError
from serving.generation import completions
from serving.generation.completions import CompletionAnswer, CompletionGeneration
from serving.generation.constraint_check import refusal
from serving.generation.types import ChatEvent
from serving.harmony.tokenization import decode_raw, encode_raw
from serving.telemetry.recorder import recorder_of

PATH = "/v1/completions"


def completions_router(context: ApiContext) -> Router:
    """The route; its request schema is added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="completions"), tags=["completions"])

    @router.post(PATH, summary="Go on after a text or token ids, without a conversation around them")
    async def create_completion(request: Request) -> Response:
        body = await request.body()
        asked = await parsed(parse_completion_request, body)
        if asked.model in context.variants:
            raise InvalidValueError(
                f"'{asked.model}' presets conversations, and this route has none: name the model "
                f"'{context.variants[asked.model].model}' instead.",
                param="model",
            )
        served = context.access.serve(request, asked.model)
        recorder_of(request.scope).identify(model=served.name, stream=bool(asked.stream))
        prompts = await in_thread_if_long(len(body), lambda: _token_ids(asked))
        context.access.expect(
            request,
            sequences=len(prompts) * (asked.n or 1),
            prompt_tokens=sum(map(len, prompts)),
            max_tokens=asked.max_tokens,
        )
        reply = _Reply(context, request, asked, served, prompts)
        return reply.streamed() if asked.stream else await reply.whole()

    return router


def _token_ids(asked: CompletionRequest) -> tuple[list[int], ...]:
    allow = bool(asked.allow_special_tokens)
    return tuple(
        encode_raw(prompt, allow_special=allow) if isinstance(prompt, str) else prompt for prompt in asked.prompt
    )


class _Reply:
    """One request on its way back to the client."""

    def __init__(
        self,
        context: ApiContext,
        request: Request,
        asked: CompletionRequest,
        served: ServedModel,
        prompts: tuple[list[int], ...],
    ) -> None:
        self._http = context.http
        self._request = request
        self._recorder = recorder_of(request.scope)
        self._asked = asked
        self._engine = served.engine
        self._created = int(context.clock())
        self._generation = CompletionGeneration(
            request_id=f"cmpl-{context.new_id()}",
            prompts=prompts,
            sampling=sampling_of(asked, logprobs=asked.logprobs),
            n=asked.n or 1,
            max_tokens=asked.max_tokens,
            stop=tuple(asked.stop or ()),
            skip_special=asked.skip_special_tokens is not False,
            constraint=constraint_of(asked),
        )

    async def whole(self) -> Response:
        """The reply in one piece."""
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
        """The reply in chunks."""
        usage = self._asked.include_usage
        chunks = TextChunks(self._generation.request_id, self._created, self._asked.model, include_usage=usage)
        encode = TextChunkEncoder(chunks, echoed=self._echoed(), include_usage=usage)
        return EventStream(
            self._events(),
            self._recorder.watching(encode),
            headers={},
            request_id=request_id(self._request),
            keep_alive_s=self._http.keep_alive_s,
            longest_s=self._http.longest_answer_s,
        )

    async def _complete(self) -> CompletionAnswer:
        try:
            async with within(self._http.longest_answer_s):
                return await completions.complete(self._engine, self._generation)
        except InvalidRequestError as error:
            raise self._named(error) from error

    async def _events(self) -> AsyncGenerator[ChatEvent]:
        try:
            async with aclosing(completions.stream(self._engine, self._generation)) as events:
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
