"""Structured outputs: OpenAI's response_format, vLLM's structured_outputs and their older guided_* names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import from_json

from serving.api.wire.base_model import WireModel, invalid, invalid_schema, only
from serving.api.wire.field_rules import Place
from serving.schemas.check import schema_problem

Kind = Literal["json_object", "json_schema", "regex", "choice", "grammar"]

_MOST_CHOICES = 1000
_LONGEST_REGEX = 8 * 1024
_LONGEST_GRAMMAR = 64 * 1024


@dataclass(frozen=True, slots=True)
class AskedFor:
    """Form of an answer, and the field it came in. `value` is a schema or choices as JSON, a pattern or a grammar."""

    field: str
    kind: Kind
    value: str = ""


def checked_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`; raises the error that names its first mistake."""
    problem = schema_problem(schema)
    if problem is not None:
        raise invalid_schema(problem.at, problem.message, problem.code)
    return schema


def _parsed(value: Any) -> Any:
    """vLLM takes schemas as text too."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"The schema is not valid JSON: {error}.") from error


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise invalid("It has a NUL character, which no text matches.")
    return text


Schema = Annotated[dict[str, Any], AfterValidator(checked_schema)]
SchemaOrText = Annotated[Schema, BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str)]
Regex = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_REGEX), AfterValidator(_without_nul)]
Choices = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]],
    Field(min_length=1, max_length=_MOST_CHOICES),
]
Grammar = Annotated[
    str,
    StringConstraints(min_length=1, max_length=_LONGEST_GRAMMAR, pattern=r"\S"),
    AfterValidator(_without_nul),
]


class JsonSchemaFormat(WireModel):
    """A named schema. The answer is held to it whether `strict` says so or not."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w-]{1,64}$")]
    description: str | None = None
    schema_: Schema = Field(alias="schema", description="A JSON schema; see docs/api.md for what it may use.")
    strict: bool | None = None


class ResponseFormat(WireModel):
    """The answer's form."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise invalid(
                "Missing required parameter: a response format of type 'json_schema' needs 'json_schema'.",
                at="json_schema",
                code="missing_required_parameter",
            )
        if self.type != "json_schema" and self.json_schema is not None:
            raise invalid(f"A response format of type '{self.type}' has no 'json_schema'.", at="json_schema")
        return self


class StructuredOutputs(WireModel):
    """vLLM's name for response_format, with more forms; exactly one of the fields."""

    places: ClassVar[tuple[Place, ...]] = ("structured outputs",)
    json_: SchemaOrText | None = Field(None, alias="json", description="A JSON schema, or its text.")
    regex: Regex | None = None
    choice: Choices | None = None
    grammar: Grammar | None = Field(None, description="EBNF, as xgrammar reads it.")
    json_object: Annotated[bool | None, only(True, because="Leave structured_outputs out instead.")] = None

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> StructuredOutputs:
        asked = [name for name, value in self if value is not None]
        if len(asked) != 1:
            raise invalid("Give exactly one of json, regex, choice, grammar and json_object.")
        return self


class ConstrainedFields(WireModel):
    """Fields that constrain the answer's text; at most one of them."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaOrText | None = Field(None, description="The older name of structured_outputs.json.")
    guided_regex: Regex | None = Field(None, description="The older name of structured_outputs.regex.")
    guided_choice: Choices | None = Field(None, description="The older name of structured_outputs.choice.")
    guided_grammar: Grammar | None = Field(None, description="The older name of structured_outputs.grammar.")

    @model_validator(mode="after")
    def _one_form(self) -> ConstrainedFields:
        asked = list(self._asked())
        if len(asked) > 1:
            first, second = asked[0].field, asked[1].field
            raise invalid(
                f"'{first}' and '{second}' both say what the answer must match; send one of them.",
                at=second.split(".")[0],
            )
        return self

    @property
    def answer_format(self) -> AskedFor | None:
        """Form that the answer must have, if any."""
        return next(self._asked(), None)

    def _asked(self) -> Iterator[AskedFor]:
        form = self.response_format
        if form is not None and form.type == "json_object":
            yield AskedFor("response_format", "json_object")
        if form is not None and form.json_schema is not None:
            yield AskedFor("response_format.json_schema.schema", "json_schema", json.dumps(form.json_schema.schema_))
        outputs = self.structured_outputs
        if outputs is not None:
            yield from _forms("structured_outputs.", outputs.json_, outputs.regex, outputs.choice, outputs.grammar)
            if outputs.json_object:
                yield AskedFor("structured_outputs.json_object", "json_object")
        yield from _forms("guided_", self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar)


def _forms(
    prefix: str, schema: dict[str, Any] | None, regex: str | None, choice: list[str] | None, grammar: str | None
) -> Iterator[AskedFor]:
    if schema is not None:
        yield AskedFor(f"{prefix}json", "json_schema", json.dumps(schema))
    if regex is not None:
        yield AskedFor(f"{prefix}regex", "regex", regex)
    if choice is not None:
        yield AskedFor(f"{prefix}choice", "choice", json.dumps(choice))
    if grammar is not None:
        yield AskedFor(f"{prefix}grammar", "grammar", grammar)
