"""Trial compilation of constraints, in a real process with the real vocabulary."""

from __future__ import annotations

import multiprocessing

import pytest

from serving.engine.base import Constraint
from serving.engine.vllm.grammars import GrammarTrials
from serving.errors import InvalidRequestError

SLOW = Constraint("grammar", 'root ::= ("a" [a-z0-9]{0,4000} "b" | [a-z]{3,5000} [0-9]{7,900}){1,9}\n')


async def test_what_compiles_is_let_through_and_the_rest_refused() -> None:
    trials = GrammarTrials(multiprocessing.get_context("spawn"), longest_s=60)
    try:
        for constraint in (
            Constraint(
                "json_schema", '{"type": "object", "properties": {"a": {"type": "string", "maxLength": 10000}}}'
            ),
            Constraint("json_object"),
            Constraint("regex", "[a-z]+"),
            Constraint("choice", '["yes", "no"]'),
            Constraint("grammar", 'root ::= "a"'),
            Constraint("grammar", 'start: "a"'),
        ):
            await trials.check(constraint)
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                await trials.check(Constraint("grammar", "root ::= missing"))
    finally:
        await trials.close()


async def test_what_takes_too_long_is_given_up_and_the_next_goes_on() -> None:
    trials = GrammarTrials(multiprocessing.get_context("spawn"), longest_s=0.001)
    try:
        with pytest.raises(InvalidRequestError, match="longer than"):
            await trials.check(SLOW)
        with pytest.raises(InvalidRequestError, match="longer than"):
            await trials.check(SLOW)
    finally:
        await trials.close()
