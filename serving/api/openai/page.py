"""Pages of lists, by OpenAI's parameters `after`, `limit` and `order`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.datastructures import QueryParams

from serving.errors import InvalidValueError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ListPage(Generic[_T]):
    """Part of a list, and whether more comes after it."""

    items: Sequence[_T]
    has_more: bool


def page_of(
    items: Sequence[_T], id_of: Callable[[_T], str], query: QueryParams, *, default: int, most: int
) -> ListPage[_T]:
    """The page of `items`, which come newest first, that `query` asks for; raises InvalidValueError."""
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= most):
        raise InvalidValueError(
            f"Invalid 'limit': expected a whole number from 1 to {most}, but got '{text[:32]}'.", param="limit"
        )
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidValueError("Invalid value for 'order'. Supported values are: 'asc' or 'desc'.", param="order")
    ordered = list(items) if order == "desc" else list(reversed(items))
    begin = 0
    if (after := query.get("after")) is not None:
        ids = [id_of(item) for item in ordered]
        if after not in ids:
            raise InvalidValueError(f"'{after[:64]}' is not in this list.", param="after")
        begin = ids.index(after) + 1
    end = begin + int(text)
    return ListPage(ordered[begin:end], end < len(ordered))
