"""Models that come and go on a live cluster: their processes are gone, and the next request has them back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from openai import InternalServerError, OpenAI

from tests.e2e.conftest import Stack, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COMPLETION = "<|channel|>analysis<|message|>Greet.<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|return|>"
LONG = "<|channel|>final<|message|>" + " ".join(str(number) for number in range(200)) + "<|return|>"
SETTINGS = """
engine: scripted
script: script.jsonl
ingress_replicas: 2
models:
  steady: {source: demo}
  idle:
    source: demo
    idle: {after_s: 5}
  unused:
    source: demo
    replicas: {min: 0, max: 2}
"""
ASKED: Any = {"messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("life")
    lines = [
        {"completion": COMPLETION},
        {"prompt_contains": "slowly", "completion": LONG, "step_ms": 30},
    ]
    (directory / "script.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = directory / "serving.yaml"
    config.write_text(SETTINGS)
    with started(directory, "--config", str(config)) as running:
        yield running
    # Though some models have no replica that could be told to stop
    assert "not everything stopped" not in running.output()


@pytest.fixture(scope="module")
def http(cluster: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.root, timeout=120) as http:
        yield http


@pytest.fixture(scope="module")
def client(cluster: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{cluster.root}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


def answer(client: OpenAI, model: str) -> str | None:
    content: str | None = client.chat.completions.create(model=model, **ASKED).choices[0].message.content
    return content


def life(http: httpx.Client, model: str) -> dict[str, Any]:
    (found,) = (card for card in http.get("/admin/models").json()["data"] if card["name"] == model)
    return dict(found)


def replicas(cluster: Stack, model: str) -> list[psutil.Process]:
    """The model's engine replicas, as processes."""
    found = []
    for process in cluster.processes():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue  # it ended meanwhile
        if "ray::" in command and f"engine-{model}" in command:
            found.append(process)
    return found


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.1)


def test_an_unloaded_models_processes_are_gone_until_it_is_loaded(
    cluster: Stack, http: httpx.Client, client: OpenAI
) -> None:
    # Given a model with one replica
    assert answer(client, "steady") == "Hello!"
    assert len(replicas(cluster, "steady")) == 1
    # When it is unloaded in the middle of an answer
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(slowly, client, begun)
        assert begun.wait(30)
        unloaded = http.post("/admin/models/steady/unload?wait=true").json()
        # Then that is given to its end
        assert slow.result(60).endswith("198 199")
    assert (unloaded["state"], unloaded["replicas"]) == ("unloaded", {"running": 0, "wanted": 0})
    until(lambda: not replicas(cluster, "steady"))
    # And requests are refused, which has nobody load it, while the server is as ready as before
    for _ in range(5):
        with pytest.raises(InternalServerError, match="is unloaded"):
            answer(client, "steady")
    assert http.get("/ready").json()["models"]["steady"] == {"status": "unloaded"}
    assert replicas(cluster, "steady") == []
    # Until it is loaded
    loaded = http.post("/admin/models/steady/load?wait=true").json()
    assert (loaded["state"], loaded["replicas"]["running"]) == ("loaded", 1)
    assert answer(client, "steady") == "Hello!"


def slowly(client: OpenAI, begun: threading.Event) -> str:
    asked: Any = [{"role": "user", "content": "slowly"}]
    text = ""
    for chunk in client.chat.completions.create(model="steady", messages=asked, stream=True):
        text += chunk.choices[0].delta.content or ""
        if text:
            begun.set()
    return text


def test_an_idle_model_goes_and_the_next_requests_wait_for_it(
    cluster: Stack, http: httpx.Client, client: OpenAI
) -> None:
    # Given a model that has been idle
    until(lambda: life(http, "idle")["state"] == "unloaded")
    until(lambda: not replicas(cluster, "idle"))
    assert life(http, "idle")["cause"] == "idle"
    # When several ask for it, through whichever ingress replica
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: answer(client, "idle"), range(6)))
    # Then it is there again for all of them, and goes again
    assert answers == ["Hello!"] * 6
    assert life(http, "idle")["cause"] == "request"
    until(lambda: life(http, "idle")["state"] == "unloaded")
    metrics = http.get("/metrics").text
    assert 'serving_model_state{deployment="ingress"' in metrics


def test_a_model_without_replicas_comes_when_it_is_asked_for(
    cluster: Stack, http: httpx.Client, client: OpenAI
) -> None:
    assert life(http, "unused")["replicas"]["running"] in (0, None)
    assert replicas(cluster, "unused") == []
    assert answer(client, "unused") == "Hello!"
    assert life(http, "unused")["replicas"] == {"running": 1, "wanted": 1}
