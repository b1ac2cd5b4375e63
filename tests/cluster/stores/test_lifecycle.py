"""What can be known of the store without a cluster; tests/e2e/test_model_life.py has it live."""

from __future__ import annotations

import pytest

from serving.cluster.stores.lifecycle import read_wanted, replicas_at_first
from serving.engine.lifecycle.store import Wanted


def test_what_is_written_is_read() -> None:
    written = b'{"loaded": false, "cause": "idle", "since": 12.5}'
    assert read_wanted(written) == Wanted(loaded=False, cause="idle", since=12.5)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"null", b"[]", b"{}", b'{"loaded": true, "cause": "whim", "since": 1}', b"\xff"],
)
def test_what_cannot_be_read_says_nothing(value: bytes | None) -> None:
    assert read_wanted(value) is None


def test_without_a_cluster_a_deployment_begins_with_its_fewest() -> None:
    assert [replicas_at_first("m", 0, 3), replicas_at_first("m", 2, 3)] == [0, 2]
