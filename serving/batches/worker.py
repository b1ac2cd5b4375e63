"""Worker of one process: takes up unfinished batches, each of which one process of all works on at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter

from serving.background import Background
from serving.batches.records import BatchRecord
from serving.batches.run import BatchRun, RunParts
from serving.errors import ItemNotFoundError, StorageFailedError, StoreUnavailableError
from serving.store.base import Store

logger = logging.getLogger(__name__)

CLAIM_S = 15.0
"""Time after which the batches of a process that was lost are taken up by others."""
RENEW_EVERY_S = 4.0
_MOST_RUNS = 16
_CLEAN_EVERY_S = 3600.0


class BatchWorker:
    """Worker of one process. `claims` is the store by which processes agree on who works on a batch.

    `start` begins the work, which needs an event loop; `close` ends it, and gives the batches to other processes.
    """

    def __init__(self, parts: RunParts, claims: Store) -> None:
        self._parts = parts
        self._claims = claims
        self._holder = parts.new_id()
        self._runs: dict[str, BatchRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._background = Background()

    def start(self) -> None:
        """Begin to take up batches."""
        self._background.run(self._take_up_for_ever(), "take up batches")
        self._background.run(self._clean_for_ever(), "delete old files and batches")

    async def close(self) -> None:
        """End all work; results and tokens so far are kept. May be called more than once."""
        await self._background.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self, batch_id: str | None = None) -> None:
        """Look for work at once, and whether the batch is cancelled where it is worked on here."""
        self._woken.set()
        if batch_id in self._runs:
            self._runs[batch_id].look()

    def lines(self) -> dict[str, tuple[int, int]]:
        """Numbers of lines that wait and that are being asked in this process, by team."""
        waiting, asking = Counter[str](), Counter[str]()
        for run in self._runs.values():
            waiting[run.team] += run.waiting
            asking[run.team] += run.asking
        return {team: (waiting[team], asking[team]) for team in waiting}

    async def _take_up_for_ever(self) -> None:
        while True:
            try:
                await self._take_up()
            except (StorageFailedError, StoreUnavailableError) as error:
                logger.warning("cannot look for batches now: %s %r", error, error.__cause__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parts.settings.poll_s):
                    await self._woken.wait()
            self._woken.clear()

    async def _take_up(self) -> None:
        """Take up batches that no process works on, those of teams with the fewest of them first."""
        found = [pair for pair in await self._parts.batches.unfinished() if pair[1] not in self._tasks]
        while found and len(self._tasks) < _MOST_RUNS:
            busy = Counter(run.team for run in self._runs.values())
            team, batch_id = min(found, key=lambda pair: busy[pair[0]])
            found.remove((team, batch_id))
            if await self._claims.claim(_claim_of(batch_id), self._holder, CLAIM_S):
                await self._begin(team, batch_id)

    async def _begin(self, team: str, batch_id: str) -> None:
        try:
            record = await self._parts.batches.get(team, batch_id)
        except ItemNotFoundError:
            logger.warning("the batch %s of team %s is unfinished and not there", batch_id, team)
            return
        except StorageFailedError:
            await self._claims.release(_claim_of(batch_id), self._holder)
            raise
        if record.finished:
            await self._parts.batches.put(record)  # its process was lost before it removed the markers
            return
        self._runs[batch_id] = run = BatchRun(self._parts, record)
        task = asyncio.create_task(self._work(run, record), name=f"work on {batch_id}")
        self._tasks[batch_id] = task
        task.add_done_callback(lambda _: self._ended(batch_id))

    def _ended(self, batch_id: str) -> None:
        self._tasks.pop(batch_id, None)
        self._runs.pop(batch_id, None)
        self._woken.set()

    async def _work(self, run: BatchRun, record: BatchRecord) -> None:
        """Run a batch while its claim lasts."""
        working = asyncio.create_task(self._run(run, record))
        renewing = asyncio.create_task(self._renew(record.id))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                logger.warning("another process has taken up the batch %s, or the store is away", record.id)
        finally:
            for task in (renewing, working):
                task.cancel()
            await asyncio.gather(renewing, working, return_exceptions=True)
            with contextlib.suppress(StoreUnavailableError):
                await self._claims.release(_claim_of(record.id), self._holder)

    async def _run(self, run: BatchRun, record: BatchRecord) -> None:
        try:
            await run.run()
        except StorageFailedError as error:
            logger.warning("the batch %s waits for its storage: %r", record.id, error.__cause__)
            await asyncio.sleep(self._parts.settings.poll_s)
        except Exception:
            logger.exception("the batch %s failed", record.id)
            with contextlib.suppress(StorageFailedError):
                await run.fail("internal_error", "The server failed on this batch. Its log has the details.")

    async def _renew(self, batch_id: str) -> None:
        """Renew the claim; returns when it is lost."""
        until = time.monotonic() + CLAIM_S
        while time.monotonic() < until:
            await asyncio.sleep(RENEW_EVERY_S)
            asked_at = time.monotonic()
            try:
                if not await self._claims.claim(_claim_of(batch_id), self._holder, CLAIM_S):
                    return
            except StoreUnavailableError as error:
                logger.warning("the claim of %s is not renewed: %s", batch_id, error)
                continue
            until = asked_at + CLAIM_S

    async def _clean_for_ever(self) -> None:
        while True:
            try:
                if await self._claims.claim("clean batches", self._holder, _CLEAN_EVERY_S / 2):
                    files, batches = await self._parts.files.delete_expired(), await self._parts.batches.delete_old()
                    if files or batches:
                        logger.info("deleted %d files and %d batches that are old", files, batches)
            except (StorageFailedError, StoreUnavailableError) as error:
                logger.warning("old files and batches are not deleted now: %s %r", error, error.__cause__)
            await asyncio.sleep(_CLEAN_EVERY_S)


def _claim_of(batch_id: str) -> str:
    return f"batch {batch_id}"
