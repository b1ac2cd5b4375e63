"""Base of all wire models: strict types, unknown keys refused by name, absent and null alike."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class WireModel(BaseModel):
    """A JSON object of the API. The type `None` alone marks a field that is known and not supported."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        # Before the fields, and only the first: a body full of unknown keys must not cost an error object each.
        if isinstance(data, dict):
            cls.refuse(data)
            known = cls._keys()
            for key in data:
                if key not in known:
                    raise PydanticCustomError("unknown_parameter", "unknown parameter", {"key": key})
        return data

    @classmethod
    @functools.cache
    def _keys(cls) -> frozenset[str]:
        """Names of the fields in JSON: some of OpenAI's names are pydantic's own in Python."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Raise for objects that are better explained as a whole than by their first odd key; a hook."""


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


def unsupported(because: str) -> PydanticCustomError:
    """An error for validators to raise; it becomes UnsupportedParameterError."""
    return PydanticCustomError("unsupported_value", "{because}", {"because": because})


def invalid(message: str, at: str | None = None, code: str = "invalid_value") -> PydanticCustomError:
    """An error for validators to raise. `at` is the path below the field being validated: "[2].id"."""
    return PydanticCustomError("invalid", "{message}", {"message": message, "at": at or "", "code": code})


def invalid_schema(at: str, message: str, code: str) -> PydanticCustomError:
    """An error for validators of JSON schemas to raise. `at` is the path below the field being validated."""
    return PydanticCustomError("invalid_schema", "{message}", {"message": message, "at": at, "code": code})
