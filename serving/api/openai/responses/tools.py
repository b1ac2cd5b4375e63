"""Tools of a Responses request, which describe functions flat, and the choice among them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from serving.api.wire.base_model import WireModel, invalid, invalid_schema, only, unsupported
from serving.api.wire.tools import FUNCTION_NAME, ToolSelection, check_distinct
from serving.schemas.check import schema_problem

_Name = Annotated[str, StringConstraints(min_length=1)]


class FunctionTool(WireModel):
    """A function the model may call."""

    type: Literal["function"]
    name: _Name = Field(description=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of type object; absent: no parameters.")
    strict: bool | None = Field(None, description="true: arguments are held to the schema.")
    output_schema: dict[str, Any] | None = Field(None, description="Accepted; not shown to the model.")
    defer_loading: Annotated[bool | None, only(False, because="All tools are shown; there is no tool search.")] = None
    allowed_callers: Annotated[
        list[str] | None, only(["direct"], because="The model calls functions itself here: only 'direct' is.")
    ] = None

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Explain the form that POST /v1/chat/completions takes, which is a likely mistake."""
        if isinstance(data.get("function"), dict):
            raise invalid("Here a function is described flat: {type: 'function', name: ..., parameters: ...}.")

    @model_validator(mode="after")
    def _strict_schema_can_be_kept(self) -> FunctionTool:
        problem = schema_problem(self.parameters) if self.strict and self.parameters is not None else None
        if problem is not None:
            at = f"parameters.{problem.at}" if problem.at else "parameters"
            raise invalid_schema(at, problem.message, problem.code)
        return self


def _function_alone(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise unsupported(
            f"Its type is '{kind[:64]}', and this server runs no tools itself: describe what your program can do as a "
            "tool of type 'function', and answer its calls."
        )
    return value


Tool = Annotated[FunctionTool, BeforeValidator(_function_alone)]


class ChosenFunction(WireModel):
    """A function by its name."""

    type: Literal["function"]
    name: _Name


class AllowedFunctions(WireModel):
    """Some of the tools, of which the model may or must call one."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[ChosenFunction, BeforeValidator(_function_alone)]], Field(min_length=1, max_length=128)
    ]


def _choice(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            raise invalid("Invalid value: supported are 'none', 'auto', 'required' and {type: 'function', name: ...}.")
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("expected", "a string or an object")
    if value.get("type") == "allowed_tools":
        return AllowedFunctions.model_validate(value)
    return ChosenFunction.model_validate(_function_alone(value))


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | ChosenFunction | AllowedFunctions, BeforeValidator(_choice)
]


def distinct_names(tools: list[FunctionTool] | None) -> list[FunctionTool] | None:
    """Refuse two functions of one name."""
    check_distinct(tool.name for tool in tools or ())
    return tools


def selection_of(choice: ToolChoice | None) -> ToolSelection:
    """Selection that a choice stands for."""
    match choice:
        case None:
            return ToolSelection()
        case ChosenFunction():
            return ToolSelection("required", named=[(choice.name, "name")])
        case AllowedFunctions():
            named = [(tool.name, f"tools[{i}].name") for i, tool in enumerate(choice.tools)]
            return ToolSelection(choice.mode, named=named, hides_others=True)
        case _:
            return ToolSelection(choice)
