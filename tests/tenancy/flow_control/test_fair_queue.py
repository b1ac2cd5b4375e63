from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serving.tenancy.flow_control.fair_queue import FairQueue, QueueEntry, QueueFull


@dataclass
class Load:
    """A team that always has `depth` requests waiting, each of which turns out to cost what `cost` draws."""

    cost: Callable[[random.Random], float]
    weight: float = 1.0
    rank: int = 0
    depth: int = 20


@dataclass
class Run:
    tokens: Counter[str] = field(default_factory=Counter)
    waited: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def run(loads: Mapping[str, Load], *, slots: int = 16, finished: int = 6000, seed: int = 1, guess: float = 1) -> Run:
    """Play the queue against engines that take as many seconds as a request has tokens.

    `guess` is what a request is said to cost, as a part of its true cost.
    """
    chance, queue = random.Random(seed), FairQueue(slots, reserve=1, max_queued=10_000)
    outcome, now, counter = Run(), 0.0, itertools.count()
    ends: list[tuple[float, int, QueueEntry, float]] = []
    true_cost: dict[int, float] = {}
    arrived: dict[int, float] = {}

    def arrive(team: str) -> None:
        load = loads[team]
        cost = load.cost(chance)
        item = QueueEntry(team, load.weight, load.rank, tokens=cost * guess)
        true_cost[id(item)], arrived[id(item)] = cost, now
        queue.arrive(item)

    for team, load in loads.items():
        for _ in range(load.depth):
            arrive(team)
    for _ in range(finished):
        while item := queue.next():
            cost = true_cost.pop(id(item))
            outcome.waited[item.team].append(now - arrived.pop(id(item)))
            heapq.heappush(ends, (now + cost, next(counter), item, cost))
            arrive(item.team)
        now, _, item, cost = heapq.heappop(ends)
        queue.settle(item.team, cost - item.tokens)
        queue.free(item.team, item.slots)
        outcome.tokens[item.team] += int(cost)
    # What was let in and is not over yet belongs to its team too.
    for _, _, item, cost in ends:
        outcome.tokens[item.team] += int(cost)
    return outcome


def constant(tokens: float) -> Callable[[random.Random], float]:
    return lambda chance: tokens


def spread(mean: float) -> Callable[[random.Random], float]:
    return lambda chance: 1 + chance.expovariate(1 / mean)


# A share of less than one of the 16 places is rounded up to one: there is always a place for who has none.
@given(
    weights=st.lists(st.floats(1, 4), min_size=2, max_size=4),
    means=st.lists(st.integers(50, 1000), min_size=4, max_size=4),
    seed=st.integers(0, 10_000),
    guess=st.floats(0.3, 3),
)
@settings(max_examples=10, phases=[Phase.explicit, Phase.generate])
def test_tokens_are_shared_by_weight(weights: list[float], means: list[int], seed: int, guess: float) -> None:
    loads = {str(n): Load(spread(means[n]), weight=weight) for n, weight in enumerate(weights)}

    tokens = run(loads, seed=seed, guess=guess).tokens

    for name, load in loads.items():
        share = load.weight / sum(weights)
        assert tokens[name] / tokens.total() == pytest.approx(share, rel=0.05, abs=0.005)


def test_long_answers_do_not_get_a_team_more() -> None:
    tokens = run({"short": Load(constant(100)), "long": Load(constant(1500))}).tokens

    assert tokens["short"] / tokens["long"] == pytest.approx(1, rel=0.05)


def test_a_higher_class_goes_first_and_a_lower_one_starts_when_it_is_done() -> None:
    queue = FairQueue(1, reserve=0, max_queued=100)
    for number in range(3):
        queue.arrive(QueueEntry("low", rank=2, tokens=number))
        queue.arrive(QueueEntry("high", rank=0, tokens=number))
    order = []
    while item := queue.next():
        order.append((item.team, item.tokens))
        queue.free(item.team, item.slots)

    assert order == [("high", 0), ("high", 1), ("high", 2), ("low", 0), ("low", 1), ("low", 2)]


