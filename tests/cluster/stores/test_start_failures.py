"""What replicas tell of starts that failed, without a cluster; tests/e2e/test_failed_start.py has it live."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from serving.cluster.run import server as run
from serving.cluster.run.console import Console
from serving.cluster.run.server import EngineStartError, tell_failure
from serving.cluster.stores import start_failures as start_failure
from serving.engine.start_failure import FailedStarts, StartFailure

FAILURE = StartFailure("driver", "RuntimeError: No CUDA GPUs are available", "look at nvidia-smi", "/log")


class Client:
    """The part of Ray's client of its GCS that is used."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def internal_kv_multi_get(self, keys: list[bytes], namespace: bytes, timeout: float) -> dict[bytes, bytes]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def internal_kv_put(self, key: bytes, value: bytes, overwrite: bool, namespace: bytes, timeout: float) -> None:
        self.kept[key] = value

    def internal_kv_del(self, key: bytes, by_prefix: bool, namespace: bytes, timeout: float) -> None:
        self.kept.pop(key, None)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(start_failure, "_client", lambda: client)
    return client


@pytest.mark.usefixtures("kept")
async def test_equal_failures_are_counted_until_another_or_a_start_that_went_well() -> None:
    other = StartFailure("checkpoint", "OSError: no file", "fetch it")
    assert [start_failure.record("demo", each).in_a_row for each in (FAILURE, FAILURE, other, FAILURE)] == [1, 2, 1, 1]
    start_failure.clear("demo")
    assert start_failure.recorded("demo") is None
    known = (await start_failure.ClusterStartFailures().read(["demo", "more"]))["demo"]
    assert known == FailedStarts(None, {"driver": 3, "checkpoint": 1})
    start_failure.forget("demo")
    assert await start_failure.ClusterStartFailures().read(["demo"]) == {"demo": FailedStarts()}


@pytest.mark.parametrize("last", [b"", b"{", b"null", b'{"reason": "driver"}', b'{"unheard": 1}', b"\xff"])
def test_what_cannot_be_read_says_nothing(last: bytes) -> None:
    assert start_failure.decoded(last, None) == FailedStarts()


def test_what_is_written_is_read() -> None:
    assert start_failure.decoded(json.dumps(asdict(FAILURE)).encode(), b'{"driver": 2, "unheard": 3}') == FailedStarts(
        FAILURE, {"driver": 2}
    )


async def test_a_store_that_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def internal_kv_multi_get(self, *arguments: Any) -> None:
            raise TimeoutError

    monkeypatch.setattr(start_failure, "_client", Away)
    assert await start_failure.ClusterStartFailures().read(["demo"]) == {}


@pytest.mark.usefixtures("kept")
def test_the_first_failure_is_said_once_and_the_second_like_it_ends_the_wait(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: dict[str, StartFailure] = {}
    with Console() as console:
        tell_failure("demo", told, console)
        assert capsys.readouterr().out == ""
        start_failure.record("demo", FAILURE)
        tell_failure("demo", told, console)
        tell_failure("demo", told, console)
        assert capsys.readouterr().out.count("RuntimeError: No CUDA GPUs are available") == 1
        start_failure.record("demo", FAILURE)
        with pytest.raises(EngineStartError) as raised:
            tell_failure("demo", told, console)
    assert str(raised.value).splitlines() == [
        "the engine of demo did not start, 2 times alike.",
        "RuntimeError: No CUDA GPUs are available",
        "reason: driver",
        "fix: look at nvidia-smi",
        "log: /log",
    ]
    assert run._EQUAL_FAILURES == 2
