"""Owner and query parameters of a request to a stored response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import QueryParams
from starlette.requests import Request

from serving.answering.request_context import context_of
from serving.api.openai.responses.input import StoredItem
from serving.api.openai.responses.response import InputItemList
from serving.errors import InvalidValueError

_MOST_ITEMS = 100


def owner_of(request: Request) -> str:
    """Team of the request's key."""
    return context_of(request.scope).identity.team


@dataclass(frozen=True, slots=True)
class Page:
    """Page of input items: `limit` of them after the one with the id `after`, in that order."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None

    @classmethod
    def of(cls, query: QueryParams) -> Page:
        """Read OpenAI's parameters; raises InvalidValueError."""
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InvalidValueError("Invalid value for 'order'. Supported values are: 'asc' or 'desc'.", param="order")
        limit = integer(query, "limit", default=20, least=1, most=_MOST_ITEMS)
        return cls(limit, "asc" if order == "asc" else "desc", query.get("after"))

    def of_items(self, items: list[StoredItem]) -> InputItemList:
        """The page of `items`, which come oldest first; raises InvalidValueError where `after` is none of them."""
        ordered = items if self.order == "asc" else items[::-1]
        begin = 0
        if self.after is not None:
            ids = [item["id"] for item in ordered]
            if self.after not in ids:
                raise InvalidValueError(f"'{self.after[:64]}' is no input item of this response.", param="after")
            begin = ids.index(self.after) + 1
        data = ordered[begin : begin + self.limit]
        return InputItemList(
            object="list",
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=begin + self.limit < len(ordered),
        )


def integer(query: QueryParams, name: str, *, default: int, least: int, most: int) -> int:
    """Read a whole number; raises InvalidValueError."""
    text = query.get(name)
    if text is None:
        return default
    digits = text.isascii() and text.isdecimal() and len(text) <= 18
    if not digits or not least <= int(text) <= most:
        raise InvalidValueError(
            f"Invalid '{name}': expected a whole number from {least} to {most}, but got '{text[:32]}'.", param=name
        )
    return int(text)


def flag(query: QueryParams, name: str) -> bool:
    """Read a parameter that is true or false, false where it is absent; raises InvalidValueError."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidValueError(f"Invalid '{name}': expected true or false, but got '{text[:32]}'.", param=name)
    return text == "true"
