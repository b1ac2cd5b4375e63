"""Tools of a Messages request, and the choice among them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from serving.api.wire.base_model import WireModel, invalid, invalid_schema, unsupported
from serving.api.wire.field_rules import Place
from serving.api.wire.tools import FUNCTION_NAME, ToolSelection, check_distinct
from serving.schemas.check import schema_problem


class ClientTool(WireModel):
    """A function of the client's that the model may call."""

    places: ClassVar[tuple[Place, ...]] = ("messages tool",)
    name: Annotated[str, StringConstraints(min_length=1)] = Field(description=FUNCTION_NAME)
    input_schema: dict[str, Any] = Field(description="A JSON schema of type object.")
    description: str | None = None
    strict: bool | None = Field(None, description="true: the input is held to the schema as it is written.")
    type: Literal["custom"] | None = None

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Refuse the tools that Anthropic defines, which have fields of their own and no schema."""
        kind = data.get("type")
        if isinstance(kind, str) and kind != "custom":
            raise unsupported(
                f"Its type is '{kind[:64]}', which gpt-oss does not know and this server does not run: describe what "
                "your program can do with an input_schema."
            )

    @model_validator(mode="after")
    def _strict_schema_can_be_kept(self) -> ClientTool:
        problem = schema_problem(self.input_schema) if self.strict else None
        if problem is not None:
            at = f"input_schema.{problem.at}" if problem.at else "input_schema"
            raise invalid_schema(at, problem.message, problem.code)
        return self


class ChosenTools(WireModel):
    """Whether the model may, must or must not call tools; `tool` names the one it must."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = Field(None, description="true: the answer ends with its first call.")

    @model_validator(mode="after")
    def _names_the_tool(self) -> ChosenTools:
        if self.type == "tool" and not self.name:
            raise invalid(
                "Missing required parameter: a tool_choice of type 'tool' needs 'name'.",
                "name",
                "missing_required_parameter",
            )
        if self.type != "tool" and self.name is not None:
            raise invalid(f"A tool_choice of type '{self.type}' has no 'name'.", at="name")
        return self


def distinct_names(tools: list[ClientTool] | None) -> list[ClientTool] | None:
    """Refuse two tools of one name."""
    check_distinct(tool.name for tool in tools or ())
    return tools


def selection_of(choice: ChosenTools | None) -> ToolSelection:
    """Selection that a choice stands for."""
    if choice is None:
        return ToolSelection()
    if choice.type in ("auto", "none"):
        return ToolSelection("auto" if choice.type == "auto" else "none")
    return ToolSelection("required", choice.type, [] if choice.name is None else [(choice.name, "name")])
