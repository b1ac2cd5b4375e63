"""The choice among tools in a chat request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from serving.api.wire.base_model import WireModel
from serving.api.wire.tools import ToolSelection


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


def selection_of(choice: ToolChoice | None) -> ToolSelection:
    """Selection that a choice stands for."""
    match choice:
        case None:
            return ToolSelection()
        case NamedTool():
            return ToolSelection("required", named=[(choice.function.name, "function.name")])
        case AllowedTools(allowed_tools=allowed):
            named = [
                (tool.function.name, f"allowed_tools.tools[{i}].function.name") for i, tool in enumerate(allowed.tools)
            ]
            return ToolSelection(allowed.mode, named=named, hides_others=True)
        case _:
            return ToolSelection(choice)
