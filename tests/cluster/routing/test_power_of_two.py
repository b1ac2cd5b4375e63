from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from serving.cluster.routing.power_of_two import PowerOfTwo
from serving.engine.base import Adapter, EngineRequest, Sampling

REQUEST = EngineRequest("r", [1], Sampling(10))


@dataclass(eq=False)
class Replica:
    requests: int
    queued_tokens: int = 0
    adapters: tuple[Adapter, ...] = ()

    def holds(self, adapter: Adapter) -> bool:
        return adapter in self.adapters


def test_one_replica_gets_all() -> None:
    only = Replica(7)
    assert PowerOfTwo(Random(1)).choose(REQUEST, [only]) is only


def test_of_two_the_one_with_fewer_requests_is_asked() -> None:
    busy, calm = Replica(5), Replica(4)
    policy = PowerOfTwo(Random(1))
    assert all(policy.choose(REQUEST, [busy, calm]) is calm for _ in range(20))


def test_a_long_queue_of_prompts_outweighs_many_answers() -> None:
    # Given one replica with a long prompt to read, and one with ten answers under way and nothing to read
    reading, writing = Replica(1, 50_000), Replica(10, 0)
    policy = PowerOfTwo(Random(1))
    assert all(policy.choose(REQUEST, [reading, writing]) is writing for _ in range(20))


def test_an_adapter_is_asked_for_where_it_is_loaded_unless_others_wait_there() -> None:
    pirate = Adapter("pirate", "/pirate")
    request = EngineRequest("r", [1], Sampling(10), adapter=pirate)
    policy = PowerOfTwo(Random(1))
    # Given a replica with the adapter and a few answers more than the other
    loaded, other = Replica(5, 0, (pirate,)), Replica(2)
    assert all(policy.choose(request, [loaded, other]) is loaded for _ in range(20))
    assert all(policy.choose(REQUEST, [loaded, other]) is other for _ in range(20))
    # When it has very much to do, then the other one loads it
    loaded.queued_tokens = 100_000
    assert all(policy.choose(request, [loaded, other]) is other for _ in range(20))


def test_equal_replicas_get_equal_shares_and_the_busiest_of_three_none() -> None:
    calm, busiest = [Replica(1), Replica(1)], Replica(9)
    policy = PowerOfTwo(Random(1))
    shares = Counter(id(policy.choose(REQUEST, [*calm, busiest])) for _ in range(3000))
    assert shares[id(busiest)] == 0
    assert all(shares[id(each)] > 1300 for each in calm)
