"""Trial compilation of constraints in a process of its own, which is given up where one takes too long.

vLLM compiles a grammar in a thread of the engine's process: one that takes minutes cannot be stopped there, and its
threads take the cores that the engine needs. Each new constraint is compiled here first, over the same vocabulary.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from serving.engine.base import Constraint
from serving.errors import InvalidRequestError
from serving.schemas.check import schema_grammar

logger = logging.getLogger(__name__)

LONGEST_S = 10.0
"""Time that a constraint may take to compile; those that people write take milliseconds."""
_START_S = 120.0
_REMEMBERED = 4096


def grammar_of(constraint: Constraint) -> Constraint:
    """A constraint by a schema as one by a grammar; xgrammar's own reading of schemas passes over much."""
    match constraint.kind:
        case "json_schema":
            return Constraint("grammar", schema_grammar(constraint.value))
        case "json_object":
            return Constraint("grammar", schema_grammar(json.dumps({"type": "object"})))
        case _:
            return constraint


class GrammarTrials:
    """Trials of one engine's constraints, one after another. The process starts with the first trial or start()."""

    def __init__(self, context: BaseContext, longest_s: float = LONGEST_S) -> None:
        self._context: Any = context  # contexts of start methods have Process, their base class does not say so
        self._longest_s = longest_s
        self._lock = asyncio.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._known: OrderedDict[bytes, str | None] = OrderedDict()

    async def start(self) -> None:
        """Start the process, and wait until it can compile."""
        async with self._lock:
            await self._started()

    async def check(self, constraint: Constraint) -> None:
        """Compile a constraint that is new. Raises InvalidRequestError where that fails or takes too long."""
        if constraint.kind == "choice":
            return  # at most 1000 texts
        constraint = grammar_of(constraint)
        key = hashlib.sha256(f"{constraint.kind}\0{constraint.value}".encode()).digest()
        if key not in self._known:
            async with self._lock:
                if key not in self._known:
                    self._known[key] = await self._trial(constraint)
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        problem = self._known[key]
        if problem is not None:
            raise InvalidRequestError(problem)

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._end()

    async def _trial(self, constraint: Constraint) -> str | None:
        connection = await self._started()
        try:
            connection.send((constraint.kind, constraint.value))
            if await asyncio.to_thread(connection.poll, self._longest_s):
                problem: str | None = connection.recv()
                return problem
            problem = f"It takes longer than {self._longest_s:g} s to compile."
        except (EOFError, OSError):
            problem = "It ends the process that compiles it."
        logger.warning("a constraint was given up: %s", problem)
        await self._end()
        return problem

    async def _started(self) -> Connection:
        if self._connection is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_compile_all, args=(theirs,), name="grammar-trials", daemon=True)
            await asyncio.to_thread(process.start)
            theirs.close()
            self._process, self._connection = process, ours
            if not await asyncio.to_thread(ours.poll, _START_S):
                await self._end()
                raise InvalidRequestError("The process that compiles grammars does not start.")
            ours.recv()
        assert self._connection is not None
        return self._connection

    async def _end(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.join)


def _compile_all(connection: Connection) -> None:
    """Compile constraints as they come, until the other side is gone; the answer is what is wrong, or None."""
    import xgrammar

    from serving.harmony.tokenization import STOP_TOKEN_IDS, VOCABULARY_SIZE, token_table

    known = [bytes(token or b"") for token in token_table()]
    tokens = [*known, *(f"<|reserved_{number}|>".encode() for number in range(len(known), VOCABULARY_SIZE))]
    information = xgrammar.TokenizerInfo(
        tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=VOCABULARY_SIZE, stop_token_ids=list(STOP_TOKEN_IDS)
    )
    compiler = xgrammar.GrammarCompiler(information, max_threads=8, cache_enabled=False)
    try:
        connection.send(None)
        while True:
            connection.send(_problem(compiler, *connection.recv()))
    except (EOFError, OSError):
        return  # the engine's process has ended


def _problem(compiler: Any, kind: str, value: str) -> str | None:
    try:
        if kind == "regex":
            compiler.compile_regex(value)
        elif "::=" in value:
            compiler.compile_grammar(value)
        else:
            compiler.compile_lark(value)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return None
