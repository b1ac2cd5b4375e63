"""Table of results: a row for each check, a column for each API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from serving.certification.run import APIS, SERVICE, Result

_SIGNS = {"ok": "ok", "failed": "FAILED"}


def table(results: Sequence[Result]) -> Iterator[str]:
    """Lines of the table, then of the remarks, then the sum."""
    columns = [api.name for api in APIS if any(result.api == api.name for result in results)]
    rows: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        rows.setdefault((result.group, result.name), {})[result.api] = result
    widths = (8, max((len(name) for _, name in rows), default=5))
    yield _row(("group", "check"), columns, widths)
    for key, cells in rows.items():
        service = cells.get(SERVICE)
        signs = [_sign(cells.get(column) or service) for column in columns]
        yield _row(key, signs, widths)
    yield from _section("remarks", (each for each in results if each.remark and each.state == "ok"))
    yield from _section("failures", (each for each in results if each.state == "failed"))
    failed = sum(result.state == "failed" for result in results)
    missing = [api.name for api in APIS if api.name not in columns]
    yield ""
    yield f"{len(results)} checks, {failed} failed" + (f"; not offered: {', '.join(missing)}" if missing else "")


def _row(key: tuple[str, str], cells: Iterable[str], widths: tuple[int, int]) -> str:
    return f"{key[0]:<{widths[0]}}  {key[1]:<{widths[1]}}  {'  '.join(f'{cell:<9}' for cell in cells)}".rstrip()


def _sign(result: Result | None) -> str:
    return "-" if result is None else _SIGNS[result.state]


def _section(title: str, results: Iterable[Result]) -> Iterator[str]:
    lines = [f"  {each.group}, {each.name} ({each.api}): {each.remark}" for each in results]
    if lines:
        yield ""
        yield title
        yield from lines
