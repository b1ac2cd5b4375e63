"""Check of a constraint by the engine's grammar compiler, before the answer is begun.

A constraint holds the answer's body alone, so the engine would see it only after the analysis: too late for a status.
One token generated under it tells at once, and has the grammar compiled by the time it is needed.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from serving.engine.base import Constraint, Engine, EngineRequest, Sampling
from serving.errors import InvalidRequestError, InvalidValueError
from serving.generation.constraints import for_engine
from serving.harmony.tokenization import final_header

Check = Callable[[], Awaitable[None]]

_REMEMBERED = 4096
_CAN_BE_WRONG = ("json_schema", "regex", "grammar")
_SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+\.(?:cc|h|cpp):\d+: ")
_LONGEST_MESSAGE = 500


class ConstraintChecks:
    """Checks of constraints: asks each model's engine once about each, and remembers the latest that it accepted."""

    def __init__(self) -> None:
        self._taken: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def pending(
        self, model: str, engine: Engine, request_id: str, wanted: Sequence[tuple[str, Constraint]]
    ) -> Check | None:
        """What to await before generating; None where nothing has to be asked.

        `wanted` pairs a request's fields with what they ask for. The check raises InvalidValueError that names the
        field of the first constraint that the engine refuses; other errors of the engine pass through.
        """
        unknown = [
            (field, constraint)
            for field, constraint in wanted
            if constraint.kind in _CAN_BE_WRONG and _key(model, constraint) not in self._taken
        ]
        if not unknown:
            return None
        return functools.partial(self._check, model, engine, request_id, unknown)

    async def _check(
        self, model: str, engine: Engine, request_id: str, wanted: Sequence[tuple[str, Constraint]]
    ) -> None:
        for number, (field, constraint) in enumerate(wanted):
            try:
                await _try(engine, f"{request_id}-check-{number}", constraint)
            except InvalidRequestError as error:
                raise refusal(error, field) from error
            self._taken[_key(model, constraint)] = None
            while len(self._taken) > _REMEMBERED:
                self._taken.popitem(last=False)


def refusal(error: InvalidRequestError, field: str) -> InvalidValueError:
    """Convert an engine's refusal of a constraint to that of the request's field."""
    message = _SOURCE_LINE.sub("", error.message).strip()
    return InvalidValueError(f"Invalid '{field}': {message[:_LONGEST_MESSAGE]}", param=field)


def _key(model: str, constraint: Constraint) -> tuple[str, bytes]:
    return model, hashlib.sha256(f"{constraint.kind}\0{constraint.value}".encode()).digest()


async def _try(engine: Engine, request_id: str, constraint: Constraint) -> None:
    sampling = Sampling(max_tokens=1, temperature=0.0)
    request = EngineRequest(
        request_id, list(final_header()), sampling, stream=False, constraint=for_engine(constraint), priority=-1
    )
    async for _ in engine.generate(request):
        pass
