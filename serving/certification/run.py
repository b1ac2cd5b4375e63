"""Run of all checks against an endpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from serving.certification.api import Api
from serving.certification.chat import ChatApi
from serving.certification.checks import checks
from serving.certification.conversation import GROUPS, CheckFailedError, require, shortened
from serving.certification.corpus import client_requests
from serving.certification.endpoint import Endpoint
from serving.certification.messages import MessagesApi
from serving.certification.questions import HELLO
from serving.certification.responses import ResponsesApi
from serving.certification.speaker import Speaker
from serving.errors import ClientError

__all__ = ["APIS", "GROUPS", "SERVICE", "Result", "certified"]

APIS: tuple[Api, ...] = (ChatApi(), ResponsesApi(), MessagesApi())
SERVICE = "service"
"""Name of the column of checks that belong to no API."""

_NOT_THERE = (404, 405, 501)
# What readers of a reply raise that has not the API's shape.
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one check of one API; `remark` says why it failed, or what one may want to know."""

    group: str
    name: str
    api: str
    state: Literal["ok", "failed"]
    remark: str = ""


def certified(endpoint: Endpoint, model: str | None, groups: tuple[str, ...] = GROUPS) -> Iterator[Result]:
    """Results as they come; those of one check are next to each other. APIs that are not offered have none.

    Raises ClientError where the endpoint cannot be asked at all.
    """
    model = model or _first_model(endpoint)
    offered = [api for api in APIS if _is_offered(endpoint, api, model)]
    if not offered:
        raise ClientError(f"{endpoint.url} offers none of {', '.join(api.path for api in APIS)}.")
    if SERVICE in groups:
        yield _result(SERVICE, "the model is listed", SERVICE, functools.partial(_listed, endpoint, model))
    for check in checks():
        if check.group not in groups:
            continue
        for api in offered:
            speaker = Speaker(endpoint, api, model)
            yield _result(check.group, check.name, api.name, functools.partial(check.run, speaker))
    if "requests" in groups:
        names = {api.path.removeprefix("/"): api.name for api in offered}
        for request in client_requests():
            if request.route in names:
                api_name = names[request.route]
                yield _result("requests", request.name, api_name, functools.partial(request.check, endpoint, model))


def _result(group: str, name: str, api: str, check: Callable[[], str]) -> Result:
    try:
        return Result(group, name, api, "ok", check())
    except CheckFailedError as error:
        return Result(group, name, api, "failed", str(error))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return Result(group, name, api, "failed", f"{error.title}: {place}: {first['msg']}")
    except _MISSHAPEN as error:
        words = shortened(f"{type(error).__name__}: {error}")
        return Result(group, name, api, "failed", f"the reply has another shape: {words}")


def _listed(endpoint: Endpoint, model: str) -> str:
    reply = endpoint.get("/models")
    require(reply.status == 200 and reply.body["object"] == "list", f"/models answers {reply.words}")
    require(model in [each["id"] for each in reply.body["data"]], f"/models does not name {model}")
    one = endpoint.get(f"/models/{model}")
    require(one.status == 200 and one.body["id"] == model, f"/models/{model} answers {one.words}")
    return ""


def _first_model(endpoint: Endpoint) -> str:
    try:
        reply = endpoint.get("/models")
        return str(reply.body["data"][0]["id"])
    except CheckFailedError as error:
        raise ClientError(f"{endpoint.url} does not answer: {error}") from error
    except _MISSHAPEN as error:
        raise ClientError(f"{endpoint.url}/models names no model ({reply.words}); say which with --model.") from error


def _is_offered(endpoint: Endpoint, api: Api, model: str) -> bool:
    try:
        reply = endpoint.post(api.path, api.body(model, HELLO, stream=False))
    except CheckFailedError as error:
        raise ClientError(f"{endpoint.url}{api.path}: {error}") from error
    if reply.status in (401, 403):
        raise ClientError(f"{endpoint.url}{api.path} refuses the key: {reply.words}")
    if reply.status == 404 and "model" in reply.words:
        raise ClientError(f"{endpoint.url} does not serve {model}: {reply.words}")
    return reply.status not in _NOT_THERE
