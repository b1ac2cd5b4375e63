"""Autoscaling over a day of made-up traffic: `python -m benchmarks.autoscaling_day`.

The same requests meet engines whose number follows two policies: requests under way in each replica, as Serve's own
policy counts them, and the load that engines and queues report (serving/cluster/autoscaling.py). The traffic has the
shape of an office's day, with chats, reasoning, agents with long prompts, bursts, and a job at night; it is made up.
Engines prefill and decode at a part of the bounds of `serving plan`; nothing here was measured.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from serving.cluster.autoscaling import Queued, engine_stats, engines_for, work_of
from serving.cluster.scaling import FIRST_TOKEN_S, Drift
from serving.engine.load import EngineLoad, KvCache
from serving.planning.gpus import GPUS
from serving.planning.models import known_models
from serving.planning.plan import Plan

DAY_S = 86_400
_STEP_S = 0.5
_PART_OF_BOUND = 0.5
_SEQUENCES = 256
_LOOK_BACK_S = 30
_STEPS_WAITING = 4
_KINDS = (
    # part of the requests, prompt tokens, answer tokens: means of exponential distributions
    (0.6, 900, 350),  # chats
    (0.25, 500, 2500),  # reasoning at high effort
    (0.15, 14_000, 300),  # agents and questions about documents
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its arrival in seconds since midnight, and its tokens."""

    at: float
    prompt: int
    answer: int


