"""Replies of the Batches API."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from serving.batches.records import BatchRecord, Endpoint, Status


class BatchErrorItem(TypedDict):
    """A mistake in the input file."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(TypedDict):
    """The first mistakes in the input file."""

    object: Literal["list"]
    data: list[BatchErrorItem]


class RequestCounts(TypedDict):
    """Numbers of lines."""

    total: int
    completed: int
    failed: int


class BatchInputTokensDetails(TypedDict):
    """Tokens of prompts that the prefix cache had."""

    cached_tokens: int


class BatchOutputTokensDetails(TypedDict):
    """Tokens of reasoning."""

    reasoning_tokens: int


class BatchUsage(TypedDict):
    """Tokens of all answers."""

    input_tokens: int
    input_tokens_details: BatchInputTokensDetails
    output_tokens: int
    output_tokens_details: BatchOutputTokensDetails
    total_tokens: int


class BatchObject(TypedDict):
    """A batch; times are in seconds since the epoch."""

    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(TypedDict):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(record: BatchRecord) -> BatchObject:
    """A kept batch as clients see it."""
    errors = [BatchErrorItem(code=e.code, message=e.message, param=e.param, line=e.line) for e in record.errors]
    spent = record.spent
    return BatchObject(
        id=record.id,
        object="batch",
        endpoint=record.endpoint,
        model=record.model,
        errors=BatchErrors(object="list", data=errors) if errors else None,
        input_file_id=record.input_file_id,
        completion_window=record.completion_window,
        status=record.status,
        output_file_id=record.output_file_id,
        error_file_id=record.error_file_id,
        created_at=record.created_at,
        in_progress_at=record.in_progress_at,
        expires_at=record.expires_at,
        finalizing_at=record.finalizing_at,
        completed_at=record.completed_at,
        failed_at=record.failed_at,
        expired_at=record.expired_at,
        cancelling_at=record.cancelling_at,
        cancelled_at=record.cancelled_at,
        request_counts=RequestCounts(total=record.total, completed=record.completed, failed=record.failed),
        usage=BatchUsage(
            input_tokens=spent.input_tokens,
            input_tokens_details=BatchInputTokensDetails(cached_tokens=spent.cached_tokens),
            output_tokens=spent.output_tokens,
            output_tokens_details=BatchOutputTokensDetails(reasoning_tokens=spent.reasoning_tokens),
            total_tokens=spent.input_tokens + spent.output_tokens,
        ),
        metadata=None if record.metadata is None else dict(record.metadata),
    )
