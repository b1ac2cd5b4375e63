from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from serving.engine.base import Constraint, EngineRequest, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.errors import EngineNotReadyError, InvalidRequestError, InvalidValueError
from serving.generation import constraint_check
from serving.generation.constraint_check import ConstraintChecks
from serving.generation.constraints import for_engine

REFUSAL = (
    "Failed to transform regex into a grammar: [07:57:10] /project/cpp/regex_converter.cc:83: Regex parsing error at "
    "position 2: The parenthesis is not closed."
)
RIGHT, WRONG = Constraint("regex", "a"), Constraint("regex", "(")


class Compiler(ScriptedEngine):
    """Refuses what has a parenthesis in it, as vLLM words that."""

    def __init__(self) -> None:
        super().__init__(Script((ScriptLine(completion="x"),)))
        self.seen: list[EngineRequest] = []

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        self.seen.append(request)
        if request.constraint is not None and request.constraint.value == "(":
            raise InvalidRequestError(REFUSAL)
        async for delta in super().generate(request):
            yield delta


@pytest.fixture
async def compiler() -> Compiler:
    engine = Compiler()
    await engine.start()
    return engine


async def test_an_engine_is_asked_once_for_one_token(compiler: Compiler) -> None:
    checks = ConstraintChecks()
    wanted = [("a", RIGHT), ("b", Constraint("json_schema", "{}"))]
    check = checks.pending("demo", compiler, "id", wanted)
    assert check is not None
    await check()
    assert [(r.request_id, r.constraint, r.sampling.max_tokens) for r in compiler.seen] == [
        ("id-check-0", RIGHT, 1),
        ("id-check-1", for_engine(wanted[1][1]), 1),
    ]
    assert checks.pending("demo", compiler, "id", wanted) is None
    assert checks.pending("other", compiler, "id", wanted) is not None


async def test_what_cannot_be_wrong_is_not_asked_about(compiler: Compiler) -> None:
    wanted = [("a", Constraint("json_object")), ("b", Constraint("choice", '["("]'))]
    assert ConstraintChecks().pending("demo", compiler, "id", wanted) is None


async def test_a_refusal_names_the_field_and_says_why_without_the_compilers_source(compiler: Compiler) -> None:
    checks = ConstraintChecks()
    for _ in range(2):  # a refusal is not remembered as taken
        check = checks.pending("demo", compiler, "id", [("guided_json", RIGHT), ("guided_regex", WRONG)])
        assert check is not None
        with pytest.raises(InvalidValueError) as caught:
            await check()
        assert caught.value.param == "guided_regex"
        assert caught.value.message == (
            "Invalid 'guided_regex': Failed to transform regex into a grammar: Regex parsing error at position 2: "
            "The parenthesis is not closed."
        )


async def test_other_errors_pass_through(compiler: Compiler) -> None:
    check = ConstraintChecks().pending("demo", compiler, "id", [("a", RIGHT)])
    await compiler.close()
    assert check is not None
    with pytest.raises(EngineNotReadyError):
        await check()


async def test_the_memory_is_bounded(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraint_check, "_REMEMBERED", 2)
    checks = ConstraintChecks()
    many = [("a", Constraint("regex", letter)) for letter in "abc"]
    check = checks.pending("demo", compiler, "id", many)
    assert check is not None
    await check()
    assert checks.pending("demo", compiler, "id", many[1:]) is None
    assert checks.pending("demo", compiler, "id", many[:1]) is not None
