"""docs/adapters.md: its settings are right and name everything that can be set; its commands work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import httpx

from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.adapters import AdapterSettings, LoraSettings
from serving.settings.loading.load import load_settings

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text()
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
LINES = (
    ScriptLine(completion="<|channel|>final<|message|>Hello!<|return|>"),
    ScriptLine(adapter="pirate", completion="<|channel|>final<|message|>Arr, matey! Hello!<|return|>"),
)


def test_the_settings_are_right_and_complete(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(YAML[0])
    model = load_settings(config=file, overrides={}, environ={}).models["gpt-oss-20b"]
    assert model.lora is not None
    assert model.lora.model_fields_set == set(LoraSettings.model_fields)
    assert model.adapters["legal"].model_fields_set == set(AdapterSettings.model_fields)


def test_every_rank_is_named() -> None:
    (told,) = re.findall(r"\(8, 16,[^)]*\)", PAGE)
    assert {int(rank) for rank in re.findall(r"\d+", told)} == set(
        get_args(LoraSettings.model_fields["max_lora_rank"].annotation)
    )


async def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "serving.yaml").write_text(YAML[1])
    settings = load_settings(config=tmp_path / "serving.yaml", overrides={}, environ={})
    engine = ScriptedEngine(Script(LINES), settings=settings.models["demo"])
    await engine.start()
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    async with (
        Parts.in_process(settings, {"demo": engine}) as parts,
        httpx.AsyncClient(transport=httpx.ASGITransport(create_app(parts)), base_url="http://localhost:8000") as client,
    ):
        replies = [await sent(client, line) for line in commands.splitlines()]
    await engine.close()
    assert [reply.status_code for reply in replies] == [201, 200, 200, 200]
    assert replies[1].json()["choices"][0]["message"]["content"].startswith("Arr, matey!")
    assert [card["name"] for card in replies[2].json()["data"]] == ["pirate"]


async def sent(client: httpx.AsyncClient, command: str) -> httpx.Response:
    """What a curl command gets."""
    words = shlex.split(command)
    (url,) = (word for word in words if word.startswith("http"))
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    return await client.request(method, url, json=body)