def test_a_flood_waits_behind_itself_only() -> None:
    alone = run({"calm": Load(constant(100), depth=1)}, finished=2000).waited["calm"]
    beside = run({"calm": Load(constant(100), depth=1), "flood": Load(constant(100), depth=2000)}, finished=4000)

    # One place comes free every 100/16 seconds.
    assert max(beside.waited["calm"]) <= max(alone) + 100 / 15
    assert max(beside.waited["flood"]) > 1000


def test_one_who_comes_while_another_floods_finds_a_place() -> None:
    queue = FairQueue(8, reserve=1, max_queued=100)
    for _ in range(20):
        queue.arrive(QueueEntry("flood"))
    let_in = list(iter(queue.next, None))
    assert len(let_in) == 7

    comer = QueueEntry("calm")
    queue.arrive(comer)

    assert queue.next() is comer


def test_a_team_alone_has_every_place() -> None:
    queue = FairQueue(8, reserve=1, max_queued=100, newcomers=False)
    for _ in range(20):
        queue.arrive(QueueEntry("only"))

    assert len(list(iter(queue.next, None))) == 8


def test_having_been_away_saves_up_nothing() -> None:
    queue = FairQueue(1, reserve=0, max_queued=1000)
    for _ in range(100):
        queue.arrive(QueueEntry("steady", tokens=10))
    for _ in range(50):
        item = queue.next()
        assert item is not None
        queue.free(item.team, item.slots)
    for _ in range(20):
        queue.arrive(QueueEntry("back", tokens=10))
    order = []
    for _ in range(20):
        item = queue.next()
        assert item is not None
        order.append(item.team)
        queue.free(item.team, item.slots)

    assert Counter(order) == {"steady": 10, "back": 10}


def test_a_wide_request_is_not_overtaken_for_ever() -> None:
    queue = FairQueue(4, reserve=0, max_queued=1000)
    narrow = [QueueEntry("many") for _ in range(4)]
    for item in narrow:
        queue.arrive(item)
    running = list(iter(queue.next, None))
    wide = QueueEntry("wide", slots=4)
    queue.arrive(wide)
    for _ in range(50):
        queue.arrive(QueueEntry("many"))
    while wide not in running:
        if following := queue.next():
            running.append(following)
        else:
            gone = running.pop(0)
            queue.free(gone.team, gone.slots)

    assert queue.waiting == 50


def test_a_request_wider_than_all_places_gets_all_it_can() -> None:
    queue = FairQueue(4, reserve=1, max_queued=10)
    queue.arrive(QueueEntry("a", slots=100))

    item = queue.next()

    assert item is not None
    assert item.slots == 3


class TestFull:
    def test_alone_it_is_we_who_are_full(self) -> None:
        queue = FairQueue(1, reserve=0, max_queued=2)
        queue.arrive(QueueEntry("a"))
        queue.arrive(QueueEntry("a"))

        with pytest.raises(QueueFull) as raised:
            queue.arrive(QueueEntry("a"))

        assert raised.value.reason == "full"

    def test_beside_others_it_is_the_team_over_its_share(self) -> None:
        queue = FairQueue(1, reserve=0, max_queued=4)
        for team in ("a", "a", "a", "b"):
            queue.arrive(QueueEntry(team))

        with pytest.raises(QueueFull) as raised:
            queue.arrive(QueueEntry("a"))

        assert raised.value.reason == "over_share"

    def test_room_is_made_by_the_newest_of_who_has_most(self) -> None:
        queue = FairQueue(1, reserve=0, max_queued=4)
        items = [QueueEntry("a") for _ in range(4)]
        for item in items:
            queue.arrive(item)

        assert queue.arrive(QueueEntry("b")) is items[-1]
        assert (queue.waiting, queue.waiting_of("a"), queue.waiting_of("b")) == (4, 3, 1)

    def test_equal_teams_at_their_share_are_both_told_that_we_are_full(self) -> None:
        queue = FairQueue(1, reserve=0, max_queued=3)
        for team in ("a", "b", "c"):
            queue.arrive(QueueEntry(team))

        with pytest.raises(QueueFull) as raised:
            queue.arrive(QueueEntry("d"))

        assert raised.value.reason == "full"

    def test_a_lower_class_makes_room_for_a_higher_one_and_never_the_other_way(self) -> None:
        queue = FairQueue(1, reserve=0, max_queued=2)
        low, high = QueueEntry("low", rank=2), QueueEntry("high", rank=0)
        queue.arrive(low)
        queue.arrive(high)

        assert queue.arrive(QueueEntry("high", rank=0)) is low
        with pytest.raises(QueueFull):
            queue.arrive(QueueEntry("low", rank=2))


