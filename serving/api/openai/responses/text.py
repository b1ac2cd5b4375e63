"""Form of the answer's text in a Responses request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.structured_outputs import checked_schema
from serving.api.wire.verbosity import Verbosity


class PlainFormat(WireModel):
    """Any text."""

    type: Literal["text"]


class JsonObjectTextFormat(WireModel):
    """Some JSON object."""

    type: Literal["json_object"]


class JsonSchemaTextFormat(WireModel):
    """JSON that keeps to a schema. The answer is held to it whether `strict` says so or not."""

    type: Literal["json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[\w-]{1,64}$")]
    schema_: Annotated[dict[str, Any], AfterValidator(checked_schema)] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


_FORMATS = ("text", "json_object", "json_schema")


def _format_type(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>"


def _known_type(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise PydanticCustomError("expected", "an object")
    if "type" not in value:
        raise invalid("Missing required parameter: 'text.format.type'.", at="type", code="missing_required_parameter")
    if value["type"] not in _FORMATS:
        raise invalid(f"Invalid value for 'text.format.type'. Supported values are: {', '.join(_FORMATS)}.", at="type")
    return value


Format = Annotated[
    Annotated[
        Annotated[PlainFormat, Tag("<text>")]
        | Annotated[JsonObjectTextFormat, Tag("<json_object>")]
        | Annotated[JsonSchemaTextFormat, Tag("<json_schema>")],
        Discriminator(_format_type),
    ]
    | None,
    BeforeValidator(_known_type),
]


class TextSettings(WireModel):
    """Form and verbosity of the answer's text."""

    format: Format = None
    verbosity: Verbosity | None = Field(None, description="A line in the prompt asks the model for it.")
