"""Base of all wire models: strict types, unknown keys ignored or refused by name, absent and null alike."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from serving.api.wire.field_rules import FIELD_RULES, FieldRule, Place, rules_at, told
from serving.api.wire.reading import Reading


class WireModel(BaseModel):
    """A JSON object of the API.

    `places` are the kinds of object that it is, whose rules of field_rules.py hold for fields that it does not
    declare. Validation takes a Reading as its context, which says whether unknown fields are refused and notes those
    that are ignored; without one they are refused.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    places: ClassVar[tuple[Place, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _known_keys_alone(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict):
            cls.refuse(data)
            if not data.keys() <= cls._keys():
                return cls._without_others(data, info.context)
        return data

    @classmethod
    def _without_others(cls, data: dict[str, Any], reading: Reading | None) -> dict[str, Any]:
        """Return the declared fields of `data`. Only the first mistake is told: there may be thousands."""
        known, rules = cls._keys(), cls._rules()
        strict = reading is None or reading.strict
        kept = {}
        for key, value in data.items():
            if key in known:
                kept[key] = value
            elif (rule := rules.get(key)) is not None:
                if (instead := told(rule, value)) is not None:
                    raise unsupported(instead, at=key)
            elif value is not None:
                if strict or reading is None:
                    raise PydanticCustomError("unknown_parameter", "unknown parameter", {"key": key})
                reading.ignore_field(cls, key)
        return kept

    @classmethod
    @functools.cache
    def _keys(cls) -> frozenset[str]:
        """Names of the fields in JSON: some of OpenAI's names are pydantic's own in Python."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    @functools.cache
    def _rules(cls) -> dict[str, FieldRule]:
        """Rules of the fields that are not declared."""
        return {name: rule for name, rule in rules_at(cls._all_places()).items() if name not in cls._keys()}

    @classmethod
    def _all_places(cls) -> tuple[Place, ...]:
        """Kinds of object that this is, those of its bases first."""
        return tuple(dict.fromkeys(place for each in cls.__mro__[::-1] for place in each.__dict__.get("places", ())))

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Raise for objects that are better explained as a whole than by their first odd key; a hook."""

    @classmethod
    def with_tools_told(cls, data: dict[str, Any], reading: Reading) -> dict[str, Any]:
        """Return a request's body, which has `tools`, without those that the model is not told of; a hook."""
        del reading
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the fields of the rules, and say nothing against others."""
        shown = handler.resolve_ref_schema(handler(schema))
        shown.pop("additionalProperties", None)
        for rule in (rule for place in cls._all_places() for rule in FIELD_RULES[place]):
            if rule.name in cls._rules():
                says = "Accepted; changes nothing." if rule.instead is None else f"Not supported. {rule.instead}"
                shown.setdefault("properties", {}).setdefault(rule.name, {"description": says})
        return shown


def only(*accepted: object, because: str) -> AfterValidator:
    """A validator for fields of which only some values are supported; null always is.

    The refusal becomes UnsupportedParameterError and says `because`.
    """

    def check(value: Any) -> Any:
        # Type and value: 1 is not True here.
        if value is not None and not any(type(value) is type(a) and value == a for a in accepted):
            raise unsupported(because)
        return value

    return AfterValidator(check)


def unsupported(because: str, at: str = "") -> PydanticCustomError:
    """An error for validators to raise; it becomes UnsupportedParameterError. `at` is as in invalid()."""
    return PydanticCustomError("unsupported_value", "{because}", {"because": because, "at": at})


def invalid(message: str, at: str | None = None, code: str = "invalid_value") -> PydanticCustomError:
    """An error for validators to raise. `at` is the path below the field being validated: "[2].id"."""
    return PydanticCustomError("invalid", "{message}", {"message": message, "at": at or "", "code": code})


def invalid_schema(at: str, message: str, code: str) -> PydanticCustomError:
    """An error for validators of JSON schemas to raise. `at` is the path below the field being validated."""
    return PydanticCustomError("invalid_schema", "{message}", {"message": message, "at": at, "code": code})
