"""Settings from environment variables: `SERVING_PORT=9000`, `SERVING_MODELS__DEMO__TENSOR_PARALLEL_SIZE=2`.

`__` goes one level down. Field names are written in any case. A model's name in a variable is matched against the
models known so far (those of the file and of SERVING_MODELS) with case ignored and `_` standing for `-`, `.` and `/`
too, which shells do not allow in a variable: `SERVING_MODELS__GPT_OSS_20B__DTYPE` sets `gpt-oss-20b`. A name that
matches none is lower-cased and makes a new model; a new model of another spelling is written as JSON, like every
section, mapping and list: `SERVING_MODELS='{"gpt-oss-20b": {"source": "openai/gpt-oss-20b"}}'`.

An empty variable counts as unset; `null` unsets an optional setting. Unknown `SERVING_` variables are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

from serving.settings.layer import KeyPath, Layer, Problem, dotted
from serving.settings.loading.tree import TreeType, members, shape_of, suggestion

PREFIX = "SERVING_"
CONFIG_VARIABLE = "SERVING_CONFIG"
"""Variable that names the settings file; the only one of ours that is not a setting."""

# What Kubernetes puts into every pod of a namespace that has a Service called serving or serving-something.
_KUBERNETES_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)")
_KUBERNETES_HINT = (
    "set by Kubernetes for a Service whose name starts with `serving`, not by a person: "
    "put `enableServiceLinks: false` into the pod's spec"
)


def read_environment(environ: Mapping[str, str], root: TreeType, lower: Layer) -> Layer:
    """Read the settings in `environ`. `lower` is the layer below, whose model names variables may refer to."""
    layer = Layer()
    ours = [name for name in environ if name.upper().startswith(PREFIX) and name != CONFIG_VARIABLE]
    # Whole sections first: what a longer name says goes into them.
    for name in sorted(ours, key=lambda name: (name.count("__"), name)):
        text = environ[name]
        if not text:
            continue
        if _is_kubernetes_link(name, text):
            layer.problems.append(Problem(name, _KUBERNETES_HINT))
            continue
        try:
            path, annotation = _locate(name, root, (lower, layer))
        except _UnknownVariable as unknown:
            layer.problems.append(Problem(name, str(unknown)))
            continue
        if (other := layer.origins.get(path)) is not None and other.upper() == name.upper():
            layer.problems.append(Problem(dotted(path), f"set twice, by {other} and {name}; unset one"))
            continue
        try:
            layer.set(path, _parsed(text, annotation), name)
        except _BadValue as bad:
            layer.problems.append(Problem(dotted(path), f"{bad} ({name})"))
    return layer


class _UnknownVariable(Exception):
    """Error: the name of a variable means no setting."""


class _BadValue(Exception):
    """Error: the text of a variable cannot be its setting's value."""


def _locate(name: str, root: TreeType, layers: Sequence[Layer]) -> tuple[KeyPath, Any]:
    """The path that `name` means and the annotation there."""
    parts = name[len(PREFIX) :].split("__")
    path: KeyPath = ()
    annotation: Any = root
    for number, part in enumerate(parts):
        stem = PREFIX + "".join(f"{before}__" for before in parts[:number])
        shape = shape_of(annotation)
        if not part:
            raise _UnknownVariable(f"unknown variable: a name is missing after {stem}")
        if shape.kind == "section" and shape.section is not None:
            fields = {field.upper(): field for field in shape.section.model_fields}
            key = fields.get(part.upper())
            if key is None:
                raise _UnknownVariable(f"unknown variable; {suggestion(part, fields, stem)}")
            annotation = shape.section.model_fields[key].annotation
        elif shape.kind == "sections":
            key = _named(part, path, layers)
            annotation = shape.section
        elif shape.kind == "mapping":
            key = part.lower()
            # What lies in a free mapping is anything; a longer name makes it a mapping itself.
            annotation = dict[str, Any] if number + 1 < len(parts) else Any
        else:
            raise _UnknownVariable(f"unknown variable: `{dotted(path)}` has nothing below it")
        path = (*path, key)
    return path, annotation


def _named(part: str, path: KeyPath, layers: Sequence[Layer]) -> str:
    """The key below `path` that `part` of a variable's name stands for."""
    known = {key for layer in layers if isinstance(below := layer.get(path), dict) for key in below}
    matches = sorted(key for key in known if isinstance(key, str) and _folded(key) == _folded(part))
    if len(matches) > 1:
        raise _UnknownVariable(
            f"{part} may mean {' or '.join(matches)}; set it in the file, or as JSON in {PREFIX}{path[-1].upper()}"
        )
    return matches[0] if matches else part.lower()


def _folded(name: str) -> str:
    return re.sub(r"[-./]", "_", name.lower())


def _parsed(text: str, annotation: Any) -> Any:
    shape = shape_of(annotation)
    if shape.kind != "value":
        return _json(text, dict, 'a JSON object, such as {"key": "value"}')
    if get_origin(annotation) is tuple:
        return _json(text, list, 'a JSON list, such as ["a", "b"]')
    if annotation is Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return None if text == "null" and type(None) in members(annotation) else text


def _json(text: str, kind: type, wanted: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _BadValue(f"should be {wanted}: {error}") from error
    if not isinstance(value, kind):
        raise _BadValue(f"should be {wanted}")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {repeated!r} is there twice")
    return values


def _is_kubernetes_link(name: str, text: str) -> bool:
    return bool(_KUBERNETES_LINK.search(name)) or (name.endswith("_PORT") and "://" in text)
