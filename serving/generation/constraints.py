"""Constraints as engines take them: a schema is the grammar of the texts that are valid by it."""

from __future__ import annotations

import json

from serving.engine.base import Constraint
from serving.harmony.conversation import FunctionTool
from serving.schemas.best_effort import held_part
from serving.schemas.check import schema_grammar

JSON_OBJECT = Constraint("json_object")


def for_engine(constraint: Constraint) -> Constraint:
    """`constraint` with a grammar in place of a schema: engines read schemas their own way, and not to the letter."""
    if constraint.kind not in ("json_schema", "json_object"):
        return constraint
    schema = constraint.value if constraint.kind == "json_schema" else '{"type": "object"}'
    return Constraint("grammar", schema_grammar(schema))


def of_call(tool: FunctionTool) -> Constraint:
    """Constraint of a call's arguments; of a tool that is not strict, as much of its schema as can be held."""
    if tool.parameters is None:
        return JSON_OBJECT
    schema = json.dumps(tool.parameters) if tool.strict else held_part(tool.parameters).schema
    return JSON_OBJECT if schema is None else Constraint("json_schema", schema)


def not_held(tool: FunctionTool) -> tuple[str, ...]:
    """Places in a tool's schema that its forced calls are not held to; "" is all of it."""
    return () if tool.parameters is None or tool.strict else held_part(tool.parameters).left_out
