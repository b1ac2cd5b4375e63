"""Writer of the tables of docs/api.md about fields that are known and not done."""

from __future__ import annotations

import json
from pathlib import Path

from serving.api.wire.field_rules import FIELD_RULES, OFF, PLACES, FieldRule

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def taken() -> str:
    """Table of hints, a row for each kind of object."""
    lines = ["| in | taken |", "|---|---|"]
    for place, rules in FIELD_RULES.items():
        names = [f"`{rule.name}`" for rule in rules if rule.instead is None]
        if names:
            lines.append(f"| {PLACES[place]} | {', '.join(names)} |")
    return "\n".join(lines)


def refused() -> str:
    """Table of refused fields, each with what to do and the values that are taken all the same."""
    lines = [
        f"| {PLACES[place]} | `{rule.name}` | {rule.instead} | {_taken(rule)} |"
        for place, rules in FIELD_RULES.items()
        for rule in rules
        if rule.instead is not None
    ]
    return "\n".join(["| in | refused | why, or what to do | taken |", "|---|---|---|---|", *lines])


def _taken(rule: FieldRule) -> str:
    beyond = [value for value in rule.nothing if value not in OFF or (isinstance(value, bool) and value)]
    shown = [f"`{json.dumps(value)}`" for value in beyond]
    if rule.nothing[: len(OFF)] == OFF:
        shown = ["what is off or empty", *shown]
    return ", ".join(shown)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    for name, table in (("taken", taken()), ("refused", refused())):
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end of {name} -->\n")
        text = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- end of {name} -->\n{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
