"""POST /v1/batches; GET of batches, and their cancellation."""

from __future__ import annotations

from starlette.requests import Request

from serving.answering.request_context import context_of
from serving.api.context import ApiContext
from serving.api.openai.batches.request import BatchRequest, parse_batch_request
from serving.api.openai.batches.response import BatchList, BatchObject, batch_object
from serving.api.openai.files.route import on, team_of
from serving.api.openai.page import page_of
from serving.api.routing import PathRule, Router
from serving.api.wire.body import parsed
from serving.batches.records import BatchRecord
from serving.batches.service import BatchService
from serving.errors import ConflictError, InvalidValueError, ItemNotFoundError, RateLimitError

PATH = "/v1/batches"
BATCH_PATH = PATH + "/{batch_id}"
CANCEL_PATH = BATCH_PATH + "/cancel"


def batches_router(context: ApiContext, service: BatchService | None) -> Router:
    """The routes; without a service each says that batches are off."""
    router = Router(PathRule(PATH, label="batches"), tags=["batches"])

    @router.post(PATH, summary="Answer the requests of a file in the idle slots of the engines")
    async def create_batch(request: Request) -> BatchObject:
        kept = on(service)
        asked = await parsed(parse_batch_request, await request.body())
        record = await _new_batch(context, kept, request, asked)
        await kept.batches.add(record)
        kept.worker.wake()
        return batch_object(record)

    @router.get(PATH, summary="The team's batches, the newest first")
    async def list_batches(request: Request) -> BatchList:
        kept, team = on(service), team_of(request)
        records = await kept.batches.all_of(team)
        page = page_of(records, lambda each: each.id, request.query_params, default=20, most=100)
        # Of those that are not finished, each may be cancelled by a mark beside it.
        data = [batch_object(each if each.finished else await kept.batches.get(team, each.id)) for each in page.items]
        return BatchList(
            object="list",
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=page.has_more,
        )

    @router.get(BATCH_PATH, summary="A batch, with the number of its lines that are done")
    async def retrieve_batch(request: Request, batch_id: str) -> BatchObject:
        return batch_object(await on(service).batches.get(team_of(request), batch_id))

    @router.post(CANCEL_PATH, summary="End a batch; what is answered so far is in its output file")
    async def cancel_batch(request: Request, batch_id: str) -> BatchObject:
        kept, team = on(service), team_of(request)
        record = await kept.batches.get(team, batch_id)
        if record.finished:
            raise ConflictError(f"The batch '{batch_id}' is {record.status} already, and cannot be cancelled.")
        await kept.batches.cancel(record)
        kept.worker.wake(batch_id)
        return batch_object(await kept.batches.get(team, batch_id))

    return router


async def _new_batch(context: ApiContext, kept: BatchService, request: Request, asked: BatchRequest) -> BatchRecord:
    identity = context_of(request.scope).identity
    window_s = asked.window_s(kept.settings.longest_window_h)
    try:
        file = await kept.files.get(identity.team, asked.input_file_id)
    except ItemNotFoundError as error:
        raise InvalidValueError(
            f"The file '{asked.input_file_id[:64]}' does not exist. Upload it to /v1/files with the purpose 'batch'.",
            param="input_file_id",
            code="file_not_found",
        ) from error
    if file.purpose != "batch":
        raise InvalidValueError(
            f"The file '{file.id}' has the purpose '{file.purpose}'; a batch reads files of the purpose 'batch'.",
            param="input_file_id",
        )
    unfinished = sum(team == identity.team for team, _ in await kept.batches.unfinished())
    if unfinished >= kept.settings.max_unfinished:
        raise RateLimitError(
            f"Your team has {unfinished} batches that are not finished, the most that it may have.",
            code="too_many_batches",
            should_retry=False,
        )
    now = int(context.clock())
    expiry = asked.output_expires_after
    return BatchRecord(
        id=f"batch_{context.new_id()}",
        team=identity.team,
        key_id=identity.key_id,
        endpoint=asked.endpoint,
        input_file_id=file.id,
        completion_window=asked.completion_window,
        created_at=now,
        expires_at=now + window_s,
        metadata=asked.metadata,
        output_keep_s=None if expiry is None else expiry.seconds,
    )
