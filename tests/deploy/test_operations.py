"""docs/operations.md: its commands are run where that can be, rendered by Helm, or held against what is rendered."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from helm_python import Chart

from serving.settings.loading.teams_file import read_teams_file
from tests.deploy.conftest import CHART, REPOSITORY, Rendered

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text()


def commands() -> list[list[str]]:
    """Every command of the `sh` blocks as words; lines that go on are joined, comments left out."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", DOCUMENT, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    parts = [part for line in lines for part in re.split(r" (?:\||&&) ", line)]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def of(program: str, subcommand: str = "") -> list[list[str]]:
    return [words for words in commands() if words[0] == program and (not subcommand or words[1] == subcommand)]


def test_nothing_is_named_that_no_test_here_knows() -> None:
    assert {words[0] for words in commands()} == {"serving", "helm", "kubectl", "docker", "cp", "curl"}


def serving(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("serving")), *words[1:]]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


class TestServing:
    def test_plans_are_made(self, tmp_path: Path) -> None:
        reading, writing = of("serving", "plan")
        assert "streams" in serving(reading, tmp_path).stdout
        assert writing[-2:] == [">", "values.yaml"]
        done = serving(writing[:-2], tmp_path)
        assert done.returncode == 0
        settings = yaml.safe_load(done.stdout)["settings"]
        # `serving check settings.yaml`, with the settings in a file of their own
        (check,) = of("serving", "check")
        (tmp_path / check[2]).write_text(yaml.safe_dump(settings))
        checked = serving(check, tmp_path)
        assert checked.returncode == 0, checked.stderr
        assert "gpt-oss-120b" in checked.stdout

    def test_keys_are_made_and_go_where_the_page_says(self, tmp_path: Path) -> None:
        team, admin = of("serving", "keys")
        made = serving(team, tmp_path)
        assert made.returncode == 0, made.stderr
        (line,) = re.findall(r"- (\{.*\})", made.stdout)
        (example,) = re.findall(r"```yaml\n(teams:.*?)```", DOCUMENT, re.DOTALL)
        file = tmp_path / "teams.yaml"
        file.write_text(example)
        assert set(read_teams_file(file).teams) == {"research"}
        # A second key goes below the first
        file.write_text(example.rstrip() + f"\n      - {line}\n")
        assert len(read_teams_file(file).teams["research"].keys) == 2
        assert "hash" in serving(admin, tmp_path).stdout

    def test_other_commands_exist_with_these_flags(self, tmp_path: Path) -> None:
        for words in of("serving", "fetch"):
            helped = serving([*words[:2], "--help"], tmp_path).stdout
            assert all(flag in helped for flag in words if flag.startswith("--"))


def set_value(values: dict[str, Any], assignment: str) -> None:
    """As helm's --set."""
    path, _, value = assignment.partition("=")
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


def values_of(words: list[str]) -> dict[str, Any]:
    # values.yaml is the user's, who has put there what the page has them --set.
    values: dict[str, Any] = {"image": {"repository": REPOSITORY}} if "values.yaml" in words else {}
    for flag, argument in itertools.pairwise(words):
        if flag == "--values" and argument != "values.yaml":
            values |= yaml.safe_load((ROOT / argument).read_text())
        if flag == "--set":
            set_value(values, argument)
    return values


def releases() -> Iterator[tuple[list[str], Rendered]]:
    """What each install and upgrade of the page would install."""
    with Chart.load(CHART) as chart:
        for words in [*of("helm", "install"), *of("helm", "upgrade")]:
            yield words, Rendered(chart.render(values_of(words), name=words[2], namespace="llm"))


def test_every_install_and_upgrade_renders() -> None:
    done = list(releases())
    assert len(done) >= 6
    for words, release in done:
        assert words[words.index("--namespace") + 1] == "llm"
        assert words[3] == "gpt-oss-serving-0.1.0.tgz" or (ROOT / words[3]).is_dir()
        assert release.one("RayService")["metadata"]["name"] == words[2]


