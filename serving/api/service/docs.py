"""Documentation of the API at GET /docs, in one page that loads nothing from elsewhere.

FastAPI's own page stays blank without the internet. The page is docs.html beside this file; it reads /openapi.json.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.responses import HTMLResponse, Response

from serving.api.routing import PathRule, Router

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"


def docs_router() -> Router:
    """The route."""
    router = Router(
        PathRule("/docs", label=None, audience="everybody"),
        PathRule("/openapi.json", label=None, audience="everybody"),  # FastAPI's own route
        PathRule("/favicon.ico", label=None, audience="everybody"),  # there is none, and browsers ask for it
    )
    page = files("serving.api.service").joinpath("docs.html").read_text(encoding="utf-8")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    return router
