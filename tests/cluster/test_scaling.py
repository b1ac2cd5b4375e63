"""How many replicas Serve is told to run. Its controller is played; tests/e2e/test_model_life.py has it live."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RpcError
from ray.serve._private import autoscaling_state
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serving.cluster import scaling
from serving.cluster.autoscaling import Queued, engine_stats
from serving.cluster.scaling import DOWNSCALE_DELAY_S, POLICY, UPSCALE_DELAY_S, LifePolicy
from serving.engine.lifecycle.store import Wanted
from serving.engine.load import EngineLoad, KvCache


@dataclass
class Played:
    """The clock, the store and a deployment that at once has the replicas that the policy asks for."""

    now: float = 1000.0
    loaded: bool | None = None
    readable: bool = True
    reads: int = 0
    told: list[int] = field(default_factory=list)
    running: int = 0
    target: int = 0
    requests: float = 0.0
    queued: float = 0.0
    most: int = 1
    policy: Any = None
    stats: dict[str, dict[Any, float]] | None = None
    waiting: Queued = field(default_factory=Queued)

    def deploy(self, fewest: int, most: int, **keywords: Any) -> None:
        policy = LifePolicy("m", None if fewest == most else fewest, **keywords)
        self.policy = _apply_autoscaling_config(policy)
        self.target, self.most = fewest, most

    def tick(self, seconds: float = 0.1) -> int:
        """One round of the controller's loop, after so long."""
        self.now += seconds
        config = AutoscalingConfig(
            min_replicas=0, max_replicas=self.most, target_ongoing_requests=10, upscale_delay_s=0, downscale_delay_s=0
        )
        context = AutoscalingContext(
            deployment_id=None,  # nobody asks for it
            deployment_name="m",
            app_name="a",
            current_num_replicas=self.running,
            target_num_replicas=self.target,
            running_replicas=[],
            total_num_requests=self.requests,
            total_queued_requests=self.queued,
            aggregated_metrics=self.stats,
            raw_metrics=None,
            capacity_adjusted_min_replicas=0,
            capacity_adjusted_max_replicas=self.most,
            policy_state={},
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self.now,
            config=config,
        )
        self.target, _ = self.policy(context)
        self.running = self.target
        return self.target

    def after(self, seconds: float) -> int:
        """What it comes to when the loop has gone on for so long."""
        for _ in range(round(seconds * 2)):
            self.tick(0.5)
        return self.target


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()

    def wanted_now(model: str, timeout_s: float) -> Wanted | None:
        played.reads += 1
        if not played.readable:
            raise RpcError("away")
        return None if played.loaded is None else Wanted(played.loaded, "admin", 0.0)

    def keep_replicas(model: str, count: int, timeout_s: float) -> None:
        if not played.readable:
            raise RpcError("away")
        played.told.append(count)

    monkeypatch.setattr(scaling, "wanted_now", wanted_now)
    monkeypatch.setattr(scaling, "queued_now", lambda model, timeout_s: played.waiting)
    monkeypatch.setattr(scaling, "keep_replicas", keep_replicas)
    monkeypatch.setattr("serving.cluster.scaling.time.monotonic", lambda: played.now)
    return played


def test_a_fixed_number_stays_what_it_is_under_any_load(serve: Played) -> None:
    serve.deploy(3, 3)
    assert serve.after(2) == 3
    serve.requests = 1000.0
    assert serve.after(100) == 3
    serve.running = 1  # two were lost
    assert serve.tick() == 3


def test_an_unwanted_model_goes_once_everybody_knows(serve: Played) -> None:
    serve.deploy(2, 2)
    serve.after(5)
    serve.loaded = False
    assert serve.after(2) == 2
    assert serve.after(5) == 0
    serve.loaded = True
    assert serve.after(1.5) == 2
    assert serve.told == [2, 0, 2] or serve.told == [2, 1, 0, 2]


def test_a_deployment_that_changes_while_its_model_is_unwanted_does_not_begin_again(serve: Played) -> None:
    serve.loaded = False
    serve.deploy(2, 2)
    assert serve.tick() in (0, 1)
    assert serve.tick() == 0


def test_another_fixed_number_is_taken_at_once(serve: Played) -> None:
    serve.deploy(2, 2)
    serve.after(2)
    serve.most = 3
    assert serve.tick() == 3


def test_a_model_that_is_wanted_again_in_time_does_not_go(serve: Played) -> None:
    serve.deploy(1, 1)
    serve.after(5)
    serve.loaded = False
    serve.after(1.5)
    serve.loaded = True
    assert serve.after(10) == 1
    assert serve.told == [1]


def test_it_does_not_go_while_serve_would_start_it_again(serve: Played) -> None:
    serve.deploy(1, 1)
    serve.after(5)
    serve.loaded, serve.queued = False, 0.5
    assert serve.after(20) == 1
    serve.queued = 0.0
    assert serve.after(5) == 0


