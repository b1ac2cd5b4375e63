"""Status page with a playground at GET /, and its figures as data at GET /status.

The page comes with its figures in it, so that it is of use without JavaScript, which then keeps them current. On a
server with keys it comes without figures: an administrator enters the key, and the browser asks /status.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

import serving
from serving.api.admin.backends import card
from serving.api.routing import PathRule, Router
from serving.backends.registry import Backends
from serving.effort import EFFORTS
from serving.engine.start_failure import StartFailures
from serving.telemetry.recent import RecentEvents
from serving.telemetry.status import CHANNELS, BackendStatus, StatusBoard

_RUN_OF_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_AWAY = ("unloaded", "unloading")  # on purpose; status.html knows them too
_RUN_OF_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def status_router(
    board: StatusBoard, recent: RecentEvents, backends: Backends, start_failures: StartFailures, *, open_to_all: bool
) -> Router:
    """The routes. `open_to_all` says that there are no keys, so that the page may show its figures to anybody."""
    router = Router(
        PathRule("/", label=None, audience="everybody"),
        PathRule("/status", label=None, audience="administrator"),
        tags=["operations"],
    )
    page = files("serving.api.service").joinpath("status.html").read_text(encoding="utf-8")
    template = Template(page)
    headers = {"content-security-policy": _policy(page)}

    @router.get("/", include_in_schema=False)
    async def status_page(request: Request) -> Response:
        data = await _data(board, recent, backends, start_failures) if open_to_all else None
        return HTMLResponse(template.substitute(_filled(data, str(request.base_url).rstrip("/"))), headers=headers)

    @router.get("/status", summary="Models, replicas, backends, tokens a second and the latest refusals")
    async def status() -> Response:
        return JSONResponse(await _data(board, recent, backends, start_failures))

    return router


async def _data(
    board: StatusBoard, recent: RecentEvents, backends: Backends, start_failures: StartFailures
) -> dict[str, Any]:
    status = await board.look()
    data = asdict(status)
    waiting = [name for name, model in status.models.items() if not model.ready]
    known = await start_failures.read(waiting) if waiting else {}
    for name, model in data["models"].items():
        last = known[name].last if name in known else None
        model["start_failure"] = None if last is None else asdict(last)
    return {
        **data,
        # What is known of each here, and what all ingress replicas say of it.
        "backends": [
            {**card(backend), **asdict(status.backends.get(backend.name, BackendStatus()))}
            for backend in backends.all()
        ],
        "version": serving.__version__,
        "recent": [asdict(event) for event in recent.latest()],
    }


def _policy(page: str) -> str:
    """Content security policy that lets only the page's own script and style run, by their hashes."""
    script = " ".join(map(_source, _RUN_OF_SCRIPT.findall(page)))
    style = " ".join(map(_source, _RUN_OF_STYLE.findall(page)))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _filled(data: dict[str, Any] | None, base: str) -> dict[str, str]:
    models = list(data["models"]) if data else []
    return {
        "version": serving.__version__,
        "keys": "off" if data else "on",
        "base": html.escape(base),
        "model": html.escape(models[0] if models else "demo"),
        "authorization": "" if data else html.escape(' -H "Authorization: Bearer $KEY"'),
        "state": html.escape(_state(data)),
        "model_rows": "".join(_model_row(name, each) for name, each in data["models"].items()) if data else "",
        "failure_rows": "".join(_failure_row(name, each) for name, each in data["models"].items()) if data else "",
        "ingress": f"Ingress replicas: {data['ingress_replicas']}" if data else "",
        "backends_hidden": "" if data and data["backends"] else "hidden",
        "backend_rows": "".join(map(_backend_row, data["backends"])) if data else "",
        "channel_rows": "".join(map(_channel_row, CHANNELS, _rates(data))),
        "recent_rows": "".join(map(_recent_row, data["recent"])) if data else "",
        "model_options": "".join(f"<option>{html.escape(name)}</option>" for name in models),
        "effort_options": "".join(
            f"<option{' selected' if effort == 'medium' else ''}>{effort}</option>" for effort in EFFORTS
        ),
        "data": json.dumps(data).replace("<", "\\u003c"),
    }


def _state(data: dict[str, Any] | None) -> str:
    if data is None:
        return "locked"
    waiting = [name for name, model in data["models"].items() if not (model["ready"] or model["state"] in _AWAY)]
    return f"not ready: {', '.join(waiting)}" if waiting else "ready"


def _rates(data: dict[str, Any] | None) -> list[float | None]:
    rates = data["rates"] if data else None
    return [None if rates is None else rates[channel] for channel in CHANNELS]


def _model_row(name: str, model: dict[str, Any]) -> str:
    away = not model["ready"] and model["state"] in _AWAY
    state = "ready" if model["ready"] else model["state"] if away else "not ready"
    kind = "good" if model["ready"] or away else "bad"
    replicas = f"{model['replicas']}" + (f" (+{model['silent']} silent)" if model["silent"] else "")
    cells = [replicas, model["in_flight"], model["queued"], model["running"], f"{model['kv_cache']:.0%}"]
    return (
        f'<tr><th scope="row">{html.escape(name)}</th><td class="{kind}">{state}</td>'
        + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        + "</tr>"
    )


def _failure_row(name: str, model: dict[str, Any]) -> str:
    if (failure := model["start_failure"]) is None:
        return ""
    text = f"{name} did not start ({failure['reason']})\n{failure['message']}\nFix: {failure['fix']}"
    return f'<pre class="bad">{html.escape(text + _log_of(failure))}</pre>'


def _log_of(failure: dict[str, Any]) -> str:
    return f"\nLog: {failure['log']}" if failure["log"] else ""


def _backend_row(backend: dict[str, Any]) -> str:
    state = "ready" if backend["ready"] else backend["problem"] or f"left alone ({backend['breaker']})"
    cells = [", ".join(backend["models"]), "outside" if backend["external"] else "inside", backend["requests"]]
    asked = ", ".join(f"{count} {outcome}" for outcome, count in sorted(backend["asked"].items()))
    return (
        f'<tr><th scope="row">{html.escape(backend["name"])}</th>'
        f'<td class="{"good" if backend["ready"] else "bad"}">{html.escape(state)}</td>'
        + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in [*cells, asked])
        + "</tr>"
    )


def _channel_row(channel: str, rate: float | None) -> str:
    shown = "-" if rate is None else f"{rate:,.0f}"
    return (
        f'<tr><th scope="row"><i class="dot {channel}"></i>{channel}</th><td class="figure">{shown}</td>'
        f'<td class="bar"><meter class="{channel}" min="0" max="1" value="0"></meter></td></tr>'
    )


def _recent_row(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at"], UTC).strftime("%H:%M:%S UTC")
    cells = [at, event["kind"], event["detail"], event["model"] or "", event["team"] or "", event["request_id"]]
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
