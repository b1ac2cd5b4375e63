"""Settings from a YAML file, each value with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from serving.settings.layer import KeyPath, Layer, Problem, dotted

_MOST_NODES = 10_000
"""Most nodes of a file: settings are small, and anchors may multiply each other."""

_MAP = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"


def read_yaml(path: Path) -> Layer:
    """Read the settings in `path`. Mistakes go into the layer's problems; an empty file has no settings."""
    layer = Layer()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        layer.problems.append(Problem("config", f"cannot read the settings file {path}: {reason or error}"))
        return layer
    try:
        _Reader(str(path), text, layer).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        layer.problems.append(Problem("config", f"not valid YAML: {reason} ({path}{line})"))
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        layer.problems.append(Problem("config", f"not valid YAML: {reason} ({path})"))
    return layer


class _Reader:
    """Builder of values from YAML's node graph, which still has the lines that finished values have lost."""

    def __init__(self, name: str, text: str, layer: Layer) -> None:
        self._name = name
        self._text = text
        self._loader = yaml.SafeLoader(text)
        self._layer = layer
        self._nodes = 0
        self._flattened: set[int] = set()

    def read(self) -> None:
        try:
            node = self._loader.get_single_node()
            if node is None:
                return
            values = self._value(node, ())
        finally:
            self._loader.dispose()
        if isinstance(values, dict):
            self._layer.values = values
        elif values is not None:
            self._report(node, (), "the file should hold `setting: value` lines, not a list or a single value")

    def _origin(self, node: yaml.Node) -> str:
        return f"{self._name} line {node.start_mark.line + 1}"

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self._layer.problems.append(Problem(dotted(path), f"{message} ({self._origin(node)})"))

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise yaml.YAMLError(f"more than {_MOST_NODES} values")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self._value(item, (*path, str(number))) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._report(node, path, f"the YAML tag {node.tag} is not supported")
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        if id(node) not in self._flattened:
            self._flattened.add(id(node))
            self._report_duplicates(node, path)
            # Resolves `<<`: what it brings comes first, what the mapping says itself wins.
            self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self._report(key_node, path, "a key is not text; put it in quotes")
                continue
            here = (*path, key)
            self._layer.origins[here] = self._origin(key_node)
            values[key] = self._value(value_node, here)
        return values

    def _report_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in lines:
                first = lines[key_node.value]
                self._report(key_node, (*path, key_node.value), f"set twice, first on line {first}; remove one")
            lines.setdefault(key_node.value, key_node.start_mark.line + 1)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            value = self._loader.construct_object(node)
        except ValueError as error:  # such as 2024-02-31, which looks like a date
            self._report(node, path, f"cannot be read ({error}); put it in quotes if it is text")
            return None
        if value is None or isinstance(value, str | int | float | bool):
            return value
        self._report(node, path, f"reads as a {type(value).__name__}; put it in quotes if it is text")
        return None
