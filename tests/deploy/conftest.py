"""The chart, rendered by Helm itself (helm-python-sdk)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "gpt-oss-serving"
CI = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

REPOSITORY = "registry.example.com/gpt-oss-serving"
SHARED = {"modelCache": {"accessModes": ["ReadWriteMany"]}}
"""Values of a model cache that several engine pods can mount."""


@dataclass(frozen=True)
class Rendered:
    """What a release consists of."""

    files: dict[str, str]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Every object, hooks too."""
        return [
            item
            for path, text in self.files.items()
            if not path.endswith("NOTES.txt")
            for item in yaml.safe_load_all(text)
            if item
        ]

    @property
    def notes(self) -> str:
        (text,) = (text for path, text in self.files.items() if path.endswith("NOTES.txt"))
        return text

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        (found,) = (item for item in self.all(kind) if name is None or item["metadata"]["name"] == name)
        return found

    @property
    def ray_service(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.one("RayService")["spec"]
        return spec

    @property
    def cluster(self) -> dict[str, Any]:
        config: dict[str, Any] = self.ray_service["rayClusterConfig"]
        return config

    @property
    def serve_config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(self.ray_service["serveConfigV2"])
        return config

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """Worker groups by name."""
        return {group["groupName"]: group for group in self.cluster["workerGroupSpecs"]}

    @property
    def ray_pods(self) -> dict[str, dict[str, Any]]:
        """Pod templates of Ray's nodes by group; the head's is `head`."""
        pods = {name: group["template"] for name, group in self.groups.items()}
        return {"head": self.cluster["headGroupSpec"]["template"], **pods}

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """Every pod template, by what makes it."""
        others = {
            f"{item['kind']} {item['metadata']['name']}": item["spec"]["template"]
            for item in self.objects
            if item["kind"] in ("Job", "Deployment", "StatefulSet")
        }
        return self.ray_pods | others | {f"Pod {item['metadata']['name']}": item for item in self.all("Pod")}

    @property
    def settings_text(self) -> str:
        (text,) = (
            item["data"]["settings.yaml"] for item in self.all("ConfigMap") if "settings.yaml" in item.get("data", {})
        )
        return str(text)


Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: Chart) -> Render:
    """render(values) or render(ci="name"), each as release `gpt-oss` in namespace `llm`."""

    def _render(values: Mapping[str, Any] | None = None, *, ci: str | None = None) -> Rendered:
        chosen = dict(values or {})
        if ci is not None:
            chosen = yaml.safe_load((CHART / "ci" / f"{ci}-values.yaml").read_text()) | chosen
        chosen["image"] = {"repository": REPOSITORY} | chosen.get("image", {})
        return Rendered(chart.render(chosen, name="gpt-oss", namespace="llm"))

    return _render


@pytest.fixture(params=CI)
def release(request: pytest.FixtureRequest, render: Render) -> Rendered:
    """Each of the chart's ci/ values."""
    return render(ci=request.param)
