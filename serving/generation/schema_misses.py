"""Second look at finished answers: whether what a schema was asked for is valid by it.

The engine's grammar has seen to that; an answer that is not valid all the same is a fault of ours, and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Literal

from serving.generation.choice import ChoiceReader
from serving.schemas.check import is_valid_answer

logger = logging.getLogger(__name__)

Body = Literal["answer", "call"]
OnSchemaMiss = Callable[[Body], None]
"""Callback for each finished body that is not valid by its schema."""


async def report_misses(readers: Iterable[ChoiceReader], on_miss: OnSchemaMiss) -> None:
    """Validate the finished bodies of choices, in a thread, and report those that are not valid."""
    for reader in readers:
        segment, text = reader.segment, reader.finished_body
        constraint = segment.constraint
        if constraint is None or constraint.kind != "json_schema" or text is None:
            continue
        if not await asyncio.to_thread(is_valid_answer, constraint.value, text):
            logger.error("a finished %s is not valid by the schema that it was held to", segment.kind)
            on_miss("call" if segment.kind == "call" else "answer")
