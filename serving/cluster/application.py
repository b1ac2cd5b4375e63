"""The application graph: one engine deployment a model, one ingress in front of them all.

One function makes it, for `serving up` and for a RayService's `import_path: serving.cluster.application:application`,
whose `args` name a settings file: `args: {config: /etc/serving/settings.yaml}`. With `revision: X` beside it, the file
is awaited until it has a line `# revision X`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from serving.cluster.engine_replica import EngineReplica
from serving.cluster.ingress import Ingress
from serving.cluster.names import INGRESS, engine_deployment
from serving.cluster.scaling import POLICY
from serving.cluster.stores.lifecycle import replicas_at_first
from serving.engine.device import Device, installed_device
from serving.settings.loading.load import load_settings
from serving.settings.loading.revision import wait_for_revision
from serving.settings.models import ModelSettings, ReplicaSettings
from serving.settings.reasoning import ReasoningSettings
from serving.settings.tree import Settings
from serving.tenancy.auth.exposure import check_exposure

# vLLM queues by itself, and what waits in Serve's router cannot be seen by it; so Serve is told to hold nothing back.
_MAX_ONGOING_REQUESTS = 100_000
_INGRESS_CPUS = 0.2
_CPU_ENGINE_CPUS = 0.5
_HEALTH_CHECK_PERIOD_S = 2.0
_UNREPORTED_TARGET = 32
"""Requests under way that are aimed at in a replica whose engine does not tell its load."""


def application(args: dict[str, str]) -> serve.Application:
    """The graph that a settings file describes; raises SettingsError."""
    config = args.get("config")
    if config and "revision" in args:
        wait_for_revision(Path(config), args["revision"])
    settings = load_settings(config=Path(config) if config else None, overrides={}, environ=os.environ)
    # Where Serve listens is said elsewhere, and in a cluster that is seldom loopback.
    check_exposure(settings, host="the cluster's network")
    return build(settings)


def build(settings: Settings, *, more_ingress: int = 0, ingress_version: str | None = None) -> serve.Application:
    """The graph of `settings`.

    Deployed over another one, only what the settings change for it is restarted: Serve replaces the replicas of a
    deployment whose version is another. `more_ingress` replicas more than the settings say, and an `ingress_version`
    that is not theirs, are what a rolling update needs on its way.
    """
    device = installed_device() if settings.engine == "vllm" else "cpu"
    handles: dict[str, Any] = {
        name: serve.deployment(EngineReplica)
        .options(
            **engine_options(name, model, settings.http.longest_answer_s, device),
            # Serve's own way to say that nothing has changed; its public form went with single deployments.
            version=fingerprint(engine_settings(settings, name)),
            _internal=True,
        )
        .bind(engine_settings(settings, name), name)
        for name, model in settings.models.items()
    }
    ingress = serve.deployment(serve.ingress()(Ingress))
    return ingress.options(
        name=INGRESS,
        num_replicas=settings.ingress_replicas + more_ingress,
        version=ingress_version or fingerprint(settings),
        _internal=True,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=settings.http.longest_answer_s,
        ray_actor_options={"num_cpus": _INGRESS_CPUS},
    ).bind(settings, handles)


def engine_settings(settings: Settings, name: str) -> Settings:
    """The part of `settings` that an engine replica of model `name` sees, the rest as by default."""
    plain = ModelSettings()
    model = settings.models[name]
    sleeps = model.idle is not None and model.idle.action == "sleep"
    # Prompts to warm up with are rendered as most requests are.
    reasoning = ReasoningSettings(default_effort=model.reasoning.default_effort) if model.warm_up else plain.reasoning
    model = model.model_copy(
        update={
            "aliases": plain.aliases,
            "reasoning": reasoning,
            "replicas": plain.replicas,
            "idle": model.idle if sleeps else None,
            "hold": plain.hold,
        }
    )
    return Settings(
        engine=settings.engine,
        script=settings.script,
        models={name: model},
        frames=settings.frames,
        cache_dir=settings.cache_dir,
    )


def fingerprint(settings: Settings) -> str:
    """The same for equal settings. Secrets go into it, and do not come out."""
    return hashlib.sha256(pickle.dumps(settings.model_dump())).hexdigest()[:16]


def engine_options(name: str, model: ModelSettings, longest_answer_s: float, device: Device) -> dict[str, Any]:
    """Options of a model's engine deployment: replicas, and the devices each is given.

    On one node under `mp` the replica is given TP*PP GPUs and vLLM's workers are its children. Under `ray` the
    replica gets a placement group of TP*PP one-GPU bundles, packed on few nodes, and vLLM's workers are actors in it
    (vllm/v1/executor/ray_utils.py takes the current placement group); the replica itself sits in the first, without a
    GPU of its own. Off a GPU nothing but a share of a CPU is asked for.
    """
    options: dict[str, Any] = {
        "name": engine_deployment(name),
        "max_ongoing_requests": _MAX_ONGOING_REQUESTS,
        "health_check_period_s": _HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": 30.0,
        "graceful_shutdown_timeout_s": longest_answer_s,
        "max_constructor_retry_count": 3,
    }
    if device == "cpu":
        options["ray_actor_options"] = {"num_cpus": _CPU_ENGINE_CPUS}
    elif model.resolved_executor == "ray":
        options["ray_actor_options"] = {"num_cpus": 1, "num_gpus": 0}
        options["placement_group_bundles"] = [{"CPU": 1, "GPU": 1}] + [{"GPU": 1}] * (model.devices - 1)
        options["placement_group_strategy"] = "PACK"
    else:
        options["ray_actor_options"] = {"num_cpus": 1, "num_gpus": model.devices}
    options["autoscaling_config"] = _scaling(name, model.replicas)
    return options


def _scaling(name: str, replicas: ReplicaSettings) -> AutoscalingConfig:
    """Every model may be unloaded, so to Serve any number is within bounds; the policy keeps to the settings'."""
    most = replicas.max or replicas.min
    bounds: dict[str, Any] = {}
    if most != replicas.min:
        bounds = {"fewest": replicas.min, "first_token_s": replicas.target_first_token_s}
        if replicas.target_ongoing_requests is not None:
            bounds["requests"] = True
    return AutoscalingConfig(
        min_replicas=0,
        initial_replicas=replicas_at_first(name, replicas.min, most),
        max_replicas=most,
        target_ongoing_requests=replicas.target_ongoing_requests or _UNREPORTED_TARGET,
        upscale_delay_s=0,
        downscale_delay_s=0,
        policy=AutoscalingPolicy(policy_function=POLICY, policy_kwargs={"model": name, **bounds}),
    )
