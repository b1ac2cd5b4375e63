from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.scale_model import Costs, Fleet, Model, load_costs, markdown, rows

COSTS = Costs(
    ingress_us_per_token=30.0,
    engine_replica_us_per_token=20.0,
    haproxy_us_per_token=15.0,
    one_stream_us_per_token=112.0,
    many_streams=32,
    request_us=2000.0,
    controller_cores=0.05,
    controller_cores_per_replica=0.001,
    replicas=2,
)
FLEET = Fleet(engines=10, tokens_per_s=1000, streams=100, reply_tokens=500, utilization=0.5)
MODEL = Model(COSTS, FLEET)


def test_formulas_by_hand() -> None:
    assert MODEL.tokens_per_s == 10_000
    assert MODEL.requests_per_s == 20
    assert MODEL.steps_per_s == 10
    assert MODEL.message_us == pytest.approx(62 / (1 - 1 / 32))
    # 10,000 tokens/s x 112 us x 0.6 + 20 requests/s x 2 ms = 0.712 cores, at half a core each.
    assert MODEL.ingress_replicas == 2
    assert MODEL.haproxy_cores == pytest.approx(0.15)
    assert MODEL.replicas == 12
    assert MODEL.controller_cores == pytest.approx(0.05 + 0.001 * 10)
    assert MODEL.frame_connections == 20


def test_one_ingress_gets_one_frame_a_step() -> None:
    small = Model(COSTS, dataclasses.replace(FLEET, engines=1, tokens_per_s=100, utilization=1.0))
    assert small.ingress_replicas == 1
    assert small.frames_per_step == 1
    assert small.frames_per_s == small.steps_per_s


def test_a_token_costs_more_the_more_ingresses_share_a_step_and_never_more_than_alone() -> None:
    sizes = [MODEL.scaled(engines) for engines in (1, 10, 100, 1000)]
    costs = [model.token_us for model in sizes]
    assert costs == sorted(costs)
    assert costs[-1] <= COSTS.one_stream_us_per_token


def test_the_first_thing_to_saturate_comes_first() -> None:
    limits = MODEL.limits()
    assert [engines for engines, _ in limits] == sorted(engines for engines, _ in limits)
    for engines, what in limits:
        if "controller" in what:
            assert MODEL.scaled(engines).controller_cores >= 1 > MODEL.scaled(engines - 1).controller_cores


def test_every_row_says_how_it_was_computed() -> None:
    shown = list(rows(MODEL))
    assert len({name for name, _, _ in shown}) == len(shown)
    assert "What saturates first" in markdown(MODEL)


def test_costs_come_from_the_results_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"costs": dataclasses.asdict(COSTS)}))
    assert load_costs(path) == COSTS
