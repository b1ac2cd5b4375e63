"""Upload of a file: the multipart form of POST /v1/files."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from serving.batches.storage import CHUNK_BYTES
from serving.errors import InvalidValueError, MalformedBodyError, UnsupportedParameterError

_FIELDS = frozenset(("file", "purpose", "expires_after[anchor]", "expires_after[seconds]"))
_SHORTEST_S, _LONGEST_S = 3600, 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that is complete, on this machine's disk where it is large."""

    file: UploadFile
    keep_s: int | None

    @property
    def filename(self) -> str:
        """Name that the client gave it."""
        return self.file.filename or "batch.jsonl"

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Content in chunks."""
        while chunk := await self.file.read(CHUNK_BYTES):
            yield chunk


async def read_form(request: Request) -> FormData:
    """Form of the request, to be closed; raises MalformedBodyError."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise MalformedBodyError(
            "A file is uploaded as multipart/form-data, with the fields 'file' and 'purpose'.", code="invalid_form"
        )
    try:
        return await request.form(max_files=1, max_fields=len(_FIELDS))
    except (MultiPartException, HTTPException, KeyError, UnicodeDecodeError) as error:
        reason = error.detail if isinstance(error, HTTPException) else str(error)
        raise MalformedBodyError(f"The form cannot be read: {reason}.", code="invalid_form") from error


def upload_in(form: FormData) -> Upload:
    """The upload in a form; raises InvalidValueError or UnsupportedParameterError."""
    for name in form:
        if name not in _FIELDS:
            shown = name[:64]
            raise UnsupportedParameterError(f"Unknown parameter: '{shown}'.", param=shown, code="unknown_parameter")
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidValueError("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    purpose = form.get("purpose")
    if purpose is None:
        raise InvalidValueError(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if purpose != "batch":
        raise InvalidValueError(
            "Invalid value for 'purpose'. This server keeps files for 'batch' alone.", param="purpose"
        )
    return Upload(file, _keep_s(form))


def _keep_s(form: FormData) -> int | None:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    return None if anchor is None and seconds is None else checked_expiry(anchor, seconds, "expires_after")


def checked_expiry(anchor: object, seconds: object, name: Literal["expires_after", "output_expires_after"]) -> int:
    """Seconds for which a file is kept, as a client asks for; raises InvalidValueError."""
    if anchor != "created_at":
        raise InvalidValueError(
            f"Invalid value for '{name}.anchor'. Supported values are: 'created_at'.", param=f"{name}.anchor"
        )
    text = str(seconds)
    if not (text.isascii() and text.isdecimal() and _SHORTEST_S <= int(text[:12]) <= _LONGEST_S):
        raise InvalidValueError(
            f"Invalid '{name}.seconds': expected a whole number from {_SHORTEST_S} to {_LONGEST_S}.",
            param=f"{name}.seconds",
        )
    return int(text)
