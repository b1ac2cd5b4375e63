"""How many engines a model's work needs."""

from __future__ import annotations

import pytest

from serving.cluster.autoscaling import Queued, Work, engine_stats, engines_for, work_of
from serving.engine.load import EngineLoad, KvCache


def load(used: int, *, running: int = 0, waiting_tokens: int = 0) -> EngineLoad:
    return EngineLoad("e", running, 0, waiting_tokens, 8192, KvCache(blocks=100, used=used, block_tokens=16))


def stats(*loads: EngineLoad) -> dict[str, dict[object, float]]:
    """As Serve gives them to the policy: by name, then by replica."""
    found: dict[str, dict[object, float]] = {}
    for number, each in enumerate(loads):
        for name, value in engine_stats(each, 10).items():
            found.setdefault(name, {})[number] = value
    return found


def test_work_is_what_engines_hold_and_what_waits_for_them() -> None:
    held = work_of(stats(load(50), load(30, waiting_tokens=320)), Queued(tokens=800, sequences=2, longest_wait_s=1.5))

    # 0.5 + 0.3 of two caches of 1,600 tokens, 0.2 of one for prompts in an engine, and half of one for the queue
    assert held is not None
    assert held.kv_cache == pytest.approx(1.5)
    assert held.batch == pytest.approx(0.2)
    assert held.longest_wait_s == 1.5


def test_engines_that_do_not_tell_their_load_have_no_known_work() -> None:
    silent = EngineLoad("e", 3, 0, 0)

    assert engine_stats(silent, 10) == {} == engine_stats(load(50), None) == engine_stats(None, 10)
    assert work_of({}, Queued(tokens=1e9, sequences=5)) is None


@pytest.mark.parametrize(
    ("work", "running", "engines"),
    [
        (Work(0.0, 0.0, 0.0), 2, 0),  # the policy holds it to the fewest
        (Work(1.7, 0.0, 0.0), 2, 3),  # KV caches are above 0.8
        (Work(0.2, 1.7, 0.0), 2, 3),  # batches are
        (Work(1.2, 0.0, 0.0), 2, 2),  # in between: neither more nor fewer
        (Work(1.0, 0.0, 0.0), 3, 2),  # two would be filled to a half
        (Work(0.5, 0.0, 3.0), 2, 3),  # nothing is full, yet requests wait: 3 of 2.5 s
        (Work(0.5, 0.0, 600.0), 2, 4),  # twice as many at the most
        (Work(0.5, 0.0, 1.5), 2, 2),  # those that wait keep what runs
    ],
)
def test_engines_follow_the_fullest_of_cache_and_batch_and_the_wait(work: Work, running: int, engines: int) -> None:
    assert engines_for(work, running, first_token_s=2.5) == engines


def test_the_number_does_not_swing_between_two() -> None:
    for tenths in range(1, 80):
        work = Work(tenths / 10, 0.0, 0.0)
        settled = engines_for(work, engines_for(work, 4, 2.5), 2.5)
        assert engines_for(work, settled, 2.5) == settled