def test_none_to_begin_with_is_none_until_it_is_wanted(serve: Played) -> None:
    serve.deploy(0, 4)
    assert serve.after(10) == 0
    serve.loaded = True
    assert serve.after(1.5) == 1
    serve.requests = 35.0
    assert serve.after(UPSCALE_DELAY_S + 1) == 4
    serve.requests, serve.loaded = 0.0, False
    assert serve.after(5) == 0


def test_load_moves_it_between_its_bounds_after_serves_delays(serve: Played) -> None:
    serve.deploy(1, 3)
    serve.after(5)
    serve.requests = 25.0
    assert serve.after(UPSCALE_DELAY_S - 2) == 1
    assert serve.after(4) == 3
    serve.requests = 1000.0
    assert serve.after(UPSCALE_DELAY_S + 2) == 3
    serve.requests = 0.0
    assert serve.after(DOWNSCALE_DELAY_S - 2) == 3
    assert serve.after(4) == 1


def full(part: float, engines: int) -> dict[str, dict[Any, float]]:
    """Stats of engines whose KV cache is used in part."""
    stats = engine_stats(EngineLoad("e", 4, 0, 0, 8192, KvCache(100, round(100 * part), 16)), 64)
    return {name: dict.fromkeys(range(engines), value) for name, value in stats.items()}


def test_engines_that_tell_their_load_are_scaled_by_it_and_not_by_requests(serve: Played) -> None:
    serve.deploy(1, 4)
    serve.after(5)
    serve.requests, serve.stats = 1000.0, full(0.3, 1)
    assert serve.after(UPSCALE_DELAY_S + 2) == 1
    serve.requests, serve.stats = 2.0, full(0.9, 1)
    assert serve.after(UPSCALE_DELAY_S + 2) == 2


def test_requests_count_beside_the_load_where_a_target_is_set(serve: Played) -> None:
    serve.deploy(1, 4, requests=True)
    serve.after(5)
    serve.requests, serve.stats = 25.0, full(0.3, 1)
    assert serve.after(UPSCALE_DELAY_S + 2) == 3


def test_what_waits_in_front_of_engines_asks_for_more_of_them(serve: Played) -> None:
    serve.deploy(1, 4, first_token_s=2.0)
    serve.after(5)
    serve.stats, serve.waiting = full(0.3, 1), Queued(tokens=100.0, sequences=2, longest_wait_s=3.0)
    assert serve.after(UPSCALE_DELAY_S + 2) == 2
    serve.stats, serve.waiting = full(0.2, 2), Queued()
    assert serve.after(DOWNSCALE_DELAY_S + 2) == 1


def test_what_waits_counts_as_requests_where_engines_tell_no_load(serve: Played) -> None:
    serve.deploy(1, 4)
    serve.after(5)
    serve.requests, serve.waiting = 5.0, Queued(tokens=100.0, sequences=12, longest_wait_s=0.0)
    assert serve.after(UPSCALE_DELAY_S + 2) == 2


def test_a_moment_of_other_load_begins_the_delay_anew(serve: Played) -> None:
    serve.deploy(1, 3)
    serve.after(5)
    serve.requests = 25.0
    serve.after(UPSCALE_DELAY_S - 5)
    serve.requests = 5.0
    serve.tick()
    serve.requests = 25.0
    assert serve.after(UPSCALE_DELAY_S - 5) == 1


def test_what_runs_stays_while_the_store_is_away(serve: Played) -> None:
    serve.deploy(2, 2)
    serve.after(3)
    serve.readable, serve.loaded = False, False
    assert serve.after(20) == 2
    serve.readable = True
    assert serve.after(6) == 0
    assert serve.told[-1] == 0


def test_the_store_is_read_once_a_second(serve: Played) -> None:
    serve.deploy(1, 1)
    for _ in range(100):
        serve.tick(0.1)
    assert 9 <= serve.reads <= 11


def test_serve_can_ship_it(serve: Played) -> None:
    policy = AutoscalingPolicy(policy_function=POLICY, policy_kwargs={"model": "m", "fewest": 1})
    shipped = cloudpickle.loads(policy.get_serialized_policy_def())
    made = shipped(**policy.policy_kwargs)
    assert made._fewest == 1


def test_the_delays_are_the_pinned_serves_own() -> None:
    config = AutoscalingConfig()
    assert (config.upscale_delay_s, config.downscale_delay_s) == (UPSCALE_DELAY_S, DOWNSCALE_DELAY_S)
    # A class is made once, with its keywords, and then called.
    assert "policy_kwargs" in inspect.getsource(autoscaling_state._resolve_policy_callable)
