"""What ingress replicas tell Serve's controller of their queues, as bytes."""

from __future__ import annotations

import json

import pytest

from serving.cluster.autoscaling import Queued
from serving.cluster.stores.queued import read_queued

WRITTEN = {"at": 100.0, "tokens": 5000.0, "sequences": 3, "longest_wait_s": 0.5}


def test_what_is_written_is_read_and_adds_up() -> None:
    read = read_queued(json.dumps(WRITTEN).encode(), now=101.0)

    assert read == Queued(5000.0, 3, 0.5)
    assert read + Queued(1000.0, 1, 2.0) == Queued(6000.0, 4, 2.0)


@pytest.mark.parametrize("now", [99.0, 111.0])
def test_what_is_old_or_not_yet_says_nothing(now: float) -> None:
    assert read_queued(json.dumps(WRITTEN).encode(), now) == Queued()


@pytest.mark.parametrize("value", [b"", b"{", b"null", b"[]", b"{}", b'{"at": "soon"}', b"\xff"])
def test_what_cannot_be_read_says_nothing(value: bytes) -> None:
    assert read_queued(value, now=100.0) == Queued()