@dataclass(slots=True)
class Engine:
    """One engine: prompts are computed in order, answers all at the same pace."""

    plan: Plan
    ready_at: float
    draining: bool = False
    kv_tokens: int = 0
    prompts: deque[tuple[Request, float]] = field(default_factory=deque)
    prompt_tokens: float = 0.0
    made: float = 0.0
    """Tokens that each stream has made since the engine began; a stream ends where it began plus its answer."""
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    held: float = 0.0

    def __post_init__(self) -> None:
        cache = self.plan.cache
        self.kv_tokens = cache.blocks(self.plan.kv_bytes) * cache.block_size

    @property
    def sequences(self) -> int:
        """Sequences that it has."""
        return len(self.ends) + len(self.prompts)

    @property
    def kv_used(self) -> float:
        """Tokens in its KV cache."""
        return self.held + len(self.ends) * self.made

    def takes(self, request: Request) -> bool:
        """Whether admission would let the request in (serving/tenancy/flow_control/saturation.py)."""
        room = self.kv_used + self.prompt_tokens + request.prompt + request.answer <= 0.9 * self.kv_tokens
        waits = self.prompt_tokens < _STEPS_WAITING * self.plan.step_tokens
        return not self.draining and self.sequences < _SEQUENCES and room and waits

    def add(self, request: Request) -> None:
        """Take a request."""
        self.prompts.append((request, float(request.prompt)))
        self.prompt_tokens += request.prompt

    def step(self, now: float) -> Iterator[float]:
        """Work for one step; yields the time to the first token of each prompt that was computed."""
        budget = most = self.plan.prefill_bound() * _PART_OF_BOUND * _STEP_S
        while self.prompts and budget > 0:
            request, left = self.prompts.popleft()
            done = min(left, budget)
            budget -= done
            self.prompt_tokens -= done
            if done < left:
                self.prompts.appendleft((request, left - done))
                break
            yield now - request.at
            heapq.heappush(self.ends, (self.made + request.answer, id(request), request.prompt + request.answer))
            self.held += request.prompt - self.made
        if self.ends:
            rate, _ = self.plan.decode_bound(len(self.ends), 4096)
            self.made += rate * _PART_OF_BOUND * _STEP_S * (budget / most) / len(self.ends)
        while self.ends and self.ends[0][0] <= self.made:
            end, _, tokens = heapq.heappop(self.ends)
            self.held -= tokens - end

    def stats(self) -> dict[str, float]:
        """What its replica tells Serve."""
        block = self.plan.cache.block_size
        cache = KvCache(self.kv_tokens // block, int(self.kv_used) // block, block)
        load = EngineLoad("", len(self.ends), len(self.prompts), int(self.prompt_tokens), self.plan.step_tokens, cache)
        return engine_stats(load, _SEQUENCES)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy sees: the engines that are ready, and what waits in front of them."""

    engines: Sequence[Engine]
    queued: Queued


Policy = Callable[[Seen], int]


def by_requests(target: int) -> Policy:
    """Serve's own count: requests under way in replicas, divided by the target for each."""
    return lambda seen: math.ceil(sum(engine.sequences for engine in seen.engines) / target)


def by_load(first_token_s: float) -> Policy:
    """The policy of this project."""

    def wanted(seen: Seen) -> int:
        stats: dict[str, dict[object, float]] = {}
        for number, engine in enumerate(seen.engines):
            for name, value in engine.stats().items():
                stats.setdefault(name, {})[number] = value
        work = work_of(stats, seen.queued)
        return 1 if work is None else engines_for(work, len(seen.engines), first_token_s)

    return wanted


@dataclass(frozen=True, slots=True)
class Outcome:
    """A day under one policy."""

    gpu_hours: float
    first_token_s: list[float]
    changes: int
    most_engines: int

    def within(self, objective_s: float) -> float:
        """Part of the first tokens that came in time."""
        return sum(each <= objective_s for each in self.first_token_s) / len(self.first_token_s)

    @property
    def p95_s(self) -> float:
        """95 % of first tokens came sooner."""
        return quantiles(self.first_token_s, n=20)[-1]


def traffic(peak_per_s: float, *, seconds: int = DAY_S, begin_s: int = 0, seed: int = 1) -> list[Request]:
    """The day's requests in order: two humps of office hours, bursts, and a job of long prompts at 02:00."""
    source = random.Random(seed)
    found: list[Request] = []
    at = float(begin_s)
    while at < begin_s + seconds:
        hour = at / 3600 % 24
        humps = math.exp(-(((hour - 10.5) / 1.8) ** 2)) + 0.9 * math.exp(-(((hour - 15) / 2.2) ** 2))
        burst = 1.8 if 8 <= hour <= 18 and at % 5400 < 240 else 1.0
        night = 0.5 if 2 <= hour < 3 else 0.0
        at += source.expovariate(peak_per_s * ((0.04 + 0.96 * humps) * burst + night))
        _, prompt, answer = _KINDS[2] if night else source.choices(_KINDS, [part for part, _, _ in _KINDS])[0]
        found.append(Request(at, 1 + int(source.expovariate(1 / prompt)), 1 + int(source.expovariate(1 / answer))))
    return found


def simulate(requests: Sequence[Request], policy: Policy, plan: Plan, *, most: int, start_s: float) -> Outcome:
    """A day under `policy` with 1 to `most` engines, each ready `start_s` seconds after it was asked for."""
    drift, engines = Drift(), [Engine(plan, requests[0].at)]
    waiting: deque[Request] = deque()
    first: list[float] = []
    counts: deque[int] = deque(maxlen=_LOOK_BACK_S)
    gpu_s, changes, peak, next_request, now = 0.0, 0, 1, 0, requests[0].at
    while next_request < len(requests) or waiting or any(engine.sequences for engine in engines):
        now += _STEP_S
        while next_request < len(requests) and requests[next_request].at <= now:
            waiting.append(requests[next_request])
            next_request += 1
        ready = [engine for engine in engines if engine.ready_at <= now and not engine.draining]
        while waiting and (free := [engine for engine in ready if engine.takes(waiting[0])]):
            min(free, key=lambda engine: engine.sequences).add(waiting.popleft())
        for engine in engines:
            first.extend(engine.step(now))
        engines = [engine for engine in engines if engine.sequences or not engine.draining]
        gpu_s += len(engines) * plan.gpus * _STEP_S
        if now % 1 >= _STEP_S or not ready:
            continue
        tokens = float(sum(each.prompt + each.answer for each in waiting))
        queued = Queued(tokens, len(waiting), now - waiting[0].at if waiting else 0.0)
        # Serve's figures are means of the last 30 s.
        counts.append(policy(Seen(ready, queued)))
        staying = [engine for engine in engines if not engine.draining]
        wanted = math.ceil(sum(counts) / len(counts) - 1e-9)
        target = drift.follow(min(most, max(1, wanted)), len(staying), now)
        changes += target != len(staying)
        engines += [Engine(plan, now + start_s) for _ in range(target - len(staying))]
        for engine in sorted(ready, key=lambda engine: engine.sequences)[: max(0, len(staying) - target)]:
            engine.draining = True
        peak = max(peak, len(engines))
    return Outcome(gpu_s / 3600, first, changes, peak)


def engine_plan() -> Plan:
    """The engine of the simulation: gpt-oss-120b on two H100."""
    return Plan(known_models()["gpt-oss-120b"], GPUS["h100"], 2, 1, context=65_536, streams=_SEQUENCES)


def main() -> None:
    """Print one line for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=14.0, help="requests a second at the height of the day")
    parser.add_argument("--most", type=int, default=8, help="engines at most")
    parser.add_argument("--start", type=float, default=240.0, help="seconds until a new engine is ready")
    parser.add_argument("--objective", type=float, default=FIRST_TOKEN_S, help="first token within, in seconds")
    asked = parser.parse_args()
    requests, plan = traffic(asked.peak), engine_plan()
    print(f"{len(requests):,} requests in a day; {plan.model.name} on {plan.gpus} x {plan.gpu.name} an engine")
    print(f"{'policy':<32} {'GPU hours':>9} {'in time':>8} {'p95':>8} {'changes':>8} {'most':>5}")
    policies = {f"requests, {target} in each": by_requests(target) for target in (32, 64, 128)}
    for name, policy in {**policies, f"load, {asked.objective:g} s": by_load(asked.objective)}.items():
        day = simulate(requests, policy, plan, most=asked.most, start_s=asked.start)
        print(
            f"{name:<32} {day.gpu_hours:>9.0f} {day.within(asked.objective):>8.2%} {day.p95_s:>6.2f} s "
            f"{day.changes:>8} {day.most_engines:>5}"
        )


if __name__ == "__main__":
    main()
