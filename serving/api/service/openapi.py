"""OpenAPI document: FastAPI's part from the routes, and the bodies that the routes read themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from serving.api.anthropic.messages.request import CountTokensRequest, MessagesRequest
from serving.api.anthropic.messages.response import CountedTokens, MessageReply
from serving.api.anthropic.messages.route import COUNT_PATH
from serving.api.anthropic.messages.route import PATH as MESSAGES_PATH
from serving.api.error_replies import is_anthropic
from serving.api.openai.batches.request import BatchRequest
from serving.api.openai.batches.response import BatchObject
from serving.api.openai.batches.route import PATH as BATCHES_PATH
from serving.api.openai.chat.request import ChatCompletionRequest
from serving.api.openai.chat.response import ChatCompletion
from serving.api.openai.chat.route import PATH as CHAT_PATH
from serving.api.openai.completions.request import CompletionRequest
from serving.api.openai.completions.response import TextCompletion
from serving.api.openai.completions.route import PATH as COMPLETIONS_PATH
from serving.api.openai.files.route import CONTENT_PATH
from serving.api.openai.files.route import PATH as FILES_PATH
from serving.api.openai.responses.request import CompactRequest, CountedRequest, ResponsesRequest
from serving.api.openai.responses.response import CompactedResponse, InputItemList, InputTokens, ResponseObject
from serving.api.openai.responses.route import COMPACT_PATH, INPUT_ITEMS_PATH, INPUT_TOKENS_PATH, RESPONSE_PATH
from serving.api.openai.responses.route import PATH as RESPONSES_PATH
from serving.api.openai.tokenize.route import DETOKENIZE_PATHS, TOKENIZE_PATHS
from serving.api.openai.tokenize.wire import (
    Detokenized,
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeTextRequest,
    Tokens,
)
from serving.api.wire.anthropic_errors import MessagesErrorResponse
from serving.api.wire.errors import ErrorResponse

_UPLOAD = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file", "purpose"],
            "properties": {
                "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                "purpose": {"const": "batch"},
                "expires_after[anchor]": {"const": "created_at"},
                "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
            },
        }
    }
}
_REFERENCE = "#/components/schemas/{model}"


def openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A function for FastAPI's `app.openapi`; the document is made on first use."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    errors = {"description": "An error", "content": _json(_add(schemas, "ErrorResponse", ErrorResponse))}
    anthropics = {**errors, "content": _json(_add(schemas, "MessagesErrorResponse", MessagesErrorResponse))}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # FastAPI announces its own 422, which we never send.
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = anthropics if is_anthropic(path) else errors
    _describe(document, CHAT_PATH, ChatCompletionRequest, ChatCompletion)
    _describe(document, COMPLETIONS_PATH, CompletionRequest, TextCompletion)
    for path in TOKENIZE_PATHS:
        _describe(document, path, TokenizeTextRequest, Tokens, streams=False)
        both = [_add(schemas, each.__name__, each) for each in (TokenizeTextRequest, TokenizeChatRequest)]
        document["paths"][path]["post"]["requestBody"]["content"] = {"application/json": {"schema": {"anyOf": both}}}
    for path in DETOKENIZE_PATHS:
        _describe(document, path, DetokenizeRequest, Detokenized, streams=False)
    _describe(document, RESPONSES_PATH, ResponsesRequest, ResponseObject)
    _describe(document, INPUT_TOKENS_PATH, CountedRequest, InputTokens, streams=False)
    _describe(document, COMPACT_PATH, CompactRequest, CompactedResponse, streams=False)
    _describe(document, MESSAGES_PATH, MessagesRequest, MessageReply)
    _describe(document, COUNT_PATH, CountTokensRequest, CountedTokens, streams=False)
    _describe(document, BATCHES_PATH, BatchRequest, BatchObject, streams=False)
    document["paths"][FILES_PATH]["post"]["requestBody"] = {"required": True, "content": _UPLOAD}
    document["paths"][CONTENT_PATH]["get"]["responses"]["200"] = {
        "description": "The file",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    }
    for path, reply in ((RESPONSE_PATH, ResponseObject), (INPUT_ITEMS_PATH, InputItemList)):
        content = _json(_add(schemas, reply.__name__, reply))
        document["paths"][path]["get"]["responses"]["200"] = {"description": "Found", "content": content}
    return document


def _describe(
    document: dict[str, Any], path: str, request: type[Any], reply: type[Any], *, streams: bool = True
) -> None:
    """Schema of a POST route that reads its body itself."""
    operation, schemas = document["paths"][path]["post"], document["components"]["schemas"]
    operation["requestBody"] = {"required": True, "content": _json(_add(schemas, request.__name__, request))}
    content = _json(_add(schemas, reply.__name__, reply))
    described = "The answer"
    if streams:
        described += ", or with `stream` its parts as server-sent events"
        content["text/event-stream"] = {"schema": {"type": "string"}}
    operation["responses"]["200"] = {"description": described, "content": content}


def _add(schemas: dict[str, Any], name: str, model: Any) -> dict[str, str]:
    schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE)
    for part, definition in {**schema.pop("$defs", {}), name: schema}.items():
        if schemas.setdefault(part, definition) != definition:
            raise ValueError(f"two different schemas are named {part}")
    return {"$ref": _REFERENCE.format(model=name)}


def _json(schema: dict[str, str]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
