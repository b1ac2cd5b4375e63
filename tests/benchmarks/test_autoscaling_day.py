"""The simulated day: a part of it, and what a policy has to be better at."""

from __future__ import annotations

from benchmarks.autoscaling_day import Outcome, by_load, by_requests, engine_plan, simulate, traffic
from serving.cluster.scaling import FIRST_TOKEN_S

# From the small hours into the first hump, without the night's job.
MORNING = traffic(14.0, begin_s=int(6.5 * 3600), seconds=9000)


def day(policy_name: str) -> Outcome:
    policy = by_load(FIRST_TOKEN_S) if policy_name == "load" else by_requests(32)
    return simulate(MORNING, policy, engine_plan(), most=8, start_s=240.0)


def test_every_request_has_its_first_token_once() -> None:
    assert len(day("load").first_token_s) == len(MORNING)
    assert min(day("load").first_token_s) >= 0


def test_load_takes_far_fewer_gpu_hours_than_requests_for_about_as_many_first_tokens_in_time() -> None:
    load, requests = day("load"), day("requests")
    assert load.gpu_hours < 0.75 * requests.gpu_hours
    assert load.within(FIRST_TOKEN_S) > requests.within(FIRST_TOKEN_S) - 0.03
    assert load.changes < requests.changes


def test_traffic_is_the_same_each_time_and_in_order() -> None:
    again = traffic(14.0, begin_s=int(6.5 * 3600), seconds=9000)
    assert again == MORNING
    assert [each.at for each in again] == sorted(each.at for each in again)