class TestBeginningAtOnce:
    def test_a_request_that_meets_nobody_begins_as_if_it_had_waited_for_its_turn(self) -> None:
        at_once, by_turns = (FairQueue(4, reserve=1, max_queued=8) for _ in range(2))
        for team, tokens in (("a", 100.0), ("b", 10.0), ("a", 5.0)):
            first, second = (QueueEntry(team, tokens=tokens) for _ in range(2))
            assert at_once.start_now(first)
            by_turns.arrive(second)
            assert by_turns.next() is second
        assert at_once._teams == by_turns._teams
        assert at_once._virtual == by_turns._virtual

    def test_no_request_overtakes_one_that_waits(self) -> None:
        queue = FairQueue(2, reserve=0, max_queued=8)
        assert queue.start_now(QueueEntry("a"))
        queue.arrive(QueueEntry("b", slots=2))
        assert not queue.start_now(QueueEntry("c"))

    def test_a_slot_in_reserve_is_not_for_a_team_that_has_its_share(self) -> None:
        queue = FairQueue(4, reserve=1, max_queued=8)
        assert [queue.start_now(QueueEntry("a")) for _ in range(4)] == [True, True, True, False]
        assert queue.start_now(QueueEntry("b"))

    def test_a_request_that_its_engines_cannot_take_leaves_nothing_behind(self) -> None:
        queue = FairQueue(4, reserve=1, max_queued=8)
        assert not queue.start_now(QueueEntry("a"), lambda entry: False)
        assert (queue.in_use, queue.waiting, queue._teams) == (0, 0, {})


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing is counted twice, nothing is lost, nothing is over the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(6, reserve=1, max_queued=8)
        self.waiting: list[QueueEntry] = []
        self.running: list[QueueEntry] = []

    @rule(team=st.sampled_from("abc"), rank=st.integers(0, 1), slots=st.integers(1, 9), tokens=st.floats(0, 1e4))
    def arrive(self, team: str, rank: int, slots: int, tokens: float) -> None:
        item = QueueEntry(team, weight=1.0, rank=rank, tokens=tokens, slots=slots)
        try:
            gone = self.queue.arrive(item)
        except QueueFull:
            assert len(self.waiting) == 8
            return
        if gone is not None:
            self.waiting.remove(gone)
        self.waiting.append(item)

    @rule(team=st.sampled_from("abc"), rank=st.integers(0, 1), slots=st.integers(1, 9), tokens=st.floats(0, 1e4))
    def come_and_begin_if_none_waits(self, team: str, rank: int, slots: int, tokens: float) -> None:
        item = QueueEntry(team, weight=1.0, rank=rank, tokens=tokens, slots=slots)
        if self.queue.start_now(item):
            assert not self.waiting
            self.running.append(item)
        else:
            assert self.waiting or self.running

    @rule()
    def let_in(self) -> None:
        item = self.queue.next()
        if item is None:
            assert not self.waiting or self.running, "someone waits and every place is free"
            return
        self.waiting.remove(item)
        self.running.append(item)

    @rule(data=st.data(), tokens=st.floats(-1e4, 1e4))
    def finish(self, data: st.DataObject, tokens: float) -> None:
        if self.running:
            item = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.queue.settle(item.team, tokens)
            self.queue.free(item.team, item.slots)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            item = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            assert self.queue.leave(item)
            assert not self.queue.leave(item)

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.waiting == len(self.waiting) <= 8
        assert self.queue.in_use == sum(item.slots for item in self.running) <= 6
        if not self.waiting and not self.running:
            assert not self.queue._teams


TestAnyOrder = AnyOrder.TestCase
