"""Work on one batch, from its input to its output: reading, asking, and what is kept of it on the way."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from serving.answering.background import BackgroundRequest, TokenCheckpoint
from serving.batches.asking import Answer, Ask, Place, Places, Retries
from serving.batches.files import Files
from serving.batches.lines import BatchLine, InputLine, LineInvalid, LineReader, lines_of
from serving.batches.progress import LineResult, Outcome, Progress, error_line, output_line
from serving.batches.records import Batches, BatchRecord, LineError, Spent
from serving.batches.storage import CHUNK_BYTES, Storage
from serving.errors import InvalidRequestError, StorageFailedError
from serving.settings.batches import BatchSettings
from serving.telemetry.metrics import Metrics
from serving.tenancy.auth.team_directory import Identity

logger = logging.getLogger(__name__)

Ending = Literal["completed", "expired", "cancelled"]

FLUSH_S = 1.0
"""Time between two writes of results; what a lost process has not written is asked again."""
_TOKENS_EVERY_S = 10.0
_MOST_UNWRITTEN = 1000
_MOST_ERRORS = 100
_SLOW_S = 2.0
_LOOK_EVERY_S = 0.1
_WHY: Mapping[Ending, tuple[str, str]] = {
    "expired": ("batch_expired", "The completion window of the batch ended before this line was answered."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this line was answered."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """Parts that all runs of a process share.

    `identity_of` gives the identity of a team now, by its name and the id of its key; None for a team that is gone.
    `leaves_room` says whether the team's limits of this minute have room for more than its other requests.
    """

    storage: Storage
    files: Files
    batches: Batches
    settings: BatchSettings
    longest_line: int
    ask: Ask
    places: Places
    identity_of: Callable[[str, str], Identity | None]
    leaves_room: Callable[[Identity], bool]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    metrics: Metrics


class BatchRun:
    """Run of one batch by the holder of its claim.

    Cancelling run() keeps the results so far, and the tokens of answers under way; the next run goes on from there.
    """

    def __init__(self, parts: RunParts, record: BatchRecord) -> None:
        self._parts = parts
        self._record = record
        self._progress = Progress(parts.storage, f"progress/{record.team}/{record.id}", parts.new_id())
        self._tally = _Tally()
        self._results: list[LineResult] = []
        self._asking: dict[int, TokenCheckpoint] = {}
        self._paused_until = 0.0
        self._woken = asyncio.Event()
        self._monotonic = asyncio.get_running_loop().time

    @property
    def waiting(self) -> int:
        """Number of lines that are not answered and not being asked."""
        return max(0, self._record.total - len(self._tally.done) - len(self._results) - len(self._asking))

    @property
    def asking(self) -> int:
        """Number of lines that are being asked."""
        return len(self._asking)

    @property
    def team(self) -> str:
        """The batch's team."""
        return self._record.team

    def look(self) -> None:
        """Look at once whether the batch was cancelled."""
        self._woken.set()

    async def run(self) -> None:
        """Work on the batch until it is finished. Raises StorageFailedError."""
        done, begun = await self._progress.load()
        self._tally.add(done.values())
        if self._record.in_progress_at is None:
            await self._validate()
            if self._record.finished:
                return
        await self._finalize(await self._ending() or await self._answer_lines(begun))

    async def fail(self, code: str, message: str) -> None:
        """End the batch, as something is wrong with all of it."""
        errors = (LineError(code=code, message=message), *self._record.errors)
        await self._change(status="failed", failed_at=self._now(), errors=errors)
        self._parts.metrics.batch_finished(self.team, "failed")
        await self._progress.delete()

    async def _validate(self) -> None:
        """Read all lines once. Those that are wrong have their result with that."""
        reader, total, errors, models = self._reader(), 0, list[LineError](), set[str | None]()
        most = self._parts.settings.max_lines
        async with aclosing(self._input()) as lines:
            async for line in lines:
                total += 1
                if total > most:
                    await self.fail("too_many_lines", f"The file has more than {most} lines, the most of a batch.")
                    return
                try:
                    models.add(reader.read(line).model)
                except LineInvalid as wrong:
                    error = wrong.error
                    if len(errors) < _MOST_ERRORS:
                        errors.append(_line_error(error, line.number))
                    await self._add(self._refused(line.number, wrong.custom_id, error.code, error.message))
        self._record = msgspec.structs.replace(self._record, total=total, errors=tuple(errors))
        await self._written()
        if not total:
            await self.fail("empty_file", "The input file has no lines, or is not there any more.")
        elif not models:
            await self.fail("no_valid_lines", "No line of the input file can be asked; `errors` has the first ones.")
        else:
            model = models.pop() if len(models) == 1 else None
            await self._change(status="in_progress", in_progress_at=self._now(), model=model)

    async def _answer_lines(self, begun: Mapping[int, Mapping[str, list[int]]]) -> Ending:
        """Ask all lines that have no result, until none is left or the batch has to end."""
        feeding = asyncio.create_task(self._feed(begun), name=f"ask the lines of {self._record.id}")
        written_at = self._monotonic()
        try:
            while True:
                if (ending := await self._ending()) is not None:
                    return ending
                await self._wait(feeding)
                if feeding.done():
                    feeding.result()
                now = self._monotonic()
                with_tokens = now - written_at >= _TOKENS_EVERY_S
                written_at = now if with_tokens else written_at
                if not await self._flush(with_tokens=with_tokens):
                    await asyncio.sleep(FLUSH_S)
                elif feeding.done() and not self._results:
                    return "completed"
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})
            await asyncio.shield(self._flush(with_tokens=True))

    async def _wait(self, feeding: asyncio.Task[None]) -> None:
        """Return when all lines are asked, at a call of look(), or when it is time to write results."""
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({feeding, woken}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            self._woken.clear()

    async def _ending(self) -> Ending | None:
        """Reason to end the batch now; None where there is none."""
        if self._record.total and len(self._tally.done) >= self._record.total:
            return "completed"
        try:
            if await self._parts.batches.cancelled_at(self._record) is not None:
                return "cancelled"
        except StorageFailedError:
            logger.warning("cannot see whether %s is cancelled; it goes on", self._record.id)
        return "expired" if self._parts.clock() >= self._record.expires_at else None

    async def _feed(self, begun: Mapping[int, Mapping[str, list[int]]]) -> None:
        """Ask the lines, each in a task of its own, as there are places for them."""
        tasks: set[asyncio.Task[None]] = set()
        failures: list[BaseException] = []

        def ended(task: asyncio.Task[None], place: Place) -> None:
            place.give_back()  # a task that was cancelled before it ran has not
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                failures.append(error)

        try:
            async with aclosing(self._unanswered()) as lines:
                async for line in lines:
                    place = await self._turn()
                    if failures:
                        place.give_back()
                        break
                    self._asking[line.number] = checkpoint = TokenCheckpoint(begun.get(line.number))
                    task = asyncio.create_task(self._answer(line, checkpoint, place))
                    tasks.add(task)
                    task.add_done_callback(functools.partial(ended, place=place))
            while tasks:
                await asyncio.wait(tasks)
                await asyncio.sleep(0)  # the callbacks have run
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failures:
            raise failures[0]

    async def _turn(self) -> Place:
        """Wait until a line may be asked."""
        while True:
            wait_s = self._wait_s()
            if wait_s <= 0:
                break
            await asyncio.sleep(min(wait_s, FLUSH_S))
        identity = self._identity()
        if identity is not None and not self._parts.leaves_room(identity):
            await asyncio.sleep(_SLOW_S)
        return await self._parts.places.take()

    def _wait_s(self) -> float:
        """Seconds until a line may be asked, as far as the last refusal and the storage tell."""
        unwritten = _LOOK_EVERY_S if len(self._results) >= _MOST_UNWRITTEN else 0.0
        return max(self._paused_until - self._monotonic(), unwritten)

    async def _answer(self, line: BatchLine, checkpoint: TokenCheckpoint, place: Place) -> None:
        """Ask a line until it has its result."""
        retries = Retries()
        line_id = f"batch_req_{self._parts.new_id()}"
        while True:
            try:
                identity = self._identity()
                if identity is None:
                    gone = f"This server does not know the team '{self._record.team}' any more."
                    result = self._refused(line.number, line.custom_id, "team_not_found", gone)
                    break
                checkpoint.begin()
                request = BackgroundRequest(identity, checkpoint)
                answer = await self._parts.ask(self._record.endpoint, line.body, line_id, request)
            finally:
                place.give_back()
            wait_s = retries.wait_s(answer)
            if wait_s is None:
                result = _result(line, line_id, answer)
                break
            self._paused_until = max(self._paused_until, self._monotonic() + wait_s)
            await asyncio.sleep(wait_s)
            place = await self._turn()
        del self._asking[line.number]
        self._results.append(result)

    async def _finalize(self, ending: Ending) -> None:
        """Give lines without a result their error, write the files, and end the batch."""
        await self._written()
        if self._record.total and len(self._tally.done) >= self._record.total:
            ending = "completed"
        await self._change(status="finalizing", finalizing_at=self._now())
        if ending != "completed":
            code, message = _WHY[ending]
            async with aclosing(self._unanswered()) as lines:
                async for line in lines:
                    await self._add(self._refused(line.number, line.custom_id, code, message, ending))
            await self._written()
        output = await self._file("output") if self._tally.completed else None
        errors = await self._file("error") if self._tally.completed < len(self._tally.done) else None
        await self._change(status=ending, output_file_id=output, error_file_id=errors, **{f"{ending}_at": self._now()})
        self._parts.metrics.batch_finished(self.team, ending)
        await self._progress.delete()

    async def _file(self, kind: Literal["output", "error"]) -> str:
        """Write the output file or the error file; returns its id."""
        record = self._record
        async with aclosing(self._progress.outputs(completed=kind == "output")) as lines:
            file = await self._parts.files.add(
                record.team,
                _joined(lines),
                filename=f"{record.id}_{kind}.jsonl",
                purpose="batch_output",
                keep_s=record.output_keep_s,
            )
        return file.id

    def _refused(
        self, number: int, custom_id: str | None, code: str | None, message: str, outcome: Outcome = "failed"
    ) -> LineResult:
        """Result of a line that was not asked."""
        line_id = f"batch_req_{self._parts.new_id()}"
        return LineResult(number=number, output=error_line(line_id, custom_id, code, message, number), outcome=outcome)

    async def _add(self, result: LineResult) -> None:
        """Add a result that took no asking."""
        if result.number not in self._tally.done:
            self._results.append(result)
        if len(self._results) >= _MOST_UNWRITTEN:
            await self._written()

    async def _written(self) -> None:
        """Write all results; raises StorageFailedError."""
        if not await self._flush():
            raise StorageFailedError("The results of a batch cannot be written.", retry_after_s=5)

    async def _flush(self, *, with_tokens: bool = False) -> bool:
        """Write what is not written yet, and the counts; False where the storage does not take it now."""
        results = self._results[:]
        tokens = [
            LineResult(number=number, tokens=checkpoint.tokens)
            for number, checkpoint in self._asking.items()
            if with_tokens and checkpoint.total
        ]
        if not results and not tokens:
            return True
        try:
            await self._progress.write([*results, *tokens])
        except StorageFailedError as error:
            logger.warning("results of %s cannot be written now: %r", self._record.id, error.__cause__)
            return False
        del self._results[: len(results)]
        for result in self._tally.add(results):
            self._parts.metrics.batch_line(self._record.team, result.outcome)
        try:
            await self._change()
        except StorageFailedError as error:
            logger.warning("the counts of %s cannot be written now: %r", self._record.id, error.__cause__)
        return True

    async def _change(self, **changes: Any) -> None:
        """Keep the record, with its counts as they are now."""
        tally = self._tally
        failed = len(tally.done) - tally.completed
        self._record = msgspec.structs.replace(
            self._record, completed=tally.completed, failed=failed, spent=tally.spent, **changes
        )
        await self._parts.batches.put(self._record)

    def _identity(self) -> Identity | None:
        return self._parts.identity_of(self._record.team, self._record.key_id)

    def _reader(self) -> LineReader:
        return LineReader(self._record.endpoint, self._parts.longest_line)

    def _input(self) -> AsyncGenerator[InputLine]:
        content = self._parts.files.content(self._record.team, self._record.input_file_id)
        return lines_of(content, self._parts.longest_line)

    async def _unanswered(self) -> AsyncGenerator[BatchLine]:
        """Lines that can be asked and had no result when this began."""
        reader = self._reader()
        done = {*self._tally.done, *(result.number for result in self._results)}
        async with aclosing(self._input()) as lines:
            async for line in lines:
                try:
                    valid = reader.read(line)
                except LineInvalid:
                    continue
                if line.number not in done:
                    yield valid

    def _now(self) -> int:
        return int(self._parts.clock())


class _Tally:
    """Tally of a batch's lines that are done."""

    def __init__(self) -> None:
        self.done: set[int] = set()
        self.completed = 0
        self.spent = Spent()

    def add(self, results: Iterable[LineResult]) -> list[LineResult]:
        """Count results; returns those of lines that had none."""
        new = [result for result in results if result.number not in self.done]
        for result in new:
            self.done.add(result.number)
            self.completed += result.outcome == "completed"
            self.spent = self.spent.plus(result.spent)
        return new


def _result(line: BatchLine, line_id: str, answer: Answer) -> LineResult:
    """Result of a line that was answered."""
    request_id = answer.headers.get("x-request-id", line_id)
    return LineResult(
        number=line.number,
        output=output_line(line_id, line.custom_id, answer.status, request_id, msgspec.Raw(answer.body)),
        outcome="completed" if answer.status < 400 else "failed",
        spent=answer.spent,
    )


def _line_error(error: InvalidRequestError, number: int) -> LineError:
    code = error.code or "invalid_request"
    return LineError(code=code, message=error.message, param=error.param, line=number)


async def _joined(lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes]:
    """Join lines to chunks, each of which is one call of the storage."""
    chunk = bytearray()
    async for line in lines:
        chunk += line
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
