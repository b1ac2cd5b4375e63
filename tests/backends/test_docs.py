"""What docs/backends.md and docs/migrating.md show is right and works."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.api.admin.wire.backends import RegisterBackend
from serving.settings.backends import KNOWN_TYPES, BackendsSettings, RetrySettings
from serving.settings.loading.load import load_settings
from serving.settings.tree import Settings

DOCS = Path(__file__).parents[2] / "docs"
BACKENDS, MIGRATING = ((DOCS / name).read_text() for name in ("backends.md", "migrating.md"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("text", [*blocks(BACKENDS, "yaml"), *blocks(MIGRATING, "yaml")])
def test_the_settings_shown_are_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "serving.yaml").write_text(text)
    load_settings(config=tmp_path / "serving.yaml", overrides={}, environ={})


def test_the_patience_shown_is_the_default() -> None:
    shown = next(yaml.safe_load(text) for text in blocks(BACKENDS, "yaml") if "patience" in text)
    assert RetrySettings(**shown["backends"]["patience"]) == RetrySettings()


def test_every_type_and_setting_is_on_the_page() -> None:
    for type_, known in KNOWN_TYPES.items():
        assert f"| `{type_}` |" in BACKENDS
        assert f"`{known.url_variable}`" in BACKENDS
    for field in RegisterBackend.model_fields:
        assert f"`{field}`" in BACKENDS
    named = set(re.findall(r"[a-z_]+", BACKENDS))
    assert set(BackendsSettings.model_fields) - named == {"base_urls", "concurrent_requests", "keys"}


def test_what_migrations_lead_to_exists() -> None:
    (table,) = re.findall(r"## From LiteLLM.*?\n\n\| LiteLLM.*?\n\n", MIGRATING, re.DOTALL)
    assert {"attempts", "failures", "closed_s", "first_token_s", "between_tokens_s"} <= set(RetrySettings.model_fields)
    assert "admin_key_hash" in table
    assert "admin_key_hash" in Settings.model_fields


async def test_the_variables_of_other_programs_are_read(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("backends: {servers: {ollama: {}, x: {type: vllm, url: 'http://x/v1', api_key_env: X_KEY}}}")
    environ = {"OLLAMA_BASE_URL": "http://127.0.0.1:7", "X_KEY": "sk-x", "OPENAI_API_KEY": "sk-o", "OTHER": "sk-no"}
    section = load_settings(config=file, overrides={}, environ=environ).backends

    assert section.url_of("ollama", section.servers["ollama"]) == "http://127.0.0.1:7/v1"
    assert set(section.keys) == {"X_KEY", "OPENAI_API_KEY"}
    assert section.key_of("vllm", section.servers["x"]) == section.keys["X_KEY"]
    assert "sk-" not in repr(section)


async def test_the_program_and_the_commands_run(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        house(name="gpt-oss-20b") as other,
        house(servers={"other": {"url": other.url, "type": "serving"}}) as ours,
    ):
        (program,) = blocks(BACKENDS, "python")
        namespace: dict[str, Any] = {}
        await asyncio.to_thread(exec, program.replace("http://localhost:8000/v1", ours.url), namespace)
        namespace["client"].close()
        assert capsys.readouterr().out == "other:gpt-oss-20b Hello there!\n"

        statuses = []
        for line in blocks(BACKENDS, "sh")[0].splitlines():
            path = re.search(r"localhost:8000(\S+)", line)
            body = re.search(r"-d '(.*)'", line)
            method = "DELETE" if "-X DELETE" in line else "POST" if body else "GET"
            assert path is not None
            content = None if body is None else json.loads(body[1])
            statuses.append((await ours.http.request(method, path[1], json=content)).status_code)
        assert statuses == [201, 200, 200, 200, 200]
