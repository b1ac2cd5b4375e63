"""Tokens of a prompt before it is sent: POST /tokenize and /detokenize, and the same under /v1."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.models import ServedModel
from serving.answering.reasoning import reasoning_limits
from serving.answering.request_context import context_of
from serving.api.context import ApiContext
from serving.api.openai.chat.conversation import conversation_of
from serving.api.openai.tokenize.wire import (
    Detokenized,
    TokenizeChatRequest,
    Tokens,
    parse_detokenize_request,
    parse_tokenize_request,
)
from serving.api.routing import PathRule, Router
from serving.api.wire.body import read
from serving.api.wire.presets import TOKENIZE, expanding
from serving.background import in_thread_if_long
from serving.errors import InvalidValueError
from serving.harmony.tokenization import decode_raw, encode_raw, render_prompt, token_table

TOKENIZE_PATHS = ("/tokenize", "/v1/tokenize")
DETOKENIZE_PATHS = ("/detokenize", "/v1/detokenize")


def tokenize_router(context: ApiContext) -> Router:
    """The routes; their request schemas are added to the OpenAPI document by openapi.py."""
    paths = (*TOKENIZE_PATHS, *DETOKENIZE_PATHS)
    router = Router(*(PathRule(path, label="tokenize") for path in paths), tags=["tokens"])
    expand = expanding(context.variants, TOKENIZE)

    async def tokenize(request: Request) -> Response:
        body = await request.body()
        asked = await read(request, context.http, parse_tokenize_request, expand)
        served = _identified(context, asked.model, request)
        max_model_len = (await served.engine.prepare()).max_model_len
        if isinstance(asked, TokenizeChatRequest):
            effort = reasoning_limits(
                served.settings.reasoning, effort=asked.effort, effort_param=asked.effort_field
            ).effort
            today = datetime.fromtimestamp(context.clock(), UTC).date()
            conversation = conversation_of(asked, effort=effort, today=today)
            ids = await in_thread_if_long(len(body), lambda: render_prompt(conversation))
        else:
            text, allow = asked.prompt, bool(asked.allow_special_tokens)
            ids = await in_thread_if_long(len(body), lambda: encode_raw(text, allow_special=allow))
        tokens = Tokens(count=len(ids), max_model_len=max_model_len, tokens=ids)
        if asked.return_token_strs:
            table = token_table()
            tokens["token_strs"] = [table[token].decode("utf-8", "replace") for token in ids]
        return JSONResponse(tokens)

    async def detokenize(request: Request) -> Response:
        body = await request.body()
        asked = await read(request, context.http, parse_detokenize_request)
        _identified(context, asked.model, request)
        text = await in_thread_if_long(len(body), lambda: decode_raw(asked.tokens, skip_special=False))
        return JSONResponse(Detokenized(prompt=text))

    for path in TOKENIZE_PATHS:
        router.post(path, summary="A text's tokens, or those of the prompt a conversation becomes")(tokenize)
    for path in DETOKENIZE_PATHS:
        router.post(path, summary="The text of tokens, special ones spelled")(detokenize)
    return router


def _identified(context: ApiContext, name: str | None, request: Request) -> ServedModel:
    """Name the model that is asked, which must be one that the team may use."""
    asker = context_of(request.scope)
    if name is not None:
        served = context.answerers.find(asker, name)
    else:
        listed = [context.models.resolve(each.name) for each in context.answerers.listed(asker)]
        allowed = {served.name: served for served in listed}
        if len(allowed) != 1:
            raise InvalidValueError(
                "Missing required parameter: 'model', as this server has several.",
                param="model",
                code="missing_required_parameter",
            )
        (served,) = allowed.values()
    if asker.recorder is not None:
        asker.recorder.identify(model=served.name)
    return served
