"""POST /v1/files; GET and DELETE of a file, and its content."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serving.answering.request_context import context_of
from serving.api.openai.files.response import DeletedFile, FileList, FileObject, file_object
from serving.api.openai.files.upload import read_form, upload_in
from serving.api.openai.page import page_of
from serving.api.routing import PathRule, Router
from serving.batches.service import BatchService
from serving.errors import ConflictError, NotFoundError

PATH = "/v1/files"
FILE_PATH = PATH + "/{file_id}"
CONTENT_PATH = FILE_PATH + "/content"

_FORM_BYTES = 64 * 1024
_UPLOAD_S = 3600.0
_MOST_LISTED = 10_000


def files_router(service: BatchService | None) -> Router:
    """The routes; without a service each says that batches are off."""
    largest = None if service is None else service.settings.max_file_bytes + _FORM_BYTES
    rule = PathRule(PATH, label="files", max_body_bytes=largest, longest_body_s=_UPLOAD_S)
    router = Router(rule, tags=["files"])

    @router.post(PATH, summary="Keep a file of requests for a batch")
    async def create_file(request: Request) -> FileObject:
        files = on(service).files
        form = await read_form(request)
        try:
            upload = upload_in(form)
            async with aclosing(upload.chunks()) as chunks:
                record = await files.add(
                    team_of(request), chunks, filename=upload.filename, purpose="batch", keep_s=upload.keep_s
                )
        finally:
            await form.close()
        return file_object(record)

    @router.get(PATH, summary="The team's files, the newest first")
    async def list_files(request: Request) -> FileList:
        records = await on(service).files.all_of(team_of(request))
        purpose = request.query_params.get("purpose")
        wanted = [record for record in records if purpose is None or record.purpose == purpose]
        page = page_of(wanted, lambda each: each.id, request.query_params, default=_MOST_LISTED, most=_MOST_LISTED)
        data = [file_object(record) for record in page.items]
        return FileList(
            object="list",
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=page.has_more,
        )

    @router.get(FILE_PATH, summary="A file, without its content")
    async def retrieve_file(request: Request, file_id: str) -> FileObject:
        return file_object(await on(service).files.get(team_of(request), file_id))

    @router.get(CONTENT_PATH, summary="The content of a file")
    async def retrieve_content(request: Request, file_id: str) -> Response:
        files, team = on(service).files, team_of(request)
        record = await files.get(team, file_id)
        headers = {"content-length": str(record.bytes)}
        return StreamingResponse(files.content(team, file_id), media_type="application/jsonl", headers=headers)

    @router.delete(FILE_PATH, summary="Delete a file")
    async def delete_file(request: Request, file_id: str) -> DeletedFile:
        kept, team = on(service), team_of(request)
        await kept.files.get(team, file_id)
        for team_name, batch_id in await kept.batches.unfinished():
            if team_name == team and (await kept.batches.get(team, batch_id)).input_file_id == file_id:
                raise ConflictError(f"The batch {batch_id} reads this file and is not finished. Cancel it first.")
        await kept.files.delete(team, file_id)
        return DeletedFile(id=file_id, object="file", deleted=True)

    return router


def on(service: BatchService | None) -> BatchService:
    """The service; raises NotFoundError where batches are off."""
    if service is None:
        raise NotFoundError(
            "This server keeps no files and has no batches: `batches.storage` in its settings is not set.",
            code="batches_off",
        )
    return service


def team_of(request: Request) -> str:
    """Team of the request's key, which sees its own files and batches alone."""
    return context_of(request.scope).identity.team
