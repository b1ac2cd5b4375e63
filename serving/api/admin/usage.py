"""Usage of teams: GET /admin/usage, for the administrator."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.api.context import ApiContext
from serving.api.routing import PathRule, Router
from serving.errors import InvalidValueError
from serving.tenancy.tenancy import Tenancy
from serving.tenancy.usage.summary import GROUPINGS, Grouping, groupings_in, summarize

PATH = "/admin/usage"
_MOST_DAYS = 400


def admin_router(context: ApiContext, tenancy: Tenancy) -> Router:
    """The route."""
    router = Router(PathRule("/admin", label="admin", audience="administrator"), tags=["operations"])

    @router.get(PATH, summary="Tokens by day and team: ?from=2026-11-01&to=2026-11-30&by=day,team,model,effort&team=a")
    async def usage(request: Request) -> Response:
        query = request.query_params
        today = datetime.fromtimestamp(context.clock(), UTC).date()
        last = _day(query.get("to"), "to", today)
        first = _day(query.get("from"), "from", last - timedelta(29))
        if not 0 <= (last - first).days < _MOST_DAYS:
            raise InvalidValueError(f"'from' should be at most {_MOST_DAYS} days before 'to'.", param="from")
        by = _grouping(query.get("by", "day,team"))
        await tenancy.ledger.flush()
        rows = await tenancy.ledger.store.read(first.isoformat(), last.isoformat())
        return JSONResponse(
            {
                "object": "usage",
                "from": first.isoformat(),
                "to": last.isoformat(),
                "data": summarize(rows, by, query.get("team")),
            }
        )

    return router


def _day(text: str | None, name: str, default: date) -> date:
    if text is None:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError(f"'{name}' should be a day such as 2026-11-21.", param=name) from error


def _grouping(text: str) -> list[Grouping]:
    known = groupings_in(text)
    if known is None:
        raise InvalidValueError(f"'by' should be some of {', '.join(GROUPINGS)}, each once.", param="by")
    return known
