"""What is measured: kinds of requests, at numbers of streams, for some seconds each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from serving_bench.lengths import Lengths
from serving_bench.runner import Load
from serving_bench.workload import Workload

EFFORTS = (("low", 1.0), ("medium", 1.0), ("high", 1.0))
_DRAIN_S = 5.0
"""What is under way when the sending ends."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of requests at one number of streams."""

    kind: str
    words: str
    workload: Workload
    streams: int
    rounds: int
    seconds: float | None
    requests: int | None = None
    """A round; in place of `seconds`."""

    @property
    def load(self) -> Load:
        """Of one round."""
        return Load(concurrency=self.streams, seconds=self.seconds, requests=self.requests)

    def lasts(self, servers: int) -> float:
        """Seconds, roughly; a number of requests is not known to be quick."""
        return servers * self.rounds * ((self.seconds or 2 * _DRAIN_S) + _DRAIN_S)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. `streams` are those of whole replies; the others are measured at `others`."""

    streams: Sequence[int]
    others: int
    rounds: int
    seconds: float
    minutes: float
    """For everything, starts included."""
    reply: tuple[int, int] = (128, 128)
    """Words of reasoning and of the answer, where answers are forced."""
    most_tokens: int = 512
    long_prompt: int = 8000
    shared_prompt: int = 2000
    kinds: Sequence[str] = ("chat", "short", "long", "shared")
    requests: int | None = None


FULL = Extent((1, 64, 256, 512), others=64, rounds=4, seconds=8.0, minutes=60.0)
QUICK = Extent((64, 512), others=256, rounds=2, seconds=3.0, minutes=8.5, kinds=("chat", "short"))
SMALL = Extent((2, 4), 4, rounds=1, seconds=2.0, minutes=4.0, most_tokens=32, long_prompt=400, shared_prompt=200)
"""On a CPU: to see that it works, not what the figures are."""


def cells(extent: Extent) -> Sequence[Cell]:
    """In the order they are measured: what would be missed most comes first."""
    kinds = workloads(extent)
    found = [_cell(extent, "chat", kinds, streams) for streams in extent.streams]
    found += [_cell(extent, kind, kinds, extent.others) for kind in extent.kinds if kind != "chat"]
    return found


def _cell(extent: Extent, kind: str, kinds: Mapping[str, tuple[str, Workload]], streams: int) -> Cell:
    words, workload = kinds[kind]
    seconds = None if extent.requests is not None else extent.seconds
    return Cell(kind, words, workload, streams, extent.rounds, seconds, extent.requests)


def workloads(extent: Extent) -> Mapping[str, tuple[str, Workload]]:
    """What is asked, by name, and in words."""
    chat = Workload(reply=Lengths("fixed", extent.most_tokens), effort=EFFORTS, temperature=0.0, seed=1)
    brief = replace(chat, reply=Lengths("fixed", 32))
    long, shared = extent.long_prompt, extent.shared_prompt
    return {
        "chat": (f"whole replies, at most {extent.most_tokens} tokens", chat),
        "short": ("replies of 8 tokens", replace(chat, reply=Lengths("fixed", 8), seed=2)),
        "long": (f"prompts of {long} words, 32 tokens", replace(brief, prompt=Lengths("fixed", long), seed=3)),
        "shared": (
            f"prompts of {shared} words, nine tenths of them shared, 32 tokens",
            replace(brief, prompt=Lengths("fixed", shared), shared_prefix=0.9, seed=4),
        ),
    }
