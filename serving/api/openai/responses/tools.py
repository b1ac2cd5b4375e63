"""Tools of a Responses request and the choice among them.

Functions are described flat. Custom tools, apply_patch and the local shells are functions to the model (toolbox.py);
the client runs all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from serving.api.wire.base_model import WireModel, invalid, invalid_schema, unsupported
from serving.api.wire.field_rules import Place
from serving.api.wire.structured_outputs import Grammar, Regex
from serving.api.wire.tools import FUNCTION_NAME, ToolSelection, check_distinct
from serving.schemas.check import schema_problem

_Name = Annotated[str, StringConstraints(min_length=1)]


class FunctionTool(WireModel):
    """A function the model may call."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["function"]
    name: _Name = Field(description=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of type object; absent: no parameters.")
    strict: bool | None = Field(None, description="true: arguments are held to the schema.")

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


class TextFormat(WireModel):
    """Any text."""

    type: Literal["text"]


class LarkFormat(WireModel):
    """Text of a grammar in Lark's syntax, as xgrammar reads it."""

    type: Literal["grammar"]
    syntax: Literal["lark"]
    definition: Grammar


class RegexFormat(WireModel):
    """Text that a regular expression matches as a whole."""

    type: Literal["grammar"]
    syntax: Literal["regex"]
    definition: Regex


def _format_kind(value: Any) -> str | None:
    def field(name: str) -> Any:
        return value.get(name) if isinstance(value, dict) else getattr(value, name, None)

    return f"<{field('syntax') if field('type') == 'grammar' else field('type')}>"


InputFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[LarkFormat, Tag("<lark>")]
    | Annotated[RegexFormat, Tag("<regex>")],
    Discriminator(
        _format_kind,
        custom_error_type="expected",
        custom_error_message="{type: 'text'}, or {type: 'grammar', syntax: 'lark' or 'regex', definition: ...}",
    ),
]


class CustomTool(WireModel):
    """A tool whose input is text."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["custom"]
    name: _Name = Field(description=FUNCTION_NAME)
    description: str | None = None
    format: InputFormat | None = Field(None, description="Text of a grammar, or by default any text.")


class ApplyPatchTool(WireModel):
    """The client's files, which the model creates, changes and deletes with diffs."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["apply_patch"]


class LocalShellTool(WireModel):
    """The client's shell, one command at a time."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["local_shell"]


class ShellTool(WireModel):
    """The client's shell, several commands at a time."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["shell"]
    environment: Annotated[dict[str, Any] | None, AfterValidator(lambda value: _local_environment(value))] = Field(
        None, description="local: your program runs the commands."
    )


def _local_environment(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None and value.get("type") != "local":
        raise unsupported("This server runs no containers: with {type: 'local'} your program runs the commands.")
    return value


def _tool_type(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind is not None else "<function>"


class Namespace(WireModel):
    """Tools under a common name; the model sees them as NAMESPACE__TOOL."""

    places: ClassVar[tuple[Place, ...]] = ("responses tool",)
    type: Literal["namespace"]
    name: _Name
    description: str | None = None
    tools: Annotated[
        list[
            Annotated[
                Annotated[FunctionTool, Tag("<function>")] | Annotated[CustomTool, Tag("<custom>")],
                Discriminator(
                    _tool_type, custom_error_type="expected", custom_error_message="a function or custom tool"
                ),
            ]
        ],
        Field(max_length=128),
    ]


TOOL_TYPES = ("function", "custom", "namespace", "apply_patch", "local_shell", "shell")


def _known_tool(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in TOOL_TYPES:
        raise unsupported(
            f"Its type is '{kind[:64]}', and this server runs no tools itself: describe what your program can do as a "
            f"tool of type 'function', and answer its calls. Types: {', '.join(TOOL_TYPES)}."
        )
    return value


Tool = Annotated[
    Annotated[
        Annotated[FunctionTool, Tag("<function>")]
        | Annotated[CustomTool, Tag("<custom>")]
        | Annotated[Namespace, Tag("<namespace>")]
        | Annotated[ApplyPatchTool, Tag("<apply_patch>")]
        | Annotated[LocalShellTool, Tag("<local_shell>")]
        | Annotated[ShellTool, Tag("<shell>")],
        Discriminator(_tool_type, custom_error_type="expected", custom_error_message="an object"),
    ],
    BeforeValidator(_known_tool),
]


def flat_name(namespace: str | None, name: str) -> str:
    """The name under which the model sees a tool of a namespace; vLLM's."""
    return name if namespace is None else f"{namespace}__{name}"


class ChosenTool(WireModel):
    """A tool by its type, and by its name where it has one."""

    type: Literal["function", "custom", "apply_patch", "local_shell", "shell"]
    name: _Name | None = None
    namespace: _Name | None = None

    @model_validator(mode="after")
    def _has_a_name(self) -> ChosenTool:
        if (self.name is None) != (self.type not in ("function", "custom")):
            wanted = "needs a 'name'" if self.name is None else "has no 'name'"
            raise invalid(f"A choice of type '{self.type}' {wanted}.", at="name", code="missing_required_parameter")
        return self

    @property
    def flat(self) -> str:
        """The name under which the model sees it."""
        return flat_name(self.namespace, self.name or self.type)


class AllowedChoices(WireModel):
    """Some of the tools, of which the model may or must call one."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[Annotated[ChosenTool, BeforeValidator(_known_tool)]], Field(min_length=1, max_length=128)]


def _choice(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            raise invalid("Invalid value: supported are 'none', 'auto', 'required' and {type: 'function', name: ...}.")
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("expected", "a string or an object")
    if value.get("type") == "allowed_tools":
        return AllowedChoices.model_validate(value)
    return ChosenTool.model_validate(_known_tool(value))


ToolChoice = Annotated[Literal["none", "auto", "required"] | ChosenTool | AllowedChoices, BeforeValidator(_choice)]


def names_of(tool: Tool) -> list[str]:
    """Names under which the model sees a tool, or the tools of a namespace."""
    match tool:
        case FunctionTool() | CustomTool():
            return [tool.name]
        case Namespace():
            return [flat_name(tool.name, each.name) for each in tool.tools]
        case _:
            return [tool.type]


def distinct_names(tools: list[Tool] | None) -> list[Tool] | None:
    """Refuse two tools of one name."""
    seen: set[str] = set()
    for number, tool in enumerate(tools or ()):
        names = names_of(tool)
        if (twice := next((name for name in names if name in seen), None)) is not None:
            raise invalid(f"Two tools are named '{twice}'.", at=f"[{number}].name")
        if isinstance(tool, Namespace):
            check_distinct(names)
        seen.update(names)
    return tools


def selection_of(choice: ToolChoice | None) -> ToolSelection:
    """Selection that a choice stands for."""
    match choice:
        case None:
            return ToolSelection()
        case ChosenTool():
            return ToolSelection("required", named=[(choice.flat, "name")])
        case AllowedChoices():
            named = [(tool.flat, f"tools[{i}].name") for i, tool in enumerate(choice.tools)]
            return ToolSelection(choice.mode, named=named, hides_others=True)
        case _:
            return ToolSelection(choice)
