"""Problems of settings from pydantic's errors, in words that say which setting to change and how."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from serving.settings.layer import KeyPath, Layer, Problem, dotted

_SEVERAL = "several_settings"


def several(findings: Sequence[tuple[KeyPath, str]]) -> PydanticCustomError:
    """Make the error of a validator that checks many fields at once: each finding keeps its own field."""
    text = "; ".join(f"{dotted(path)}: {message}" for path, message in findings)
    return PydanticCustomError(_SEVERAL, "{text}", {"text": text, "findings": list(findings)})


def from_validation(error: ValidationError, layer: Layer) -> list[Problem]:
    """Make a problem of each of pydantic's errors, with the value's origin."""
    problems: list[Problem] = []
    for details in error.errors(include_url=False):
        path = tuple(str(part) for part in details["loc"] if part != "[key]")
        findings = details["ctx"]["findings"] if details["type"] == _SEVERAL else [((), _message(details))]
        for below, message in findings:
            origin = layer.origin((*path, *below))
            problems.append(Problem(dotted((*path, *below)), f"{message} ({origin})" if origin else message))
    return problems


def _message(details: ErrorDetails) -> str:
    kind, given = details["type"], details["input"]
    if kind == "value_error":
        # What our own validators say needs no "Value error, " and repeats the value where that helps.
        return str(details["ctx"]["error"])
    if kind in ("model_type", "dict_type"):
        return f"should hold settings, one `name: value` a line; got {_shown(given)}"
    message = re.sub(r"^Input should", "should", details["msg"]).replace("greater than or equal to", "at least")
    message = message.replace("less than or equal to", "at most")
    if kind == "literal_error" and isinstance(given, str):
        near = difflib.get_close_matches(given.lower(), re.findall(r"'([^']+)'", details["ctx"]["expected"]), n=1)
        message += f"; did you mean '{near[0]}'?" if near else ""
    return f"{message}; got {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
