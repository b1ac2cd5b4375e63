"""Make the schema of the Helm chart's values and the table in its README.

usage: chart.py [--check]   (--check changes nothing and fails where something is not current)

Their sources are values.yaml (defaults, comments and `@schema` lines) and serving's settings. Dashboards and rules are
links to grafana/, which Helm follows.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.commands.config import settings_schema
from serving.settings.teams import TeamsFile

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "gpt-oss-serving"

_SCHEMA_MARK = "@schema "
_TABLE = re.compile(r"(<!-- values -->\n).*(<!-- /values -->)", re.DOTALL)

QUANTITY = {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
    "description": "An amount as Kubernetes writes it, such as 500m or 8Gi.",
}
DEFINITIONS: dict[str, Any] = {
    "Quantity": QUANTITY,
    "Port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "Resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "object", "additionalProperties": {"$ref": "#/$defs/Quantity"}}
            for name in ("requests", "limits")
        },
    },
    "EngineOverride": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "resources": {"$ref": "#/$defs/Resources"},
            "sharedMemory": {"$ref": "#/$defs/Quantity"},
            "nodeSelector": {"type": "object", "additionalProperties": {"type": "string"}},
            "tolerations": {"type": "array", "items": {"type": "object"}},
            "affinity": {"type": "object"},
            "sparePods": {"type": "integer", "minimum": 0},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Value:
    """One entry of values.yaml; `schema` is what its `@schema` line says, `children` are the entries of a section."""

    path: tuple[str, ...]
    description: str
    schema: dict[str, Any] | None
    default: Any
    children: tuple[Value, ...]


def read_values(text: str) -> tuple[Value, ...]:
    """The entries of values.yaml with their comments; raises ValueError for an entry without one."""
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("values.yaml is no mapping")
    return tuple(_entries(root, (), lines, yaml.safe_load(text)))


def _entries(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str], values: Any) -> Iterator[Value]:
    for key, child in node.value:
        here = (*path, key.value)
        description, schema = _comment(lines, key.start_mark.line)
        default = values[key.value]
        section = schema is None and isinstance(child, yaml.MappingNode) and bool(child.value)
        if not description and not section:
            raise ValueError(f"values.yaml:{key.start_mark.line + 1}: {'.'.join(here)} has no comment")
        children = tuple(_entries(child, here, lines, default)) if section else ()
        yield Value(here, description, schema, default, children)


def _comment(lines: list[str], line: int) -> tuple[str, dict[str, Any] | None]:
    """The words and the schema in the comment lines right above a line."""
    words: list[str] = []
    schema = None
    while line > 0 and (text := lines[line - 1].strip()).startswith("#"):
        text = text.removeprefix("#").strip()
        if text.startswith(_SCHEMA_MARK):
            schema = json.loads(text.removeprefix(_SCHEMA_MARK))
        else:
            words.insert(0, text)
        line -= 1
    return " ".join(words), schema


def values_schema(values: tuple[Value, ...]) -> dict[str, Any]:
    """values.schema.json: strict, with the settings' own schema inside."""
    embedded: dict[str, Any] = {"Settings": settings_schema(), "TeamsFile": TeamsFile.model_json_schema()}
    definitions: dict[str, Any] = dict(DEFINITIONS)
    # It is text in a teams file; pydantic describes the object that becomes of it.
    embedded["TeamsFile"]["$defs"]["KeyHash"] = {"type": "string", "pattern": "^blake2b:[0-9a-f]+:[0-9a-f]+$"}
    for name, schema in embedded.items():
        schema.pop("$schema", None)
        inner: Any = schema.pop("$defs", {})
        for key, definition in [*inner.items(), (name, schema)]:
            if definitions.setdefault(key, definition) != definition:
                raise ValueError(f"two different schemas are called {key}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart gpt-oss-serving",
        **_section(values),
        "$defs": _lean(definitions),
    }


def _section(values: tuple[Value, ...]) -> dict[str, Any]:
    properties = {value.path[-1]: _schema(value) for value in values}
    if values and len(values[0].path) == 1:
        # What Helm and parent charts add by themselves.
        properties["global"] = {"type": "object"}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema(value: Value) -> dict[str, Any]:
    if value.children:
        schema = _section(value.children)
    elif value.schema is not None:
        schema = value.schema
    else:
        schema = {"type": _type(value)}
    return {"description": value.description, **schema} if value.description else schema


def _type(value: Value) -> str:
    for kind, name in ((bool, "boolean"), (str, "string")):
        if isinstance(value.default, kind):
            return name
    raise ValueError(f"{'.'.join(value.path)}: its default does not tell its schema; add an `@schema` line")


def _lean(node: Any) -> Any:
    """The same schema without `default` and `title`: Helm has no use for them and they double the size."""
    if isinstance(node, dict):
        kept = {key: _lean(item) for key, item in node.items() if key not in ("default", "title")}
        # A property may be called so itself.
        if "properties" in node:
            kept["properties"] = {name: _lean(item) for name, item in node["properties"].items()}
        return kept
    if isinstance(node, list):
        return [_lean(item) for item in node]
    return node


def table(values: tuple[Value, ...]) -> str:
    """Every value, its default and its meaning as a Markdown table."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in _leaves(values):
        default = json.dumps(value.default, ensure_ascii=False).replace("|", "\\|")
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {value.description} |")
    return "\n".join(rows) + "\n"


def _leaves(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        if value.children:
            yield from _leaves(value.children)
        else:
            yield value


def wanted() -> dict[Path, str]:
    """Every file that is made, with what must be in it."""
    values = read_values((CHART / "values.yaml").read_text())
    readme = CHART / "README.md"
    return {
        CHART / "values.schema.json": json.dumps(values_schema(values), indent=1, ensure_ascii=False) + "\n",
        readme: _TABLE.sub(lambda found: found[1] + table(values) + found[2], readme.read_text()),
    }


def main() -> int:
    """Returns the exit status: 1 when --check found something that is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something is not current")
    check = parser.parse_args().check
    files = wanted()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'not current' if check else 'updated'}: {path.relative_to(ROOT)}")
    if check:
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
