"""Replies of the Files API."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from serving.batches.files import FileRecord, Purpose


class FileObject(TypedDict):
    """A file; times are in seconds since the epoch."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"]


class FileList(TypedDict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(TypedDict):
    """A file that is no more."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


def file_object(record: FileRecord) -> FileObject:
    """A kept file as clients see it."""
    return FileObject(
        id=record.id,
        object="file",
        bytes=record.bytes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        filename=record.filename,
        purpose=record.purpose,
        status="processed",
    )