def test_the_package_has_the_name_that_is_carried_over(tmp_path: Path) -> None:
    (words,) = of("helm", "package")
    archive = helm_python.package(ROOT / words[2], destination=tmp_path)
    assert Path(archive).name == "gpt-oss-serving-0.1.0.tgz"
    # Dashboards and rules are links in the checkout and files in the package
    with Chart.load(archive) as chart:
        names = {file["name"] for file in chart.files}
    assert any(name.startswith("files/dashboards/") for name in names)


def test_other_helm_commands_are_helms() -> None:
    known = {"install", "upgrade", "rollback", "history", "test", "uninstall", "package"}
    assert {words[1] for words in of("helm")} == known


def test_kubectl_asks_for_what_there_is() -> None:
    (_, release), *_ = releases()
    names = {item["metadata"]["name"] for item in release.objects} | {"gpt-oss-teams", "gpt-oss-admin"}
    names.add(release.ray_service["serveService"]["metadata"]["name"])
    labels = [pod["metadata"]["labels"] for pod in release.pods.values()]
    for words in of("kubectl"):
        if words[1] in ("cordon", "uncordon", "drain") or words[1:3] in (["get", "nodes"], ["delete", "node"]):
            continue  # nodes are in no namespace
        assert words[1:3] == ["-n", "llm"], words
        for word in words[3:]:
            if re.fullmatch(r"(svc/)?gpt-oss[\w-]*", word):
                assert word.removeprefix("svc/") in names, words
        if "-l" in words:
            selector = dict(pair.split("=") for pair in words[words.index("-l") + 1].split(","))
            assert any(selector.items() <= each.items() for each in labels), words


def test_secrets_are_made_with_the_keys_that_the_chart_reads() -> None:
    (release,) = (release for words, release in releases() if "teams.existingSecret=gpt-oss-teams" in words)
    settings = yaml.safe_load(release.settings_text)
    made = {
        words[6]: {re.split("[=]", word.split("=", 1)[1])[0] for word in words if word.startswith("--from-")}
        for words in of("kubectl")
        if words[3:5] == ["create", "secret"]
    }
    assert Path(settings["teams_file"]).name in made["gpt-oss-teams"]
    assert Path(settings["admin_key_file"]).name in made["gpt-oss-admin"]
    pod = release.one("Pod")["spec"]["containers"][0]
    (key,) = (each["valueFrom"]["secretKeyRef"] for each in pod["env"] if each["name"] == "METRICS_KEY")
    assert key["name"] == "gpt-oss-admin"
    assert key["key"] in made["gpt-oss-admin"]


def test_docker_is_given_files_and_targets_that_there_are() -> None:
    recipe = (ROOT / "deploy" / "Dockerfile").read_text()
    for words in of("docker", "build"):
        assert (ROOT / words[words.index("--file") + 1]).is_file()
        assert f" AS {words[words.index('--target') + 1]}\n" in recipe
    (compose,) = of("docker", "compose")
    assert (ROOT / compose[compose.index("--project-directory") + 1] / "compose.yaml").is_file()
    example, *_ = of("cp")
    assert (ROOT / example[1]).is_file()


def test_a_fetched_snapshot_is_copied_as_files(tmp_path: Path) -> None:
    # As the hub's cache has it: links to blobs
    blob = tmp_path / "hub" / "models--openai--gpt-oss-20b" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_text("{}")
    snapshot = blob.parents[1] / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    _, copy = of("cp")
    subprocess.run(["bash", "-c", " ".join(copy)], cwd=tmp_path, check=True, timeout=30)
    shutil.rmtree(tmp_path / "hub")
    assert (tmp_path / "gpt-oss-20b" / "config.json").read_text() == "{}"


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target


def test_every_value_named_is_one_of_the_charts() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in re.findall(r"`(\w+\.[\w.*]+)(?::[^`]*)?`", DOCUMENT):
        section, *rest = name.split(".")
        if section in ("settings", "values", "docs") or name.endswith((".md", ".yaml", ".py", ".tar", ".tgz")):
            continue
        node: Any = values
        for part in (section, *rest):
            assert part in node, name
            node = node[part]


@pytest.mark.parametrize("heading", ["Install", "Roll back", "Teams and keys", "Add a model", "Size it", "Four walks"])
def test_it_covers(heading: str) -> None:
    assert f"\n## {heading}\n" in DOCUMENT
