"""The arguments of vLLM's AsyncEngineArgs, read from vLLM's source: importing vLLM would take 15 seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.settings.loading.layer import KeyPath
from serving.settings.loading.tree import suggestion
from serving.settings.models import OWNED_ENGINE_ARGS
from serving.settings.tree import Settings

_SOURCE = Path("engine", "arg_utils.py")
_CLASSES = ("EngineArgs", "AsyncEngineArgs")
_SCALARS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (float, int), "str": (str,)}


def engine_argument_types() -> dict[str, str] | None:
    """Each argument's name and its annotation as written; None where vLLM is not installed or is laid out otherwise.

    Source: vllm/engine/arg_utils.py, dataclass AsyncEngineArgs and its base EngineArgs.
    """
    spec = importlib.util.find_spec("vllm")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / _SOURCE
        if path.is_file():
            return _annotations(ast.parse(path.read_bytes())) or None
    return None


def _annotations(module: ast.Module) -> dict[str, str]:
    return {
        field.target.id: ast.unparse(field.annotation)
        for node in module.body
        if isinstance(node, ast.ClassDef) and node.name in _CLASSES
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def engine_argument_problems(settings: Settings, types: Mapping[str, str]) -> list[tuple[KeyPath, str]]:
    """What is wrong with the models' engine_args: names that vLLM does not have, plain values of a wrong type."""
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
    """Whether `value` may be right; only unions of plain types are judged, and None is left to vLLM."""
    if value is None or not all(member in _SCALARS or member == "None" for member in wanted):
        return True
    accepted = {kind for member in wanted for kind in _SCALARS.get(member, ())}
    return type(value) in accepted
