"""Ray's start is waited for longer than Ray itself waits."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import ray._private.services as services
from ray._private.node import Node

from serving.cluster.run import ray_patience
from serving.cluster.run.ray_patience import patient


class Registry:
    """A GCS that knows the node after some questions."""

    def __init__(self, unknown_times: int) -> None:
        self.asked = 0
        self._unknown_times = unknown_times

    def get_node(self, gcs_address: str, node_id: str) -> Any:
        self.asked += 1
        if self.asked <= self._unknown_times:
            raise RuntimeError("no such node")
        return {"node": node_id, "gcs": gcs_address}


def test_ray_still_asks_in_the_way_that_is_waited_for() -> None:
    source = inspect.getsource(Node.__init__)

    assert "ray._private.services.get_node(" in source
    assert "raylet_start_wait_time_s = 30" in source
    assert "except RuntimeError" in source


def test_the_raylet_may_take_its_time_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, said = Registry(5), list[str]()
    monkeypatch.setattr(services, "get_node", registry.get_node)
    monkeypatch.setattr(ray_patience, "_raylet_lives", lambda: True)
    monkeypatch.setattr(ray_patience, "_ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(ray_patience, "_SAID_AFTER_S", -1.0)

    with patient(said.append):
        node = services.get_node("gcs", "node")

    assert node == {"node": "node", "gcs": "gcs"}
    assert registry.asked == 6
    assert len(said) == 5
    assert said[0].startswith("waiting for its raylet to register, at most 300 s")
    assert services.get_node == registry.get_node


def test_a_raylet_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(5)
    monkeypatch.setattr(services, "get_node", registry.get_node)

    with patient(lambda words: None), pytest.raises(RuntimeError, match="no such node"):
        services.get_node("gcs", "node")

    assert registry.asked == 1


@pytest.mark.parametrize(("load", "words"), [(40.0, "load 40 on 2 cores"), (1.0, "at most 300 s")])
def test_a_busy_machine_is_named(monkeypatch: pytest.MonkeyPatch, load: float, words: str) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    assert ray_patience.waiting_words().endswith(words)
