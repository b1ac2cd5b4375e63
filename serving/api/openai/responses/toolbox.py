"""Tools of a request as the model sees them, functions all, and its calls as output items of the tools' own types.

To the model a custom tool is a function with the one parameter `input`, as vLLM shows it, or, with a grammar, a
function of plain text. The others' parameters are the fields of their calls, and calls keep to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from serving.api.openai.responses.response import (
    ApplyPatchCallOutput,
    CallOutput,
    CustomToolCallOutput,
    FunctionCallOutput,
    LocalShellCallOutput,
    ShellCallOutput,
)
from serving.api.openai.responses.tools import CustomTool, LarkFormat, Namespace, RegexFormat, Tool, flat_name
from serving.api.openai.responses.tools import FunctionTool as FunctionToolField
from serving.engine.base import Constraint
from serving.harmony.conversation import Conversation, FunctionTool

Kind = Literal["function", "custom", "apply_patch", "local_shell", "shell"]

_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_PATH = {"type": "string", "description": "Path of the file, relative to the workspace."}
_DIFF = {"type": "string", "description": "The new file's lines, each after a +; or the changes, as a V4A diff."}


def _operation(types: list[str], **fields: Any) -> dict[str, Any]:
    properties = {"type": {"type": "string", "enum": types}, "path": _PATH, **fields}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_OWN: dict[Kind, FunctionTool] = {
    "apply_patch": FunctionTool(
        "apply_patch",
        "Create, update or delete one file of the workspace.",
        {
            "type": "object",
            "properties": {
                "operation": {
                    "anyOf": [_operation(["create_file", "update_file"], diff=_DIFF), _operation(["delete_file"])]
                }
            },
            "required": ["operation"],
            "additionalProperties": False,
        },
        strict=True,
    ),
    "local_shell": FunctionTool(
        "local_shell",
        "Run a command on the user's computer and return its output.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments."},
                "working_directory": {"type": "string"},
                "timeout_ms": {"type": "integer"},
            },
            "required": ["command"],
            "additionalProperties": False,
        },
        strict=True,
    ),
    "shell": FunctionTool(
        "shell",
        "Run shell commands on the user's computer and return the output of each.",
        {
            "type": "object",
            "properties": {
                "commands": {"type": "array", "items": {"type": "string"}, "description": "Lines for the shell."},
                "timeout_ms": {"type": "integer"},
                "max_output_length": {"type": "integer"},
            },
            "required": ["commands"],
            "additionalProperties": False,
        },
        strict=True,
    ),
}


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One tool: `function` is what the model sees, `name` and `namespace` the client's.

    `place` is the tool's in the request. `body` constrains a call that is plain text, and `body_field` is its place.
    """

    kind: Kind
    name: str
    namespace: str | None
    place: str
    function: FunctionTool
    body: Constraint | None = None
    body_field: str = "format.definition"

    def opened(self, call_id: str, name: str) -> CallOutput:
        """The output item of a call that begins, with the id `name`."""
        match self.kind:
            case "function":
                call = FunctionCallOutput(
                    id=name, type="function_call", status="in_progress", call_id=call_id, name=self.name, arguments=""
                )
                if self.namespace is not None:
                    call["namespace"] = self.namespace
                return call
            case "custom":
                custom = CustomToolCallOutput(
                    id=name, type="custom_tool_call", status="in_progress", call_id=call_id, name=self.name, input=""
                )
                if self.namespace is not None:
                    custom["namespace"] = self.namespace
                return custom
            case "apply_patch":
                return ApplyPatchCallOutput(
                    id=name,
                    type="apply_patch_call",
                    status="in_progress",
                    call_id=call_id,
                    operation={"type": "update_file", "path": "", "diff": ""},
                )
            case "local_shell":
                return LocalShellCallOutput(
                    id=name, type="local_shell_call", status="in_progress", call_id=call_id, action=_local_action({})
                )
            case "shell":
                return ShellCallOutput(
                    id=name,
                    type="shell_call",
                    status="in_progress",
                    call_id=call_id,
                    action=_shell_action({}),
                    environment={"type": "local"},
                )


