"""Tools of a chat request, and calls of earlier answers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from serving.api.wire.base_model import WireModel, invalid_schema
from serving.api.wire.field_rules import Place
from serving.api.wire.tools import FUNCTION_NAME, check_distinct
from serving.schemas.check import schema_problem


class FunctionDefinition(WireModel):
    """A function the model may call."""

    name: Annotated[str, StringConstraints(min_length=1)] = Field(description=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of type object; absent: no parameters.")
    strict: bool | None = Field(None, description="true: arguments are held to the schema as they are written.")

    @model_validator(mode="after")
    def _strict_schema_can_be_kept(self) -> FunctionDefinition:
        problem = schema_problem(self.parameters) if self.strict and self.parameters is not None else None
        if problem is not None:
            at = f"parameters.{problem.at}" if problem.at else "parameters"
            raise invalid_schema(at, problem.message, problem.code)
        return self


class Tool(WireModel):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionDefinition


class CalledFunction(WireModel):
    """The function of a call, `arguments` as the model wrote them."""

    places: ClassVar[tuple[Place, ...]] = ("call",)
    name: str
    arguments: str


class ToolCall(WireModel):
    """A call in an assistant message."""

    places: ClassVar[tuple[Place, ...]] = ("call",)
    id: Annotated[str, StringConstraints(min_length=1)]
    type: Literal["function"] = "function"
    function: CalledFunction


def distinct_names(tools: list[Tool] | None) -> list[Tool] | None:
    """Refuse two functions of one name."""
    check_distinct((tool.function.name for tool in tools or ()), at="function.name")
    return tools
