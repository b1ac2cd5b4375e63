"""The text of a rendered RayService, run by Ray on this machine as KubeRay would have it run, without a GPU."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from helm_python import Chart

from serving.settings.cache_dir import default_cache_dir
from tests.e2e import supervised
from tests.e2e.conftest import free_port, side_ports, strays

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "gpt-oss-serving"
READY_S = 300.0
BIN = Path(sys.executable).parent
COMPLETION = (
    "<|channel|>analysis<|message|>Light scatters.<|end|><|start|>assistant"
    "<|channel|>final<|message|>Blue light is scattered more than red light by the molecules of the air.<|return|>"
)

# What the operator does when a RayService appears: `serve.start` and the declarative deploy of Serve's REST API.
OPERATOR = """
import os, sys, yaml, ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

labels = yaml.safe_load(sys.argv[2])
ray.init(address="local", labels=labels, num_cpus=64, include_dashboard=False, log_to_driver=False,
         namespace="serve", object_store_memory=128 * 1024 * 1024)
config = ServeDeploySchema.model_validate(yaml.safe_load(sys.stdin.read()))
serve.start(proxy_location=config.proxy_location, http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
client = _get_global_client()
client.deploy_apps(config)
print("deployed", flush=True)
orders = os.open(sys.argv[3], os.O_RDONLY)
while line := os.read(orders, 1 << 20):
    client.deploy_apps(ServeDeploySchema.model_validate(yaml.safe_load(line)))
    print("deployed", flush=True)
serve.shutdown()
ray.shutdown()
"""


class Cluster:
    """A Ray cluster of one node, with the labels of all the chart's nodes, that runs a rendered RayService."""

    def __init__(self, directory: Path, values: dict[str, Any]) -> None:
        self.directory = directory
        self.port = free_port()
        service = self.write(values)
        labels = {"gpt-oss-serving/ingress": "true", "gpt-oss-serving/engine": "engine-demo"}
        pod = service["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "RAY_"))}
        environment |= {each["name"]: each["value"] for each in pod["env"] if "value" in each}
        environment |= {
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(BIN / "serving-haproxy"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # A pod has its ports to itself; here another server may have them.
            **side_ports(),
        }
        self.log = directory / "operator.log"
        # The operator reads further configurations from here. Open for reading too: that waits for nobody.
        orders = directory / "orders"
        os.mkfifo(orders)
        self.orders = os.open(orders, os.O_RDWR)
        operator = [sys.executable, "-c", OPERATOR, str(self.port), yaml.safe_dump(labels), str(orders)]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, supervised.__file__, *operator],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(self.local(service["serveConfigV2"]).encode())
        self.process.stdin.close()

    def write(self, values: dict[str, Any]) -> dict[str, Any]:
        """Render; the settings go where the ConfigMap would be mounted. Returns the RayService's spec."""
        with Chart.load(CHART) as chart:
            files = chart.render(values, name="gpt-oss", namespace="llm")
        texts = [text for path, text in files.items() if not path.endswith("NOTES.txt")]
        objects = [item for text in texts for item in yaml.safe_load_all(text) if isinstance(item, dict)]
        (settings,) = (item for item in objects if "settings.yaml" in item.get("data", {}))
        # /models is a volume of the pods.
        text = settings["data"]["settings.yaml"].replace("/models/serving", str(default_cache_dir()))
        # What is tried here is the chart, Ray and Serve: a written engine starts in seconds, and often here.
        script = self.directory / "script.jsonl"
        script.write_text(json.dumps({"completion": COMPLETION, "step_ms": 5}))
        assert "engine" not in yaml.safe_load(text)
        (self.directory / "settings.yaml").write_text(f"{text}\nengine: scripted\nscript: {script}\n")
        (service,) = (item for item in objects if item.get("kind") == "RayService")
        spec: dict[str, Any] = service["spec"]
        return spec

    def local(self, config: str) -> str:
        # One node stands for all of the chart's, so a replacement finds its place where the old engine still is.
        config = re.sub(r"\n *max_replicas_per_node: 1", "", config)
        return config.replace("/etc/gpt-oss-serving/settings.yaml", str(self.directory / "settings.yaml"))

    def upgrade(self, values: dict[str, Any]) -> None:
        """What `helm upgrade` and the operator do to a running cluster."""
        os.write(self.orders, self.local(self.write(values)["serveConfigV2"]).encode())

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self, path: str, good: Any) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                reply = httpx.get(self.root + path, timeout=5)
                if good(reply):
                    return
                state = reply.text
            except httpx.HTTPError as error:
                state = repr(error)
            assert time.monotonic() < deadline, f"{state}\n{self.log.read_text()}"
            time.sleep(0.2)

    def stop(self) -> None:
        os.close(self.orders)
        try:
            if "deployed" in self.log.read_text():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(90)
        finally:
            self.process.terminate()  # which ends everything below it
            self.process.wait(30)


VALUES: dict[str, Any] = yaml.safe_load((CHART / "ci" / "cpu-demo-values.yaml").read_text())
VALUES["engineWorkers"]["sparePods"] = 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("chart"), VALUES)
    try:
        running.wait("/ready", lambda reply: reply.status_code == 200)
        yield running
    finally:
        running.stop()
    assert strays(str(running.directory)) == []