class Toolbox:
    """All tools of a request, by the names under which the model sees them."""

    def __init__(self, tools: Sequence[Tool] | None) -> None:
        self._tools = {
            offered.function.name: offered
            for number, tool in enumerate(tools or ())
            for offered in _offered(tool, f"tools[{number}]")
        }

    def __iter__(self) -> Iterator[OfferedTool]:
        return iter(self._tools.values())

    def opened(self, function: str, call_id: str, name: str) -> CallOutput:
        """The output item of a call that begins; one of a tool that was not offered is a function's."""
        offered = self._tools.get(function)
        if offered is None:
            return FunctionCallOutput(
                id=name, type="function_call", status="in_progress", call_id=call_id, name=function, arguments=""
            )
        return offered.opened(call_id, name)

    def places(self, conversation: Conversation) -> list[str]:
        """Places in the request of the tools that a conversation shows."""
        shown = {tool.name for tool in conversation.tools}
        return [tool.place for tool in self if tool.function.name in shown]

    def is_plain(self, function: str) -> bool:
        """Whether calls of a tool are plain text."""
        offered = self._tools.get(function)
        return offered is not None and offered.body is not None


def _offered(tool: Tool, place: str) -> Iterator[OfferedTool]:
    match tool:
        case FunctionToolField() | CustomTool():
            yield _named(tool, place, None, "")
        case Namespace():
            for number, each in enumerate(tool.tools):
                # What the namespace says is said once, before its first tool.
                before = f"{tool.name}: {tool.description}\n\n" if tool.description and number == 0 else ""
                yield _named(each, f"{place}.tools[{number}]", tool.name, before)
        case _:
            yield OfferedTool(tool.type, tool.type, None, place, _OWN[tool.type])


def _named(tool: FunctionToolField | CustomTool, place: str, namespace: str | None, before: str) -> OfferedTool:
    name, description = flat_name(namespace, tool.name), before + (tool.description or "")
    if isinstance(tool, FunctionToolField):
        function = FunctionTool(name, description, tool.parameters, bool(tool.strict))
        return OfferedTool("function", tool.name, namespace, place, function)
    match tool.format:
        case LarkFormat():
            said, body = "Lark grammar", Constraint("grammar", tool.format.definition)
        case RegexFormat():
            said, body = "regular expression", Constraint("regex", tool.format.definition)
        case _:
            return OfferedTool("custom", tool.name, namespace, place, FunctionTool(name, description, _TEXT))
    rule = f"The input is plain text, no JSON, that this {said} matches:\n{tool.format.definition}"
    shown = f"{description}\n\n{rule}" if description else rule
    return OfferedTool("custom", tool.name, namespace, place, FunctionTool(name, shown, {"type": "string"}), body)


def close_call(item: CallOutput, text: str) -> None:
    """Put a call's arguments, all that the model wrote of them, into its item."""
    match item["type"]:
        case "function_call":
            item["arguments"] = text
        case "custom_tool_call":
            item["input"] = text
        case "apply_patch_call":
            item["operation"] = _patch(_read(text))
            if item["status"] == "incomplete":
                item["status"] = "in_progress"  # OpenAI's has no other word for it
        case "local_shell_call":
            item["action"] = _local_action(_read(text))
        case "shell_call":
            item["action"] = _shell_action(_read(text))


def arguments_of(item: dict[str, Any], *, plain: bool = False) -> str:
    """Text that the model wrote to make the call of an item. Ours keeps to the form that the grammar makes it write."""
    match item["type"]:
        case "function_call":
            return str(item["arguments"])
        case "custom_tool_call":
            return str(item["input"]) if plain else _compact({"input": item["input"]})
        case "apply_patch_call":
            operation = item["operation"]
            order = ("type", "path", "diff")
            return _compact({"operation": {key: operation[key] for key in order if operation.get(key) is not None}})
        case kind:
            order = _ORDERS[kind]
            action = item["action"]
            return _compact({key: action[key] for key in order if action.get(key) is not None})


_ORDERS = {
    "local_shell_call": ("command", "working_directory", "timeout_ms"),
    "shell_call": ("commands", "timeout_ms", "max_output_length"),
}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read(text: str) -> dict[str, Any]:
    """The arguments as far as they came: a limit may have cut them."""
    try:
        value = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _patch(arguments: dict[str, Any]) -> dict[str, Any]:
    operation = arguments.get("operation")
    if not isinstance(operation, dict):
        operation = {}
    kind = operation.get("type", "update_file")
    patch = {"type": kind, "path": operation.get("path", "")}
    return patch if kind == "delete_file" else {**patch, "diff": operation.get("diff", "")}


def _local_action(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "exec",
        "command": arguments.get("command", []),
        "env": {},
        "timeout_ms": arguments.get("timeout_ms"),
        "user": None,
        "working_directory": arguments.get("working_directory"),
    }


def _shell_action(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "commands": arguments.get("commands", []),
        "timeout_ms": arguments.get("timeout_ms"),
        "max_output_length": arguments.get("max_output_length"),
    }
