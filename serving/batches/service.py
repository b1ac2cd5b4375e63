"""Batches of one process: files, records and the worker, on the storage that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from serving.answering.background import BackgroundRequest
from serving.batches.asking import Answer, Ask, Places
from serving.batches.files import Files
from serving.batches.records import Batches, Endpoint
from serving.batches.run import RunParts
from serving.batches.storage import Storage
from serving.batches.worker import BatchWorker
from serving.settings.batches import OFF
from serving.settings.tree import Settings
from serving.store.base import Store
from serving.telemetry.metrics import Metrics
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.tenancy import Tenancy

_LINES_PER_SLOT = 2
"""Lines asked at a time for each slot: the next one waits where a slot comes free."""


class BatchService:
    """Files and batches of all teams, and this process's work on them.

    `start` begins the work, which waits for `serve`; `close` ends it. Raises SettingsError where the storage's address
    is wrong.
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        tenancy: Tenancy,
        claims: Store,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        storage = Storage(address, settings.batches.storage_options)
        self.settings = settings.batches
        self.files = Files(storage, settings.batches, clock, new_id)
        self.batches = Batches(storage, clock, self.files.longest_keep_s)
        self._tenancy = tenancy
        self._metrics = metrics
        self._ask: Ask | None = None
        parts = RunParts(
            storage=storage,
            files=self.files,
            batches=self.batches,
            settings=settings.batches,
            longest_line=settings.http.max_body_bytes,
            ask=self._asked,
            places=Places(self._most_lines),
            identity_of=tenancy.authenticator.identity_of,
            leaves_room=self._leaves_room,
            clock=clock,
            new_id=new_id,
            metrics=metrics,
        )
        self.worker = BatchWorker(parts, claims)

    def serve(self, ask: Ask) -> None:
        """Take the application, which lines are asked of. Called once it is made; before the first request."""
        self._ask = ask

    def start(self) -> None:
        """Begin to work."""
        self.worker.start()

    async def close(self) -> None:
        """End the work. May be called more than once."""
        await self.worker.close()

    def observe(self) -> None:
        """Set the gauges of lines."""
        self._metrics.batch_lines(self.worker.lines())

    async def _asked(self, endpoint: Endpoint, body: bytes, request_id: str, request: BackgroundRequest) -> Answer:
        if self._ask is None:
            return Answer(503, {}, b"{}")  # asked again in a moment
        return await self._ask(endpoint, body, request_id, request)

    def _most_lines(self) -> int:
        slots = sum(self._tenancy.admission(model).background.slots for model in self._tenancy.models)
        return _LINES_PER_SLOT * max(1, slots)

    def _leaves_room(self, identity: Identity) -> bool:
        """Whether more than half of the team's requests and tokens of this minute are left, as far as known here."""
        windows = self._tenancy.limiter.windows(identity)
        return all(window is None or 2 * window.left > window.limit for window in windows)


def open_batches(
    settings: Settings,
    tenancy: Tenancy,
    claims: Store,
    metrics: Metrics,
    *,
    clock: Callable[[], float],
    new_id: Callable[[], str],
) -> BatchService | None:
    """Batches as the settings want them; None where they are off. Raises SettingsError."""
    address = settings.batches.storage
    if address is None or address == OFF:
        return None
    return BatchService(address, settings, tenancy, claims, metrics, clock=clock, new_id=new_id)
