"""Responses API: POST /v1/responses, and GET, DELETE, cancel and input items of stored responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.reasoning import reasoning_limits
from serving.answering.request_context import context_of
from serving.api.context import ApiContext, request_id
from serving.api.openai.responses.archive import Earlier, ResponseArchive, ResponseRecord
from serving.api.openai.responses.draft import draft_response
from serving.api.openai.responses.inflight import InFlight
from serving.api.openai.responses.input import StoredItem, stored_item, user_item
from serving.api.openai.responses.items import ItemReference
from serving.api.openai.responses.mapping import constraints_in, responses_generation
from serving.api.openai.responses.query import Page, flag, integer, owner_of
from serving.api.openai.responses.replay import replay
from serving.api.openai.responses.request import ResponsesRequest, parse_responses_request
from serving.api.openai.responses.response import DeletedResponse, ResponseObject
from serving.api.openai.responses.run import ResponseRun, ResponseStorage
from serving.api.openai.responses.sealed import needs_seal, unsealed
from serving.api.openai.responses.toolbox import Toolbox
from serving.api.routing import PathRule, Router
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.event_stream import EventStream
from serving.api.wire.body import read
from serving.api.wire.presets import RESPONSES, expanding
from serving.errors import InvalidRequestError, ResponseNotFoundError, StoreUnavailableError
from serving.sealing import Seal, Seals
from serving.settings.storage import ResponsesSettings
from serving.store.base import Store

PATH = "/v1/responses"
RESPONSE_PATH = PATH + "/{response_id}"
INPUT_ITEMS_PATH = RESPONSE_PATH + "/input_items"

_MOST_EVENTS = 2**31
# A run ends itself after longest_answer_s; the stream around it allows for its last write.
_LAST_WRITE_S = 10.0
_CANCEL_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05


def responses_router(context: ApiContext, store: Store, seals: Seals, settings: ResponsesSettings) -> Router:
    """The routes; the schema of POST is added to the OpenAPI document by openapi.py."""
    router = Router(PathRule(PATH, label="responses"), tags=["responses"])
    expand = expanding(context.variants, RESPONSES)
    archive = ResponseArchive(store, context.clock)
    in_flight = InFlight(archive)

    @router.post(PATH, summary="Answer items, whole or as a stream of typed events, and store the response")
    async def create_response(request: Request) -> Response:
        asked = await read(request, context.http, parse_responses_request, expand)
        storage = ResponseStorage(archive, in_flight, owner_of(request))
        run, headers = await _prepare(context, request, asked, storage, seals, settings)
        if asked.stream:
            return _stream(context, request, run.frames(), headers)
        return JSONResponse(await until_disconnect(request.receive, run.whole()), headers=headers)

    @router.get(RESPONSE_PATH, summary="A stored response, or with `stream` its events again")
    async def get_response(request: Request, response_id: str) -> Response:
        record = await archive.get(owner_of(request), response_id)
        if not flag(request.query_params, "stream"):
            return JSONResponse(record.response)
        if record.in_progress:
            raise InvalidRequestError("The response is still in progress; it can be streamed again once it is over.")
        after = integer(request.query_params, "starting_after", default=-1, least=0, most=_MOST_EVENTS)
        return _stream(context, request, _replayed(record, after), {})

    @router.delete(RESPONSE_PATH, summary="Forget a stored response")
    async def delete_response(request: Request, response_id: str) -> DeletedResponse:
        record = await archive.get(owner_of(request), response_id)
        if record.in_progress:
            raise InvalidRequestError("The response is still in progress; cancel it before deleting it.")
        await archive.delete(owner_of(request), response_id)
        return DeletedResponse(id=response_id, object="response", deleted=True)

    @router.post(RESPONSE_PATH + "/cancel", summary="Stop a response that is being streamed")
    async def cancel_response(request: Request, response_id: str) -> Response:
        return JSONResponse(await _cancel(archive, in_flight, owner_of(request), response_id))

    @router.get(INPUT_ITEMS_PATH, summary="What a stored response was asked")
    async def list_input_items(request: Request, response_id: str) -> Response:
        page = Page.of(request.query_params)
        record = await archive.get(owner_of(request), response_id)
        return JSONResponse(page.of_items(list(record.input)))

    return router


async def _prepare(
    context: ApiContext,
    request: Request,
    asked: ResponsesRequest,
    storage: ResponseStorage,
    seals: Seals,
    settings: ResponsesSettings,
) -> tuple[ResponseRun, dict[str, str]]:
    """Make the run that answers `asked`, and the headers of its reply."""
    effort = asked.reasoning.effort if asked.reasoning else None
    asker = context_of(request.scope)
    model = context.answerers.ask(asker, asked.model, effort=effort)
    limits = reasoning_limits(
        model.settings.reasoning,
        effort=effort,
        max_reasoning_tokens=asked.max_reasoning_tokens,
        min_answer_tokens=asked.min_answer_tokens,
        effort_param="reasoning.effort",
    )
    recorder = asker.recording
    recorder.identify(model=model.name, effort=limits.effort, stream=bool(asked.stream))
    token, now = context.new_id(), context.clock()
    previous = asked.previous_response_id
    earlier = await storage.archive.earlier(storage.owner, previous) if previous else Earlier()
    seal = await seals.of(storage.owner, model.name) if needs_seal(asked) else None
    new = await _new_items(asked, storage, earlier, token, seal)
    toolbox = Toolbox(asked.tools)
    generation = responses_generation(
        asked,
        earlier.items,
        new,
        toolbox,
        request_id=f"resp-{token}",
        limits=limits,
        today=datetime.fromtimestamp(now, UTC).date(),
        answer_share=model.settings.truncation_answer_share,
    )
    generation, answerer = model.chat(generation, constraints=constraints_in(asked, toolbox))
    draft = draft_response(
        asked,
        response_id=f"resp_{token}",
        created_at=int(now),
        effort=limits.effort,
        summary=asked.summary(settings.reasoning_summary),
    )
    run = ResponseRun(
        answerer,
        generation,
        ResponseRecord(draft, new, earlier.ids),
        storage,
        recorder=recorder,
        clock=context.clock,
        longest_s=context.http.longest_answer_s,
        toolbox=toolbox,
        seal=seal if asked.encrypts_reasoning else None,
    )
    return run, {"x-reasoning-effort": limits.effort}


async def _new_items(
    asked: ResponsesRequest, storage: ResponseStorage, earlier: Earlier, token: str, seal: Seal | None
) -> list[StoredItem]:
    """Return the request's own items, with the items that references stand for."""
    if isinstance(asked.input, str):
        return [user_item(asked.input, token)]
    known = {item["id"]: item for item in earlier.items}
    missing = [item.id for item in asked.input if isinstance(item, ItemReference) and item.id not in known]
    if missing:
        known |= await storage.archive.referenced(storage.owner, missing)
    items = []
    for number, item in enumerate(asked.input):
        if not isinstance(item, ItemReference):
            items.append(stored_item(item, token, number, thought=unsealed(item, seal, number)))
        elif (found := known.get(item.id)) is not None:
            items.append(found)
        else:
            raise ResponseNotFoundError(
                f"Item with id '{item.id[:64]}' not found among stored responses. Send the item itself.",
                param=f"input[{number}].id",
            )
    return items


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


async def _replayed(record: ResponseRecord, starting_after: int) -> AsyncGenerator[bytes]:
    for frame in replay(record, starting_after=starting_after):
        yield frame
        await asyncio.sleep(0)


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
