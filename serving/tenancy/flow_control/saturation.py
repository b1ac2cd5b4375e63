"""Saturation of a model's engines, from the loads that they report.

Requests beyond what engines can work on wait in the admission queue, where teams share fairly. In an engine's own
queue they would wait in order of arrival; an engine whose KV cache is full preempts sequences and computes them again.

The Gateway API's inference extension holds requests back at 5 waiting requests or 80 % of the KV cache of every engine
(pkg/epp/saturationdetector). Prompts and answers differ in length by a factor of thousands, so tokens are counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.engine.load import EngineLoad, KvCache
from serving.tenancy.flow_control.fair_queue import QueueEntry
from serving.tenancy.throughput import Mean

REPORT_EVERY_S = 0.05
"""Interval of an engine's reports while it has requests; the Gateway API scrapes engines as often."""
_BUSY_FOR_S = 2.0
"""Validity of a busy engine's report: 40 intervals, so that a loaded machine's late reports still count."""
_IDLE_FOR_S = 60.0
"""Validity of an idle engine's report. It reports again with its next request, and when it is asked for its info."""
_UNREPORTED_S = 2 * REPORT_EVERY_S
"""Age from which a request is in the next report: one interval on its way to the engine, one until the report."""
_STEPS_WAITING = 4
"""Scheduler steps' worth of new prompt tokens at an engine: with fewer it would run out of prompts between reports.

4 steps of 8,192 tokens in 0.1 s (_UNREPORTED_S) are 330,000 tokens/s, more than one engine of any GPU computes.
"""
_KEPT_FREE = 0.1
"""Part of the KV cache kept for answers that are longer than usual; 0.2 where answers are not counted at all."""


