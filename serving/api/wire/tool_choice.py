"""Which tools a request lets the model call, and which it makes it call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.tools import Tool


class FunctionName(WireModel):
    """A function, by its name alone."""

    name: Annotated[str, StringConstraints(min_length=1)]


class NamedTool(WireModel):
    """This function must be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedToolList(WireModel):
    """The functions that may be called; with mode required, one of them must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]


class AllowedTools(WireModel):
    """The model sees these functions alone."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolList


def _shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<word>"
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if isinstance(value, dict | WireModel):
        return "<allowed>" if kind == "allowed_tools" else "<named>"
    return None


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedTools, Tag("<allowed>")],
    Discriminator(
        _shape,
        custom_error_type="expected",
        custom_error_message="'auto', 'none', 'required' or an object that names a function",
    ),
]


def check_choice(choice: ToolChoice | None, tools: list[Tool]) -> None:
    """Refuse choices that cannot be kept: of functions that are not offered, of one where there are none."""
    offered = {tool.function.name for tool in tools}
    if choice == "required" and not offered:
        raise invalid("'tool_choice' is 'required' and there are no 'tools' to call.", at="tool_choice")
    for name, at in _named(choice):
        if name not in offered:
            raise invalid(f"'{name[:64]}' is not among the 'tools' of this request.", at=f"tool_choice.{at}")


def shown_tools(choice: ToolChoice | None, tools: list[Tool]) -> list[Tool]:
    """The tools that the model is told of.

    Those that must not be called are not shown: the one way of keeping that promise without a grammar.
    """
    if choice == "none":
        return []
    if isinstance(choice, AllowedTools):
        allowed = {name for name, _ in _named(choice)}
        return [tool for tool in tools if tool.function.name in allowed]
    return tools


def forced_tools(choice: ToolChoice | None, tools: list[Tool]) -> tuple[str, ...]:
    """Names of the functions of which one must be called; () where none must."""
    if choice == "required":
        return tuple(tool.function.name for tool in tools)
    if isinstance(choice, NamedTool) or (isinstance(choice, AllowedTools) and choice.allowed_tools.mode == "required"):
        return tuple(dict.fromkeys(name for name, _ in _named(choice)))
    return ()


def _named(choice: ToolChoice | None) -> list[tuple[str, str]]:
    """The functions a choice names, each with its place below `tool_choice`."""
    if isinstance(choice, NamedTool):
        return [(choice.function.name, "function.name")]
    if isinstance(choice, AllowedTools):
        listed = enumerate(choice.allowed_tools.tools)
        return [(tool.function.name, f"allowed_tools.tools[{i}].function.name") for i, tool in listed]
    return []
