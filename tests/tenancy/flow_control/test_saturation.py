"""Requests that wait while engines report that they are full, by a clock that stands still until it is moved."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.load import EngineLoad, KvCache
from serving.tenancy.flow_control.fair_queue import FairQueue, QueueEntry
from serving.tenancy.flow_control.saturation import REPORT_EVERY_S, Saturation
from serving.tenancy.throughput import Mean

BLOCK = 16


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def load(
    used: int = 50, *, engine: str = "a", blocks: int = 100, waiting: int = 0, waiting_tokens: int = 0, step: int = 1000
) -> EngineLoad:
    """Of a busy engine with a cache of `blocks`, of which a tenth is kept free."""
    return EngineLoad(engine, 1, waiting, waiting_tokens, step, KvCache(blocks, used, BLOCK))


def idle(engine: str = "a", blocks: int = 100) -> EngineLoad:
    return EngineLoad(engine, 0, 0, 0, 1000, KvCache(blocks, 0, BLOCK))


def request(blocks: int, answer_blocks: int = 0) -> QueueEntry:
    return QueueEntry("team", prompt_tokens=blocks * BLOCK, answer_tokens=answer_blocks * BLOCK)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def saturation(clock: Clock) -> Saturation:
    return Saturation(clock, Mean(0.0))


def test_engines_that_do_not_report_are_never_full(saturation: Saturation) -> None:
    assert saturation.admits(request(10**6), in_use=5)
    assert saturation.ratio == 0


@pytest.mark.parametrize(
    ("blocks", "answer", "admitted"), [(40, 0, True), (41, 0, False), (30, 10, True), (30, 11, False)]
)
def test_prompt_and_usual_answer_have_to_fit_the_kv_cache(
    saturation: Saturation, blocks: int, answer: int, admitted: bool
) -> None:
    # Given 40 blocks that may be used
    saturation.report(load(50))
    assert saturation.admits(request(blocks, answer), in_use=1) == admitted


def test_sliding_window_layers_count_until_the_prompt_is_computed() -> None:
    cache = KvCache(1000, 0, BLOCK, extra_blocks=10)
    assert [cache.blocks_for(tokens) for tokens in (0, 1, 16, 17, 160, 1600)] == [0, 2, 2, 4, 20, 110]


def test_what_was_let_in_since_the_report_counts_until_a_report_has_it(saturation: Saturation, clock: Clock) -> None:
    saturation.report(load(0))
    first = request(60)
    saturation.admitted(first)
    assert not saturation.admits(request(60), in_use=1)

    # When reports come that may have been made before the request arrived
    clock.now += REPORT_EVERY_S
    saturation.report(load(0))
    assert not saturation.admits(request(60), in_use=1)

    # Then it counts no more once one must have it
    clock.now += 2 * REPORT_EVERY_S
    saturation.report(load(5))
    assert saturation.admits(request(60), in_use=1)


def test_an_answer_is_promised_its_usual_length_until_it_has_it(clock: Clock) -> None:
    token_s = Mean(0.0)
    saturation = Saturation(clock, token_s)
    saturation.report(load(0))
    saturation.admitted(request(0, answer_blocks=80))
    clock.now += 1
    assert not saturation.admits(request(60, answer_blocks=20), in_use=1)
    # When engines are known to take a second for 70 blocks, and report them
    token_s.add(1 / 70 / BLOCK)
    saturation.report(load(70))
    assert saturation.admits(request(10, answer_blocks=5), in_use=1)
    assert not saturation.admits(request(11, answer_blocks=5), in_use=1)


def test_of_answers_that_end_one_after_the_other_the_most_that_they_hold_at_once_counts(clock: Clock) -> None:
    token_s = Mean(0.0)
    token_s.add(1 / BLOCK)
    saturation = Saturation(clock, token_s)
    saturation.report(idle())
    # Given two answers of 30 blocks each, of which one is two thirds done when the other begins
    saturation.admitted(request(10, answer_blocks=30))
    clock.now += 20
    saturation.admitted(request(10, answer_blocks=30))
    clock.now += 1
    saturation.report(load(41))
    # Then they hold at most 60 blocks, 40 and 20 when the first ends: 18 more than now
    assert saturation._growth(None) == pytest.approx(18 * BLOCK)
    assert saturation.ratio == pytest.approx((41 + 18) / 90)


def test_one_that_ends_early_gives_its_promise_back(saturation: Saturation) -> None:
    saturation.report(load(0))
    first = request(0, answer_blocks=80)
    saturation.admitted(first)
    saturation.ended(first)
    assert saturation.admits(request(80), in_use=1)


def test_ingress_replicas_have_equal_parts_of_what_is_left(saturation: Saturation) -> None:
    saturation.resize(engines=2, ingresses=4)
    saturation.report(load(50, engine="a"))
    saturation.report(load(50, engine="b"))
    assert saturation.admits(request(19), in_use=1)
    assert not saturation.admits(request(21), in_use=1)


def test_a_request_has_to_fit_one_engine(saturation: Saturation) -> None:
    saturation.resize(engines=2, ingresses=1)
    saturation.report(load(60, engine="a"))
    saturation.report(load(60, engine="b"))
    assert not saturation.admits(request(40), in_use=1)
    saturation.report(load(40, engine="b"))
    assert saturation.admits(request(40), in_use=1)


def test_an_engine_that_is_not_heard_of_may_be_free(saturation: Saturation) -> None:
    saturation.resize(engines=2, ingresses=1)
    saturation.report(load(100, engine="a"))
    assert saturation.admits(request(40), in_use=1)


def test_of_more_engines_than_run_the_latest_count(saturation: Saturation) -> None:
    saturation.report(idle("lost"))
    saturation.report(load(100, engine="new"))
    assert not saturation.admits(request(40), in_use=1)


def test_a_prompt_that_fits_no_engine_goes_to_an_idle_one_at_once(saturation: Saturation) -> None:
    saturation.report(load(50))
    assert saturation.admits(request(10**6), in_use=0)
    saturation.report(idle())
    assert saturation.admits(request(10**6), in_use=1)


def test_reports_of_a_lost_engine_expire(saturation: Saturation, clock: Clock) -> None:
    saturation.report(load(100))
    clock.now += 1
    assert not saturation.admits(request(1), in_use=1)
    clock.now += 2
    assert saturation.admits(request(1), in_use=1)


def test_preempted_sequences_have_the_cache_first(saturation: Saturation) -> None:
    saturation.report(load(10, waiting=1))
    assert not saturation.admits(request(1), in_use=1)


def test_engines_have_prompts_for_a_few_steps_waiting_and_no_more(saturation: Saturation) -> None:
    saturation.report(load(0, blocks=10**6, waiting=1, waiting_tokens=3999))
    assert saturation.admits(request(1), in_use=1)
    saturation.report(load(0, blocks=10**6, waiting=1, waiting_tokens=4000))
    assert not saturation.admits(request(1), in_use=1)
    assert saturation.ratio == 1


def test_prompts_that_the_prefix_cache_has_wait_for_nothing(saturation: Saturation) -> None:
    for _ in range(100):
        saturation.computed(20_000, 19_000)
    saturation.report(load(0, blocks=10**6, waiting=3, waiting_tokens=60_000))
    assert saturation.admits(request(1), in_use=1)


def test_the_ratio_is_what_is_used_of_what_may_be(saturation: Saturation) -> None:
    saturation.report(load(45))
    assert saturation.ratio == pytest.approx(0.5)


@dataclass
class Engine:
    """Prefills one prompt a tick, gives each running sequence a block a tick, and takes what fits, oldest first."""

    name: str
    blocks: int
    queue: list[list[float]] = field(default_factory=list)
    running: list[list[float]] = field(default_factory=list)

    def tick(self) -> list[int]:
        """Numbers of the requests that ended."""
        for sequence in self.running:
            sequence[1] += 1
        ended = [int(number) for number, held, final in self.running if held >= final]
        self.running = [sequence for sequence in self.running if sequence[1] < sequence[2]]
        if self.queue and (not self.running or self.used + self.queue[0][1] <= self.blocks):
            self.running.append(self.queue.pop(0))
        return ended

    @property
    def used(self) -> float:
        return sum(held for _, held, _ in self.running)

    def load(self) -> EngineLoad:
        waiting = int(sum(held for _, held, _ in self.queue)) * BLOCK
        cache = KvCache(self.blocks, int(self.used), BLOCK)
        return EngineLoad(self.name, len(self.running), len(self.queue), waiting, 10**6, cache)


@given(
    engines=st.integers(1, 3),
    requests=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 150), st.integers(1, 40)), min_size=1, max_size=40
    ),
    lost=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_nobody_waits_for_idle_engines_and_the_order_stays(
    engines: int, requests: list[tuple[str, int, int]], lost: float, seed: int
) -> None:
    chance, clock, token_s = random.Random(seed), Clock(), Mean(0.0)
    token_s.add(REPORT_EVERY_S / BLOCK)
    saturation, fleet = Saturation(clock, token_s), [Engine(str(number), 100) for number in range(engines)]
    saturation.resize(engines=engines, ingresses=1)
    queue, plain = (FairQueue(len(requests), reserve=0, max_queued=len(requests)) for _ in range(2))
    items = [
        QueueEntry(team, tokens=p + o, prompt_tokens=p * BLOCK, answer_tokens=o * BLOCK) for team, p, o in requests
    ]
    for item in items:
        queue.arrive(item)
        plain.arrive(item)
    for engine in fleet:
        saturation.report(engine.load())
    order: list[QueueEntry] = []
    ended = idle_ticks = ticks = 0
    while ended < len(items):
        while (let_in := queue.next(lambda item: saturation.admits(item, queue.in_use))) is not None:
            saturation.admitted(let_in)
            order.append(let_in)
            engine = min(fleet, key=lambda engine: len(engine.queue) + len(engine.running))
            number = items.index(let_in)
            engine.queue.append([number, requests[number][1], sum(requests[number][1:])])
        clock.now += REPORT_EVERY_S
        for engine in fleet:
            for number in engine.tick():
                saturation.ended(items[number])
                queue.free(items[number].team, 1)
                ended += 1
            if chance.random() >= lost:
                saturation.report(engine.load())
        idle_engine = any(engine.load().idle for engine in fleet)
        idle_ticks = idle_ticks + 1 if queue.waiting and idle_engine else 0
        assert lost or idle_ticks < 5, "a request waits while an engine is idle"
        ticks += 1
        assert ticks < 200 * len(items), "a request waits for ever"
    assert order == list(iter(plain.next, None))
