"""What the front end of many engines costs, computed from measured figures: `python -m benchmarks.scale_model --help`.

Every input is a field of Costs (measured, benchmarks/results.json) or Fleet (assumed, flags); every formula is one
property of Model. Nothing here was measured at that size: it says what to expect, and what to look at first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured on one machine, in its cores; what processes use without load is left out of us/token."""

    ingress_us_per_token: float
    """Ingress replica, many streams."""
    engine_replica_us_per_token: float
    """Engine replica's own process (vLLM's output handling included), many streams."""
    haproxy_us_per_token: float
    one_stream_us_per_token: float
    """Ingress and engine replica at one stream, where every token is a frame and a wake-up of its own."""
    many_streams: int
    """Streams at which the figures above were taken: a message carries about so many tokens."""
    request_us: float
    """Ingress, engine replica and HAProxy, for a request beside its tokens."""
    controller_cores: float
    """Serve's controller, idle."""
    controller_cores_per_replica: float
    """How that grows with a replica."""
    replicas: int
    """Replicas there were at `controller_cores`."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Assumed. The defaults are a large fleet of engines that are busy with chats."""

    engines: int = 1000
    tokens_per_s: float = 4000.0
    """Of one engine."""
    streams: int = 128
    """Of one engine."""
    reply_tokens: int = 500
    ingress_per_node: int = 8
    """Ingress replicas behind one HAProxy."""
    utilization: float = 0.6
    """Of a core that serves latency."""
    core_speed: float = 1.0
    """Of the fleet's cores over the measured ones."""
    open_files: int = 65_536
    """A process may have."""


@dataclass(frozen=True, slots=True)
class Model:
    """A fleet at those costs."""

    costs: Costs
    fleet: Fleet

    @property
    def tokens_per_s(self) -> float:
        """engines * tokens/s of one."""
        return self.fleet.engines * self.fleet.tokens_per_s

    @property
    def requests_per_s(self) -> float:
        """tokens/s / reply tokens."""
        return self.tokens_per_s / self.fleet.reply_tokens

    @property
    def steps_per_s(self) -> float:
        """Of one engine: each step gives every stream one token."""
        return self.fleet.tokens_per_s / self.fleet.streams

    @property
    def message_us(self) -> float:
        """CPU of one frame, both ends together: what a token costs more when it has a frame of its own.

        token = a + message / tokens per message, seen at one stream (1 token) and at many (n tokens):
        message = (token_1 - token_n) / (1 - 1/n).
        """
        many = self.costs.ingress_us_per_token + self.costs.engine_replica_us_per_token
        return max(0.0, self.costs.one_stream_us_per_token - many) / (1 - 1 / self.costs.many_streams)

    @property
    def frames_per_step(self) -> float:
        """Ingress replicas with a stream at one engine: I * (1 - (1 - 1/I)^streams), requests spread at random."""
        ingress = self.ingress_replicas
        return ingress * (1 - (1 - 1 / ingress) ** self.fleet.streams)

    @property
    def frames_per_s(self) -> float:
        """All engines together."""
        return self.fleet.engines * self.steps_per_s * self.frames_per_step

    @property
    def token_us(self) -> float:
        """Ingress and engine replica: per-token part + message / tokens per frame."""
        many = self.costs.ingress_us_per_token + self.costs.engine_replica_us_per_token
        tokens_per_frame = self.fleet.streams / self.frames_per_step
        return many - self.message_us / self.costs.many_streams + self.message_us / tokens_per_frame

    @property
    def ingress_share(self) -> float:
        """Of token_us, as measured at many streams."""
        both = self.costs.ingress_us_per_token + self.costs.engine_replica_us_per_token
        return self.costs.ingress_us_per_token / both if both else 0.5

    @property
    def ingress_replicas(self) -> int:
        """One process each: tokens/s * ingress us + requests/s * request us, over utilization and core speed.

        Taken with every token in a frame of its own, the dearest case, so that the number does not depend on itself.
        """
        dearest = (self.costs.one_stream_us_per_token) * self.ingress_share
        busy = (self.tokens_per_s * dearest + self.requests_per_s * self.costs.request_us) / 1e6
        return max(1, math.ceil(busy / self.fleet.core_speed / self.fleet.utilization))

    @property
    def ingress_cores(self) -> float:
        """Used, at the frames there are."""
        busy = self.tokens_per_s * self.token_us * self.ingress_share + self.requests_per_s * self.costs.request_us
        return busy / 1e6 / self.fleet.core_speed

    @property
    def engine_replica_cores(self) -> float:
        """Of one engine's node: tokens/s * its part of a token."""
        return self.fleet.tokens_per_s * self.token_us * (1 - self.ingress_share) / 1e6 / self.fleet.core_speed

    @property
    def haproxy_cores(self) -> float:
        """tokens/s * HAProxy's us."""
        return self.tokens_per_s * self.costs.haproxy_us_per_token / 1e6 / self.fleet.core_speed

    @property
    def nodes(self) -> int:
        """Ingress replicas / ingress replicas a node, an HAProxy on each."""
        return math.ceil(self.ingress_replicas / self.fleet.ingress_per_node)

    @property
    def replicas(self) -> int:
        """Engines and ingresses, all watched by one controller."""
        return self.fleet.engines + self.ingress_replicas

    @property
    def controller_cores(self) -> float:
        """As measured + growth a replica * further replicas; a single process."""
        further = max(0, self.replicas - self.costs.replicas)
        return (self.costs.controller_cores + self.costs.controller_cores_per_replica * further) / self.fleet.core_speed

    @property
    def frame_connections(self) -> int:
        """Engines * ingress replicas: each engine sends to each ingress."""
        return self.fleet.engines * self.ingress_replicas

    @property
    def connections_of_an_engine(self) -> int:
        """Frames to and calls from every ingress replica."""
        return 2 * self.ingress_replicas

    @property
    def connections_of_an_ingress(self) -> int:
        """Frames from and calls to every engine, and its share of the clients' streams."""
        return 2 * self.fleet.engines + math.ceil(self.fleet.engines * self.fleet.streams / self.ingress_replicas)

    def scaled(self, engines: int) -> Model:
        """The same with another number of engines."""
        return dataclasses.replace(self, fleet=dataclasses.replace(self.fleet, engines=engines))

    def limits(self) -> list[tuple[int, str]]:
        """(engines at which it is reached, what saturates), first things first; nothing beyond 100,000 engines."""
        checks = {
            "Serve's controller: one process, full at 1 core": lambda m: m.controller_cores >= 1,
            "an ingress replica's open files": lambda m: m.connections_of_an_ingress >= m.fleet.open_files,
            "an engine replica's open files": lambda m: m.connections_of_an_engine >= m.fleet.open_files,
            "an engine replica's front-end process: one event loop, full at 1 core": (
                lambda m: m.engine_replica_cores >= 1
            ),
        }
        found = [(first, what) for what, reached in checks.items() if (first := self._first(reached)) is not None]
        return sorted(found)

    def _first(self, reached: object) -> int | None:
        assert callable(reached), "a check"
        low, high = 1, 100_000
        if not reached(self.scaled(high)):
            return None
        while low < high:
            middle = (low + high) // 2
            if reached(self.scaled(middle)):
                high = middle
            else:
                low = middle + 1
        return low


