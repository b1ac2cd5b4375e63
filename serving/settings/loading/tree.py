"""Shape of a pydantic tree of settings: where its mappings are, and which keys it knows."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from serving.settings.layer import KeyPath, Layer

TreeType = type[BaseModel]


class Shape(NamedTuple):
    """Shape of a field: a section, named sections, a free mapping, or a value (lists are values)."""

    kind: Literal["section", "sections", "mapping", "value"]
    section: TreeType | None = None


def shape_of(annotation: Any) -> Shape:
    """Shape of a field with this annotation."""
    if _is_section(annotation):
        return Shape("section", annotation)
    if get_origin(annotation) is dict:
        item = get_args(annotation)[1]
        return Shape("sections", item) if _is_section(item) else Shape("mapping")
    return Shape("value")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def members(annotation: Any) -> tuple[Any, ...]:
    """Alternatives of a union; a single one of anything else."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def suggestion(name: str, known: Iterable[str], stem: str = "") -> str:
    """Hint to follow "unknown ...": the nearest known name, or all of them, each after `stem`."""
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    if near:
        return f"did you mean `{stem}{names[near[0]]}`?"
    return f"known{' after ' + stem if stem else ''}: {', '.join(sorted(names.values()))}"


def checked(layer: Layer, root: TreeType) -> Layer:
    """Remove the keys of `layer` that `root` does not know; report each with the key that may have been meant.

    Also reports true and false given for a number, which pydantic would take for 1 and 0.
    """
    result = Layer(origins=layer.origins, problems=list(layer.problems))
    result.values = _checked_section(layer.values, root, (), result)
    return result


def _checked_section(values: dict[Any, Any], tree: TreeType, path: KeyPath, result: Layer) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        here = (*path, str(key))
        field = tree.model_fields.get(key)
        if field is None:
            result.report(here, f"unknown setting; {suggestion(str(key), tree.model_fields)}")
            continue
        shape = shape_of(field.annotation)
        if isinstance(value, bool) and {int, float}.intersection(members(field.annotation)):
            result.report(here, f"should be a number, not {str(value).lower()}")
        elif isinstance(value, dict) and shape.section is not None:
            if shape.kind == "section":
                kept[key] = _checked_section(value, shape.section, here, result)
            else:
                kept[key] = {
                    name: _checked_section(item, shape.section, (*here, str(name)), result)
                    if isinstance(item, dict)
                    else item
                    for name, item in value.items()
                }
        else:
            kept[key] = value
    return kept
