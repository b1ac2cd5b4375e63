"""The response object and its output items, as OpenAI shapes them.

Fields marked NotRequired are left out where they say nothing; all others are always there, null or not. `channel`,
`reasoning_truncated` and the usage's `cache` are ours.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from serving.api.openai.logprobs import TopLogprob
from serving.harmony.channels import SpokenChannel

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class Logprob(TopLogprob):
    """The token that was chosen at one position."""

    top_logprobs: list[TopLogprob]


class OutputText(TypedDict):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Logprob]


class ReasoningText(TypedDict):
    """The text of a reasoning item."""

    type: Literal["reasoning_text"]
    text: str


class MessageOutput(TypedDict):
    """Message of the model to the user: a preamble of a call (phase commentary) or its answer."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    phase: Literal["commentary", "final_answer"]
    channel: SpokenChannel
    content: list[OutputText]


class SummaryText(TypedDict):
    """The summary of a reasoning item: its text once more."""

    type: Literal["summary_text"]
    text: str


class ReasoningOutput(TypedDict):
    """Thoughts of the model; `summary` and `encrypted_content` where the request asks for them."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[SummaryText]
    content: list[ReasoningText]
    encrypted_content: str | None


class FunctionCallOutput(TypedDict):
    """A function the model asks the client to call, with arguments exactly as it wrote them."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: NotRequired[str]


class CustomToolCallOutput(TypedDict):
    """A custom tool the model asks the client to call, with its input as text."""

    id: str
    type: Literal["custom_tool_call"]
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: NotRequired[str]


class ApplyPatchCallOutput(TypedDict):
    """A change of one file that the model asks for: `operation` has type, path and, unless it deletes, diff."""

    id: str
    type: Literal["apply_patch_call"]
    status: ItemStatus
    call_id: str
    operation: dict[str, Any]


class LocalShellCallOutput(TypedDict):
    """A command that the model asks the client to run."""

    id: str
    type: Literal["local_shell_call"]
    status: ItemStatus
    call_id: str
    action: dict[str, Any]


class ShellCallOutput(TypedDict):
    """Shell commands that the model asks the client to run."""

    id: str
    type: Literal["shell_call"]
    status: ItemStatus
    call_id: str
    action: dict[str, Any]
    environment: dict[str, str]


CallOutput = FunctionCallOutput | CustomToolCallOutput | ApplyPatchCallOutput | LocalShellCallOutput | ShellCallOutput
OutputItem = MessageOutput | ReasoningOutput | CallOutput


class InputTokensDetails(TypedDict):
    """Parts of input_tokens. OpenAI bills what is written to a cache; here it is part of the work, reported as 0."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(TypedDict):
    """Parts of output_tokens; reasoning_tokens counts the analysis channel."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Tokens spent. `cache` is there where no engine worked for the request: "hit" or "shared".

    `recovered` counts, by kind, where the server mended what the model wrote; it is left out where it never did.
    """

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int
    cache: NotRequired[Literal["hit", "shared"]]
    recovered: NotRequired[dict[str, int]]


class ResponseFailure(TypedDict):
    """Why a response failed; `code` is one of OpenAI's."""

    code: str
    message: str


class IncompleteDetails(TypedDict):
    """Reason that a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseObject(TypedDict):
    """The reply of POST /v1/responses. `model` is the name that was asked for; times are seconds since the epoch."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    background: bool
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: ResponseUsage | None
    user: str | None
    reasoning_truncated: NotRequired[bool]
    conversation: NotRequired[dict[str, str]]


class InputTokens(TypedDict):
    """The reply of POST /v1/responses/input_tokens."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class CompactionOutput(TypedDict):
    """A conversation's summary, encrypted."""

    id: str
    type: Literal["compaction"]
    encrypted_content: str


class CompactedResponse(TypedDict):
    """The reply of POST /v1/responses/compact: the messages that stay, then the summary of all."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[dict[str, Any] | CompactionOutput]
    usage: ResponseUsage


class DeletedResponse(TypedDict):
    """The reply of DELETE /v1/responses/{id}."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItemList(TypedDict):
    """A page of a response's input items; ids are null where it is empty."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def as_begun(response: ResponseObject) -> ResponseObject:
    """`response` as it was before its first item."""
    begun = response.copy()
    begun["status"] = "in_progress"
    begun["output"] = []
    begun["completed_at"] = begun["error"] = begun["incomplete_details"] = begun["usage"] = None
    begun.pop("reasoning_truncated", None)
    return begun
