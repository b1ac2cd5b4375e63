"""Responses API: POST /v1/responses, and GET, DELETE, cancel and input items of stored responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.request_context import context_of
from serving.api.context import ApiContext, request_id
from serving.api.openai.responses.archive import ResponseArchive
from serving.api.openai.responses.background import BackgroundRun, BackgroundRuns
from serving.api.openai.responses.compaction import compacted
from serving.api.openai.responses.conversation_archive import ConversationArchive
from serving.api.openai.responses.inflight import InFlight
from serving.api.openai.responses.preparing import Preparer
from serving.api.openai.responses.query import Page, flag, integer, owner_of
from serving.api.openai.responses.request import (
    ResponsesRequest,
    parse_compact_request,
    parse_counted_request,
    parse_responses_request,
)
from serving.api.openai.responses.response import DeletedResponse, InputTokens, ResponseObject
from serving.api.recovered import with_recovered
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.wire.body import read
from serving.api.wire.presets import RESPONSES, expanding
from serving.background import Background, in_thread_if_long
from serving.errors import InvalidRequestError, StoreUnavailableError
from serving.harmony.conversation import approximate_size
from serving.harmony.tokenization import render_prompt
from serving.sealing import Seals
from serving.settings.storage import ResponsesSettings
from serving.store.base import Store

PATH = "/v1/responses"
RESPONSE_PATH = PATH + "/{response_id}"
INPUT_ITEMS_PATH = RESPONSE_PATH + "/input_items"
INPUT_TOKENS_PATH = PATH + "/input_tokens"
COMPACT_PATH = PATH + "/compact"

_MOST_EVENTS = 2**31
# A run ends itself after longest_answer_s; the stream around it allows for its last write.
_LAST_WRITE_S = 10.0
_CANCEL_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05


def responses_router(
    context: ApiContext, store: Store, seals: Seals, settings: ResponsesSettings, tasks: Background
) -> Router:
    """The routes; the schema of POST is added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="responses"), tags=["responses"])
    expand = expanding(context.variants, RESPONSES)
    archive = ResponseArchive(store, context.clock)
    preparer = Preparer(context, archive, ConversationArchive(store), seals, settings)
    background = BackgroundRuns(archive, tasks, settings.max_background)

    @router.post(PATH, summary="Answer items, whole or as a stream of typed events, and store the response")
    async def create_response(request: Request) -> Response:
        asked = await read(request, context.http, parse_responses_request, expand)
        if asked.background:
            return await _begun(context, preparer, background, request, asked)
        run, headers = await preparer.run(context_of(request.scope), asked)
        if asked.stream:
            return _stream(context, request, run.frames(), headers)
        reply = await until_disconnect(request.receive, run.whole())
        usage = reply["usage"]
        return JSONResponse(reply, headers=with_recovered(headers, usage.get("recovered", {}) if usage else {}))

    @router.post(INPUT_TOKENS_PATH, summary="Count the tokens of the prompt that a request becomes")
    async def count_input_tokens(request: Request) -> Response:
        asker = context_of(request.scope)

        def named(fields: dict[str, Any]) -> dict[str, Any]:
            own = {each.name for each in context.answerers.listed(asker) if each.root is None and each.parent is None}
            if fields.get("model") is None and len(own) == 1:
                fields = {**fields, "model": own.pop()}
            return expand(fields)

        asked = await read(request, context.http, parse_counted_request, named)
        conversation = (await preparer.counted(asker, asked)).generation.conversation
        tokens = await in_thread_if_long(approximate_size(conversation), lambda: len(render_prompt(conversation)))
        return JSONResponse(InputTokens(object="response.input_tokens", input_tokens=tokens))

    @router.post(COMPACT_PATH, summary="Replace a conversation by its user messages and a summary")
    async def compact(request: Request) -> Response:
        asked = await read(request, context.http, parse_compact_request, expand)
        compaction = compacted(preparer, context_of(request.scope), asked, context.http.longest_answer_s)
        return JSONResponse(await until_disconnect(request.receive, compaction))

    @router.get(RESPONSE_PATH, summary="A stored response, or with `stream` its events again")
    async def get_response(request: Request, response_id: str) -> Response:
        record = await archive.get(owner_of(request), response_id)
        if not flag(request.query_params, "stream"):
            return JSONResponse(record.response)
        if record.in_progress and not record.response["background"]:
            raise InvalidRequestError("The response is still in progress; it can be streamed again once it is over.")
        after = integer(request.query_params, "starting_after", default=-1, least=0, most=_MOST_EVENTS)
        return _stream(context, request, background.followed(owner_of(request), record, after), {})

    @router.delete(RESPONSE_PATH, summary="Forget a stored response")
    async def delete_response(request: Request, response_id: str) -> DeletedResponse:
        record = await archive.get(owner_of(request), response_id)
        if record.in_progress:
            raise InvalidRequestError("The response is still in progress; cancel it before deleting it.")
        await archive.delete(owner_of(request), response_id)
        return DeletedResponse(id=response_id, object="response", deleted=True)

    @router.post(RESPONSE_PATH + "/cancel", summary="Stop a response in progress")
    async def cancel_response(request: Request, response_id: str) -> Response:
        return JSONResponse(await _cancel(archive, preparer.in_flight, owner_of(request), response_id))

    @router.get(INPUT_ITEMS_PATH, summary="What a stored response was asked")
    async def list_input_items(request: Request, response_id: str) -> Response:
        page = Page.of(request.query_params)
        record = await archive.get(owner_of(request), response_id)
        return JSONResponse(page.of_items(list(record.input)))

    return router


def _stream(
    context: ApiContext, request: Request, frames: AsyncGenerator[bytes], headers: Mapping[str, str]
) -> EventStream[bytes]:
    return EventStream(
        frames,
        bytes,
        headers=headers,
        request_id=request_id(request),
        keep_alive_s=context.http.keep_alive_s,
        longest_s=context.http.longest_answer_s + _LAST_WRITE_S,
        # OpenAI's stream of a response ends with its last event.
        done=b"",
    )


async def _begun(
    context: ApiContext, preparer: Preparer, background: BackgroundRuns, request: Request, asked: ResponsesRequest
) -> Response:
    """Begin a background response; the reply is it as queued, or its events, which the client may leave."""
    background.check_room()
    asker = context_of(request.scope).detached()
    try:
        run, headers = await preparer.run(asker, asked)
        assert isinstance(run, BackgroundRun), "the request asks for one"
        queued = await background.start(run, asker)
    except BaseException:
        asker.settle()
        asker.recording.close(status=None, whole=False)
        raise
    if asked.stream:
        return _stream(context, request, background.followed(owner_of(request), run.record(), -1), headers)
    return JSONResponse(queued, headers=headers)


async def _cancel(archive: ResponseArchive, in_flight: InFlight, owner: str, response_id: str) -> ResponseObject:
    """Return the response once it is cancelled, by this server or the one that works on it."""
    record = await archive.get(owner, response_id)
    if not record.in_progress and record.response["status"] != "cancelled":
        raise InvalidRequestError(
            f"Response '{response_id}' is {record.response['status']}: only a response in progress can be cancelled."
        )
    if record.in_progress and not in_flight.interrupt(response_id):
        await archive.ask_to_cancel(response_id)
    try:
        async with asyncio.timeout(_CANCEL_WITHIN_S):
            while record.in_progress:
                await asyncio.sleep(_LOOK_EVERY_S)
                record = await archive.get(owner, response_id)
    except TimeoutError as error:
        raise StoreUnavailableError(
            "The server that works on this response has not stopped it yet. Ask again.", retry_after_s=1
        ) from error
    return record.response
