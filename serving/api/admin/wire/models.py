"""Replies of the routes below /admin/models."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from serving.engine.lifecycle.state import Cause, State


class ReplicaCounts(TypedDict):
    """Replicas of a model; null where this process has not heard of it yet."""

    running: int | None
    wanted: int | None


class ReplicaReport(TypedDict):
    """Report of a replica: whether it sleeps, and the machine's memory that its processes take.

    `device_memory_bytes` are in use on its GPUs, by any process; null without GPUs.
    """

    asleep: bool
    memory_bytes: int
    device_memory_bytes: int | None


class ModelLifecycleCard(TypedDict):
    """Lifecycle state of a model, its cause and its time; times are in seconds since the epoch.

    `held` requests wait at the ingress replica that replies. `last_used` is null for one that nobody has used.
    """

    object: Literal["model.life"]
    name: str
    state: State
    cause: Cause
    since: int
    last_used: int | None
    held: int
    replicas: ReplicaCounts
    reports: list[ReplicaReport]


class ModelLifecycleList(TypedDict):
    """All models of the settings."""

    object: Literal["list"]
    data: list[ModelLifecycleCard]