def rows(model: Model) -> Iterator[tuple[str, str, str]]:
    """(quantity, value, formula), for a table."""
    fleet, costs = model.fleet, model.costs
    yield "engines", f"{fleet.engines:,}", "assumed"
    yield "tokens/s", f"{model.tokens_per_s:,.0f}", f"engines x {fleet.tokens_per_s:g}"
    yield "requests/s", f"{model.requests_per_s:,.0f}", f"tokens/s / {fleet.reply_tokens} tokens a reply"
    yield "steps/s of an engine", f"{model.steps_per_s:.1f}", f"{fleet.tokens_per_s:g} / {fleet.streams} streams"
    yield "CPU us of a frame", f"{model.message_us:.0f}", "(token at 1 stream - token at n) / (1 - 1/n), measured"
    yield "frames a step", f"{model.frames_per_step:.0f}", "I x (1 - (1 - 1/I)^streams), I ingress replicas"
    yield "frames/s, all", f"{model.frames_per_s:,.0f}", "engines x steps/s x frames a step"
    yield (
        "CPU us/token, ingress + engine replica",
        f"{model.token_us:.0f}",
        "token at n streams - frame / n + frame / tokens a frame",
    )
    yield (
        "ingress replicas",
        f"{model.ingress_replicas:,}",
        f"(tokens/s x token at 1 stream x ingress share + requests/s x {costs.request_us:.0f} us) "
        f"/ {fleet.utilization}",
    )
    yield "ingress cores used", f"{model.ingress_cores:,.0f}", "tokens/s x us/token x ingress share + requests"
    yield "  per engine", f"{model.ingress_cores / fleet.engines:.2f}", ""
    yield "HAProxy cores", f"{model.haproxy_cores:,.0f}", f"tokens/s x {costs.haproxy_us_per_token:.1f} us"
    yield "front-end nodes", f"{model.nodes:,}", f"{fleet.ingress_per_node} ingress replicas and an HAProxy on each"
    yield (
        "front-end cores on an engine's node",
        f"{model.engine_replica_cores:.2f}",
        "tokens/s of one x us/token x engine replica's share",
    )
    yield (
        "controller cores",
        f"{model.controller_cores:.2f}",
        f"{costs.controller_cores:.3f} + {costs.controller_cores_per_replica:.4f} a replica x {model.replicas:,}; "
        "one process",
    )
    yield "frame connections", f"{model.frame_connections:,}", "engines x ingress replicas"
    yield "open files of an ingress replica", f"{model.connections_of_an_ingress:,}", "2 x engines + its clients"
    yield "open files of an engine replica", f"{model.connections_of_an_engine:,}", "2 x ingress replicas"


def markdown(model: Model) -> str:
    """The table and what saturates first."""
    lines = ["| quantity | value | how |", "|---|---:|---|"]
    lines += [f"| {name.strip()} | {value} | {formula} |" for name, value, formula in rows(model)]
    limits = model.limits()
    lines += ["", "What saturates first, as engines are added:", ""]
    lines += [f"- at {engines:,} engines: {what}" for engines, what in limits]
    if not limits:
        lines.append("- nothing of what is modelled, up to 100,000 engines")
    return "\n".join(lines)


def load_costs(path: Path = RESULTS) -> Costs:
    """As the last `make bench` measured them; raises OSError, ValueError or TypeError."""
    return Costs(**json.loads(path.read_text())["costs"])


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="What the front end of many engines costs, from measured figures.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="results.json of a `make bench`")
    for field in dataclasses.fields(Fleet):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(field.default), default=field.default, metavar=f"{field.default:g}")
    arguments = vars(parser.parse_args())
    path = arguments.pop("results")
    try:
        costs = load_costs(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {path} has no measured costs ({error}); run `make bench` first", file=sys.stderr)
        return 1
    print(markdown(Model(costs, Fleet(**arguments))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