class Saturation:
    """Decides whether a request may go to the engines now.

    `clock` is monotonic, in seconds; `token_s` is the time that engines take for a token of an answer. `resize` says
    how many engines serve the model and how many ingress replicas share them; each ingress replica uses an equal part
    of what the engines have left. Engines that do not report are not saturated: the slots of the admission queue alone
    limit them.
    """

    def __init__(self, clock: Callable[[], float], token_s: Mean) -> None:
        self._clock = clock
        self._token_s = token_s
        self._engines = self._ingresses = 1
        self._loads: dict[str, tuple[float, EngineLoad]] = {}
        self._unreported: dict[int, tuple[float, int]] = {}
        self._unreported_tokens = 0
        self._working: dict[int, tuple[float, QueueEntry]] = {}
        self._answer_tokens = 0.0
        self._computed = Mean(1.0)

    def resize(self, *, engines: int, ingresses: int) -> None:
        """Set the number of engines and of ingress replicas."""
        self._engines, self._ingresses = max(1, engines), max(1, ingresses)

    def report(self, load: EngineLoad) -> None:
        """Take an engine's load."""
        self._loads.pop(load.engine, None)  # to the end: the dictionary is in order of arrival
        self._loads[load.engine] = self._clock(), load

    @property
    def ratio(self) -> float:
        """Part in use of what engines may have from this ingress replica; from 1 on nothing more goes there."""
        loads = self._known()
        if len(loads) < self._engines:
            return 0.0
        return max(0.0, self._prompts(loads), self._kv_cache(loads))

    def admits(self, item: QueueEntry, in_use: int) -> bool:
        """Whether engines can work on `item` while this ingress replica has `in_use` sequences there.

        True while `in_use` is 0 and while an engine is idle, so that no request waits for a report that never comes.
        """
        if not self._loads or not in_use:
            return True
        loads = self._known()
        if len(loads) < self._engines:
            return True
        if not self._unreported and any(load.idle for load in loads):
            return True
        return self._prompts(loads) < 1 and self._fits(item, loads)

    def admitted(self, item: QueueEntry) -> None:
        """Count `item`, which goes to an engine now."""
        now = self._clock()
        self._working[id(item)] = now, item
        self._answer_tokens += item.answer_tokens
        if self._loads:
            self._unreported[id(item)] = now, item.prompt_tokens
            self._unreported_tokens += item.prompt_tokens

    def ended(self, item: QueueEntry) -> None:
        """Count `item` no more: the engine has made its answer, or was told to stop."""
        del self._working[id(item)]
        self._reported(id(item))
        self._answer_tokens = self._answer_tokens - item.answer_tokens if self._working else 0.0

    def computed(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Learn how much of a prompt engines compute, as their prefix cache has the rest."""
        if prompt_tokens > 0:
            self._computed.add(1 - min(1.0, cached_tokens / prompt_tokens))

    def _known(self) -> list[EngineLoad]:
        """Valid reports of as many engines as run, the latest where there are more; forgets the others."""
        now = self._clock()
        for engine, (at, load) in list(self._loads.items()):
            if now - at > (_IDLE_FOR_S if load.idle else _BUSY_FOR_S):
                del self._loads[engine]
        latest = max((at for at, _ in self._loads.values()), default=now)
        counted_from = max(latest - _UNREPORTED_S, now - _BUSY_FOR_S)
        for item in [item for item, (at, _) in self._unreported.items() if at <= counted_from]:
            self._reported(item)
        return [load for _, load in self._loads.values()][-self._engines :]

    def _reported(self, item: int) -> None:
        _, tokens = self._unreported.pop(item, (0.0, 0))
        self._unreported_tokens -= tokens

    def _prompts(self, loads: Sequence[EngineLoad]) -> float:
        """Prompt tokens that engines have yet to compute, in relation to the most that may wait there."""
        most = sum(_STEPS_WAITING * load.step_tokens for load in loads if load.step_tokens is not None)
        if any(load.step_tokens is None for load in loads):
            return 0.0
        waiting = sum(load.waiting_tokens for load in loads) + self._unreported_tokens * self._ingresses
        return waiting * self._computed.value / most

    def _kv_cache(self, loads: Sequence[EngineLoad]) -> float:
        """Part of this ingress replica's share of the KV cache that is in use or promised."""
        caches = _caches(loads)
        if len(caches) < len(loads):
            return 0.0
        left = self._left(loads, caches) - self._growth(None) / caches[0].block_tokens
        return 1 - left / (sum(map(_usable, caches)) / self._ingresses)

    def _fits(self, item: QueueEntry, loads: Sequence[EngineLoad]) -> bool:
        """Whether the KV cache that is left holds the prompt and the usual answer, and what the others will grow by."""
        caches = _caches(loads)
        if len(caches) < len(loads):
            return True
        cache, left = caches[0], self._left(loads, caches)
        prompt = cache.blocks_for(item.prompt_tokens)
        alone = min(prompt + item.answer_tokens / cache.block_tokens, max(map(_usable, caches)))
        if alone > max(map(_left_of, loads, caches)) or alone > left:
            return False
        at_most = prompt + (self._answer_tokens + item.answer_tokens) / cache.block_tokens
        return at_most <= left or prompt + self._growth(item) / cache.block_tokens <= left

    def _left(self, loads: Sequence[EngineLoad], caches: Sequence[KvCache]) -> float:
        """Blocks left for this ingress replica, without those of requests that no report has yet."""
        return sum(map(_left_of, loads, caches)) / self._ingresses - caches[0].blocks_for(self._unreported_tokens)

    def _growth(self, item: QueueEntry | None) -> float:
        """Tokens by which the requests at engines, and `item`, will exceed what they hold now when they hold most.

        Answers are taken to be of the usual length and made at the usual pace. Whenever one ends, those that are left
        have all grown by as much as it had; the past-future scheduler (Gong et al., ASPLOS 2025) finds the peak so.
        """
        now, token_s = self._clock(), self._token_s.value
        answers: list[tuple[float, int, float]] = []
        held = 0.0
        working = list(self._working.values()) if item is None else [*self._working.values(), (now, item)]
        for since, each in working:
            made = min(each.answer_tokens, each.slots * (now - since) / token_s if token_s else 0.0)
            answers.append(((each.answer_tokens - made) / each.slots, each.slots, each.prompt_tokens + made))
            held += each.prompt_tokens + made
        answers.sort(reverse=True)
        peak, still_held, sequences = held, 0.0, 0
        for left, slots, tokens in answers:
            still_held += tokens
            sequences += slots
            peak = max(peak, still_held + sequences * left)
        return peak - held


def _caches(loads: Sequence[EngineLoad]) -> list[KvCache]:
    return [load.kv_cache for load in loads if load.kv_cache is not None]


def _usable(cache: KvCache) -> float:
    return cache.blocks * (1 - _KEPT_FREE)


def _left_of(load: EngineLoad, cache: KvCache) -> float:
    if load.waiting and not load.waiting_tokens:
        return 0.0  # sequences were preempted, and are to come back
    return max(0.0, _usable(cache) - cache.used - cache.blocks_for(load.waiting_tokens))
