from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from serving.errors import StoreUnavailableError
from serving.generation.types import Usage
from serving.harmony.channels import TokenCounts
from serving.telemetry.record import RequestRecord
from serving.tenancy.usage.base import Counts, UsageRow
from serving.tenancy.usage.ledger import UsageLedger
from serving.tenancy.usage.memory import MemoryUsageStore

NOW = 1_760_000_000.0


def record(**fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": "req_1",
        "api": "chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "started_at": NOW,
        "duration_s": 1.0,
        "outcome": "ok",
        "status": 200,
        "model": "demo",
        "team": "research",
        "effort": "low",
        "usage": Usage(10, 20, TokenCounts(analysis=8, commentary=2, final=9), 4),
    }
    return RequestRecord(**{**values, **fields})


class Flaky(MemoryUsageStore):
    lost = False

    async def add(self, rows: Sequence[UsageRow]) -> None:
        if self.lost:
            raise StoreUnavailableError("lost")
        await super().add(rows)


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def ledger(store: Flaky) -> UsageLedger:
    return UsageLedger(store, clock=lambda: NOW, keep_days=30)


async def test_requests_are_counted_with_their_tokens(ledger: UsageLedger, store: Flaky) -> None:
    ledger.record(record())
    ledger.record(record(outcome="client_left", usage=None))
    ledger.record(record(team=None, effort=None))
    await ledger.flush()

    assert await store.read("2025-10-09", "2025-10-09") == [
        (
            ("2025-10-09", "default", "demo", "none"),
            Counts(1, 0, 10, 4, 20, TokenCounts(analysis=8, commentary=2, final=9)),
        ),
        (
            ("2025-10-09", "research", "demo", "low"),
            Counts(2, 1, 10, 4, 20, TokenCounts(analysis=8, commentary=2, final=9)),
        ),
    ]


async def test_what_asks_for_no_answer_is_not_counted(ledger: UsageLedger, store: Flaky) -> None:
    ledger.record(record(model=None))
    ledger.record(record(api="tokenize"))
    await ledger.flush()

    assert not await store.read("2025-10-09", "2025-10-09")


async def test_what_the_store_did_not_take_is_brought_again(
    ledger: UsageLedger, store: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    store.lost = True
    for _ in range(3):
        ledger.record(record())
        await ledger.flush()
    store.lost = False
    await ledger.close()

    ((_, counts),) = await store.read("2025-10-09", "2025-10-09")
    assert counts.requests == 3
    assert caplog.text.count("usage cannot be stored") == 1


async def test_days_that_are_too_old_are_forgotten(ledger: UsageLedger, store: Flaky) -> None:
    await store.add([(("2025-09-08", "research", "demo", "low"), Counts(1))])
    await store.add([(("2025-09-09", "research", "demo", "low"), Counts(1))])
    await ledger.flush()

    assert [key[0] for key, _ in await store.read("2025-01-01", "2025-12-31")] == ["2025-09-09"]


async def test_it_says_what_this_day_and_month_have_used(ledger: UsageLedger, store: Flaky) -> None:
    for day in ("2025-09-30", "2025-10-01", "2025-10-09"):
        await store.add([((day, "research", "demo", "low"), Counts(1, prompt_tokens=3, completion_tokens=4))])

    assert await ledger.used_lately() == {"research": (7, 14)}