def test_helms_smoke_test_passes(cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, str(CHART / "files" / "smoke.py")],
        env={"BASE_URL": cluster.root, "METRICS_URL": f"{cluster.root}/metrics", "MODEL": "demo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


class Load:
    """Clients that chat without a pause; every reply that was not a whole answer is kept."""

    def __init__(self, root: str, clients: int) -> None:
        self.url = f"{root}/v1/chat/completions"
        self.answers = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _chat(self) -> None:
        body = {
            "model": "demo",
            "reasoning_effort": "low",
            "stream": True,
            "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        }
        while not self._stop.is_set():
            try:
                reply = httpx.post(self.url, json=body, timeout=60)
            except httpx.HTTPError as failure:
                self.failures.append(repr(failure))
                continue
            if reply.status_code == 200 and reply.text.endswith("data: [DONE]\n\n") and '"error"' not in reply.text:
                self.answers += 1
            else:
                self.failures.append(f"{reply.status_code} {reply.text[-500:]}")


def test_a_changed_setting_arrives_under_load_without_a_failed_request(cluster: Cluster) -> None:
    settings = {"models": {"demo": {"source": "demo", "aliases": ["gpt-oss", "renamed"]}}}
    with Load(cluster.root, clients=3) as load:
        # When an alias is added by an upgrade, for which every replica is replaced
        cluster.upgrade(VALUES | {"settings": settings})
        cluster.wait("/v1/models", lambda reply: "renamed" in reply.text)
        before = load.answers
        cluster.wait("/ready", lambda reply: reply.status_code == 200 and load.answers > before + 20)
    # Then nobody noticed
    assert load.failures == []
    assert load.answers > 20


def test_a_model_comes_and_goes_though_its_number_of_replicas_is_the_charts(cluster: Cluster) -> None:
    with httpx.Client(base_url=cluster.root, timeout=150) as client:
        unloaded = client.post("/admin/models/demo/unload?wait=true").json()
        assert (unloaded["state"], unloaded["replicas"]) == ("unloaded", {"running": 0, "wanted": 0})
        # An upgrade of something else does not bring it back, and is no fault of the application's.
        cluster.upgrade(VALUES | {"settings": {"models": {"demo": {"source": "demo", "aliases": ["other"]}}}})
        cluster.wait("/v1/models", lambda reply: "other" in reply.text)
        cluster.wait("/ready", lambda reply: reply.status_code == 200 and "unloaded" in reply.text)
        loaded = client.post("/admin/models/demo/load?wait=true").json()
        assert (loaded["state"], loaded["replicas"]) == ("loaded", {"running": 1, "wanted": 1})
    with Load(cluster.root, clients=1) as load:
        cluster.wait("/ready", lambda reply: load.answers > 0 or bool(load.failures))
    assert load.failures == []
