from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from serving.generation.types import Usage
from serving.harmony.channels import TokenCounts
from serving.settings.accounting import AuditSettings
from serving.telemetry.record import RequestRecord
from serving.tenancy.audit import AuditLog


def record(number: int = 1, **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": f"req_{number}",
        "api": "chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "started_at": 1_760_000_000.0,
        "duration_s": 1.25,
        "outcome": "ok",
        "status": 200,
        "team": "research",
        "key_id": "0123456789",
        "address": "10.0.0.1",
        "usage": Usage(10, 20, TokenCounts(analysis=8), 4),
    }
    return RequestRecord(**{**values, **fields})


def audit_log(folder: Path, **settings: int) -> AuditLog:
    return AuditLog(AuditSettings(file=str(folder / "logs" / "audit"), **settings), "host-1", clock=lambda: 0.0)


async def test_a_line_says_who_what_how_much_and_how_it_ended(tmp_path: Path) -> None:
    log = audit_log(tmp_path)
    log.record(record(path="/v1/" + "ü\n" * 500))
    await log.close()

    (line,) = log.path.read_text().splitlines()
    said = json.loads(line)
    assert said["time"] == "2025-10-09T08:53:20.000+00:00"
    assert (said["team"], said["key"], said["address"]) == ("research", "0123456789", "10.0.0.1")
    assert (said["prompt_tokens"], said["completion_tokens"], said["duration_ms"]) == (10, 20, 1250)
    assert len(line) < 2000


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    log = audit_log(tmp_path)
    log.record(record())
    await log.flush()

    assert os.stat(log.path).st_mode & 0o777 == 0o600


async def test_full_files_are_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    log = audit_log(tmp_path, max_bytes=4096, keep=2)
    for number in range(60):
        log.record(record(number))
        await log.flush()

    files = sorted(path.name for path in log.path.parent.iterdir())
    assert files == ["audit.host-1.jsonl", "audit.host-1.jsonl.1", "audit.host-1.jsonl.2"]
    assert all(path.stat().st_size <= 4096 for path in log.path.parent.iterdir())
    newest_first = [log.path, *(log.path.with_name(name) for name in files[1:])]
    numbers = [int(json.loads(line)["request_id"][4:]) for path in reversed(newest_first) for line in _lines(path)]
    assert numbers == list(range(numbers[0], 60))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def test_more_at_once_than_a_file_holds_puts_no_empty_file_aside(tmp_path: Path) -> None:
    log = audit_log(tmp_path, max_bytes=4096, keep=2)
    for number in range(30):
        log.record(record(number))
    await log.flush()

    assert [path.name for path in log.path.parent.iterdir()] == ["audit.host-1.jsonl"]
    assert len(_lines(log.path)) == 30


async def test_a_file_that_was_moved_away_is_begun_again(tmp_path: Path) -> None:
    log = audit_log(tmp_path)
    log.record(record(1))
    await log.flush()
    log.path.rename(tmp_path / "moved")
    log.record(record(2))
    await log.flush()

    assert len(_lines(log.path)) == 1


async def test_what_the_disk_does_not_take_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("in the way")
    log = audit_log(tmp_path)
    log.record(record(1))
    await log.flush()
    await log.flush()
    assert caplog.text.count("cannot be written") == 1

    (tmp_path / "logs").unlink()
    log.record(record(2))
    await log.flush()

    assert len(_lines(log.path)) == 2
