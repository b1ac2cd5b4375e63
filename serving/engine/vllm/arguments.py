"""The arguments of vLLM's AsyncEngineArgs, read from vLLM's source: importing vLLM would take 15 seconds."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from serving.engine.vllm.source import source_of
from serving.settings.layer import KeyPath
from serving.settings.loading.tree import suggestion
from serving.settings.models import OWNED_ENGINE_ARGS
from serving.settings.tree import Settings

_CLASSES = ("EngineArgs", "AsyncEngineArgs")
_SCALARS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (float, int), "str": (str,)}


def engine_argument_types() -> dict[str, str] | None:
    """Each argument's name and its annotation as written; None where vLLM is not installed or is laid out otherwise.

    Source: vllm/engine/arg_utils.py, dataclass AsyncEngineArgs and its base EngineArgs.
    """
    source = source_of("engine/arg_utils.py")
    return None if source is None else _annotations(ast.parse(source)) or None


def _annotations(module: ast.Module) -> dict[str, str]:
    return {
        field.target.id: ast.unparse(field.annotation)
        for node in module.body
        if isinstance(node, ast.ClassDef) and node.name in _CLASSES
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def engine_argument_problems(settings: Settings, types: Mapping[str, str]) -> list[tuple[KeyPath, str]]:
    """Problems of the models' engine_args: names that vLLM does not have, plain values of a wrong type."""
    problems: list[tuple[KeyPath, str]] = []
    known = types.keys() - OWNED_ENGINE_ARGS.keys()
    for name, model in settings.models.items():
        for argument, value in model.engine_args.items():
            path = ("models", name, "engine_args", argument)
            if argument not in types:
                problems.append((path, f"no argument of the installed vLLM; {_nearest(argument, known)}"))
            elif not _fits(value, wanted := _members(types[argument])):
                problems.append((path, f"should be {' or '.join(wanted)}; got {value!r}"))
    return problems


def _nearest(argument: str, known: set[str]) -> str:
    hint = suggestion(argument.replace("-", "_"), known)
    # vLLM has some 200 arguments: listing them all helps nobody.
    return hint if hint.startswith("did") else "they are those of AsyncEngineArgs in vLLM's documentation"


def _members(annotation: str) -> Sequence[str]:
    return [member.strip() for member in annotation.split("|")]


def _fits(value: Any, wanted: Sequence[str]) -> bool:
    """True if `value` may be right; only unions of plain types are judged, and None is left to vLLM."""
    if value is None or not all(member in _SCALARS or member == "None" for member in wanted):
        return True
    accepted = {kind for member in wanted for kind in _SCALARS.get(member, ())}
    return type(value) in accepted
