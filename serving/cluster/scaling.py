"""Autoscaling policy: the number of replicas that Ray Serve runs of a model. Serve's controller calls it repeatedly.

Serve's own policy scales by requests alone, and never ends the last replica of a model that it may not start again by
itself. This policy scales by the work that engines and ingress replicas report (autoscaling.py), between the same
bounds and with the same delays, while the model is wanted. Serve stops to route to a replica that is to go, and ends it
after its answers, or after graceful_shutdown_timeout_s.

Serve pickles this module by value: nothing in it may refer to what cannot be pickled.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from ray.exceptions import RayError
from ray.serve.config import AutoscalingContext

from serving.cluster.autoscaling import Queued, engines_for, work_of
from serving.cluster.stores.lifecycle import keep_replicas, wanted_now
from serving.cluster.stores.queued import queued_now

POLICY = "serving.cluster.scaling:LifePolicy"
"""Import path of the policy. The charts of installed releases name it too, so the class keeps its name."""

UPSCALE_DELAY_S = 30.0
DOWNSCALE_DELAY_S = 600.0
"""Serve's defaults (ray/serve/config.py, AutoscalingConfig)."""

FIRST_TOKEN_S = 2.5
"""The objective of the alerts (grafana/rules/recording.yaml)."""

_READ_EVERY_S = 1.0
_READ_WITHIN_S = 1.0
_UNLOAD_AFTER_S = 2.5
"""By then every ingress replica, which read once a second, knows and sends no more requests."""


class LifePolicy:
    """Autoscaling by a model's lifecycle. Serve makes one for each deployment, and another when the deployment changes.

    `fewest` is the number of replicas at least, while the model is wanted. None means a fixed number: as many as
    Serve's configuration allows. The keywords are then the same for any number, and changing it restarts no replica.

    `first_token_s` is the objective for requests that wait. `requests`: scale by target_ongoing_requests too; engines
    that do not tell their load are scaled by it in any case.
    """

    def __init__(
        self, model: str, fewest: int | None = None, first_token_s: float = FIRST_TOKEN_S, requests: bool = False
    ) -> None:
        self._model = model
        self._fewest = fewest
        self._first_token_s = first_token_s
        self._by_requests = requests
        self._queued = Queued()
        self._loaded = fewest != 0
        self._has_read = False
        self._read_at = float("-inf")
        self._unwanted_since: float | None = None
        self._told: int | None = None
        self._drift = Drift()

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas that Serve is to run, and an empty state for Serve to keep."""
        now = time.monotonic()
        if now - self._read_at >= _READ_EVERY_S:
            self._read_at = now
            self._read(now)
        count = self._count(context, now)
        if count != self._told and self._tell(count):
            self._told = count
        return count, {}

    def _count(self, context: AutoscalingContext, now: float) -> int:
        if not self._loaded:
            waited = self._unwanted_since is not None and now - self._unwanted_since >= _UNLOAD_AFTER_S
            # Serve starts a deployment without replicas again as long as it remembers calls that waited for one
            # (ray/serve/autoscaling_policy.py, _get_cold_start_scale_up_replicas); it forgets them after 30 s.
            unload = context.target_num_replicas == 0 or (waited and not context.total_queued_requests)
            return 0 if unload else int(context.target_num_replicas)
        most: int = context.config.max_replicas
        fewest = most if self._fewest is None else max(1, self._fewest)
        if fewest >= most:
            return most
        target: int = min(most, max(fewest, context.target_num_replicas))
        running = context.current_num_replicas
        if running == 0:
            return target
        return self._drift.follow(min(most, max(fewest, self._desired(context, running))), target, now)

    def _desired(self, context: AutoscalingContext, running: int) -> int:
        work = work_of(context.aggregated_metrics or {}, self._queued)
        by_load = 0 if work is None else engines_for(work, running, self._first_token_s)
        if work is not None and not self._by_requests:
            return by_load
        requests = context.total_num_requests + (self._queued.sequences if work is None else 0)
        by_requests: int = math.ceil(requests / context.config.get_target_ongoing_requests())
        return max(by_load, by_requests)

    def _read(self, now: float) -> None:
        try:
            wanted = wanted_now(self._model, _READ_WITHIN_S)
            if self._fewest is not None:
                self._queued = queued_now(self._model, _READ_WITHIN_S)
        except (RayError, TimeoutError) as error:
            logging.getLogger(__name__).warning("it cannot be read whether %s is wanted: %s", self._model, error)
            return
        loaded = self._fewest != 0 if wanted is None else wanted.loaded
        if loaded:
            self._unwanted_since = None
        elif self._unwanted_since is None:
            # What was not wanted before this policy was made has no replica that a request could have come to.
            self._unwanted_since = now if self._has_read else float("-inf")
        self._loaded, self._has_read = loaded, True

    def _tell(self, count: int) -> bool:
        try:
            keep_replicas(self._model, count, _READ_WITHIN_S)
        except (RayError, TimeoutError) as error:
            logging.getLogger(__name__).warning("it cannot be told how many replicas of %s: %s", self._model, error)
            return False
        return True


class Drift:
    """Lets a number follow another one that has been above or below it for long enough."""

    def __init__(self) -> None:
        self._direction = 0
        self._since = 0.0

    def follow(self, desired: int, current: int, now: float) -> int:
        """`desired` after the delay, `current` until then; `now` is monotonic, in seconds."""
        direction = (desired > current) - (desired < current)
        if direction != self._direction:
            self._direction, self._since = direction, now
        delay = UPSCALE_DELAY_S if direction > 0 else DOWNSCALE_DELAY_S
        if direction == 0 or now - self._since < delay:
            return current
        self._direction = 0
        return desired
