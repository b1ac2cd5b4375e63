from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serving.cli import create_cli
from serving.commands.up import with_batches
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.batches import BatchSettings
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from tests.http_server import in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "batches.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SCRIPT = Script((ScriptLine(completion="<|channel|>final<|message|>Yes.<|return|>"),))


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    engine = ScriptedEngine(SCRIPT, model="demo", max_model_len=4096)
    models = {"demo": ModelSettings()}
    with in_thread(Settings(models=models, batches=BatchSettings(storage=str(tmp_path / "kept"))), engine) as url:
        yield url


def test_the_example_runs(address: str) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(PYTHON.replace(ADDRESS, address), "<docs/batches.md>", "exec"), names)  # our own page
    names["client"].close()
    assert names["answers"] == {f"row-{number}": "Yes." for number in range(20)}


def test_the_command_waits_and_writes_answers_and_errors(address: str, tmp_path: Path) -> None:
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "demo", "messages": [{"role": "user", "content": "?"}]},
        }
        for number in range(3)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([*map(json.dumps, lines), "broken"]))

    result = CliRunner().invoke(create_cli(), ["batch", str(file), "--wait", "--url", f"{address}/v1"])

    assert result.exit_code == 1, result.output
    answers = (tmp_path / "rows.jsonl.output.jsonl").read_text().splitlines()
    errors = (tmp_path / "rows.jsonl.errors.jsonl").read_text().splitlines()
    assert {json.loads(line)["custom_id"] for line in answers} == {"0", "1", "2"}
    assert [json.loads(line)["error"]["line"] for line in errors] == [4]
    assert result.stdout.startswith("batch_")
    assert "line 4: Line 4 is not valid JSON" in result.stderr


@pytest.mark.parametrize("content", ["", "{}", "nonsense", '{"url": "/v1/embeddings"}'])
def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    result = CliRunner().invoke(create_cli(), ["batch", str(file)])
    assert "first line should have a url" in str(result.exception)


def test_the_example_of_settings_names_every_setting() -> None:
    values = yaml.safe_load(YAML)
    Settings(**values)
    assert set(values["batches"]) == set(BatchSettings.model_fields)


def test_secrets_are_refused_in_settings() -> None:
    with pytest.raises(ValueError, match="by the environment"):
        BatchSettings(storage="s3://b/f", storage_options={"secret": "hush"})


def test_on_one_machine_batches_are_on_and_in_a_cluster_off(tmp_path: Path) -> None:
    plain = Settings(cache_dir=str(tmp_path))
    assert with_batches(plain).batches.storage == str(tmp_path / "batches")
    cluster = Settings(cache_dir=str(tmp_path), ray_address="auto")
    assert with_batches(cluster).batches.storage is None
    off = Settings(cache_dir=str(tmp_path), batches=BatchSettings(storage="off"))
    assert with_batches(off).batches.storage == "off"
