"""Reading of one request's body: what of it was ignored, and whether it may be."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args
from urllib.parse import quote

from pydantic import BaseModel

IGNORED_PARAMETERS_HEADER = "x-ignored-parameters"
IGNORED_TOOLS_HEADER = "x-ignored-tools"
UNKNOWN_FIELDS_HEADER = "x-unknown-fields"
"""A request's header: `refuse` makes the reading of this request strict."""

_MOST_NAMES = 20
_LONGEST_NAME = 64
_SAFE = "_-.[]:/"
_TOOL = re.compile(r"tools\[(\d+)\]")


class Reading:
    """Reading of one body. A strict one refuses what another ignores; the fields' models ask it.

    `ignores` is true once something was ignored. Names are kept up to 20: a body full of unknown fields must not cost
    an entry each.
    """

    __slots__ = ("_fields", "_kept_tools", "_tools", "ignores", "strict")

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.ignores = False
        self._fields: dict[tuple[type[BaseModel], str], None] = {}
        self._tools: dict[str, None] = {}
        self._kept_tools: list[int] | None = None

    def ignore_field(self, model: type[BaseModel], name: str) -> None:
        """Note an unknown field of an object of this model."""
        self.ignores = True
        if len(self._fields) < _MOST_NAMES:
            self._fields[model, name] = None

    def leave_out_tools(self, kinds: Iterable[str], kept: list[int]) -> None:
        """Note tools that the model is not told of, by their types, and the places of those that it is."""
        self.ignores = True
        self._kept_tools = kept
        self._tools = dict.fromkeys(itertools.islice(kinds, _MOST_NAMES))

    def place(self, param: str) -> str:
        """Path of `param` in the body as it came: tools before it may have been left out."""
        match = _TOOL.match(param)
        if match is None or self._kept_tools is None:
            return param
        return f"tools[{self._kept_tools[int(match[1])]}]{param[match.end() :]}"

    def ignored_fields(self, root: type[BaseModel]) -> list[str]:
        """Paths of the unknown fields below `root`, the request's model: `messages[].foo`."""
        if not self._fields:
            return []
        places = _places(root)
        paths = (f"{places.get(model, '')}.{_shown(name)}".lstrip(".") for model, name in self._fields)
        return list(dict.fromkeys(paths))

    def headers(self, root: type[BaseModel]) -> dict[str, str]:
        """Headers of the reply that name what was ignored; none where nothing was."""
        headers = {}
        if fields := self.ignored_fields(root):
            headers[IGNORED_PARAMETERS_HEADER] = ", ".join(fields)
        if self._tools:
            headers[IGNORED_TOOLS_HEADER] = ", ".join(map(_shown, self._tools))
        return headers


def _shown(name: str) -> str:
    """A client's word as a header may carry it."""
    return quote(name[:_LONGEST_NAME], safe=_SAFE, errors="replace") or "%00"


@functools.cache
def _places(root: type[BaseModel]) -> dict[type[BaseModel], str]:
    """Path of each model below `root`, the first where it stands at several."""
    places: dict[type[BaseModel], str] = {root: ""}
    waiting = [root]
    while waiting:
        model = waiting.pop(0)
        for name, field in model.model_fields.items():
            path = f"{places[model]}.{field.alias or name}".lstrip(".")
            for inner, below in _models(field.annotation, path):
                if inner not in places:
                    places[inner] = below
                    waiting.append(inner)
    return places


def _models(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        return
    annotation = getattr(annotation, "__value__", annotation)  # of a named alias
    is_list = getattr(annotation, "__origin__", None) is list
    for argument in get_args(annotation):
        yield from _models(argument, f"{path}[]" if is_list else path)
