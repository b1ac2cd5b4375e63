"""docs/model-lifecycle.md: its settings, its commands and its names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import httpx

from serving.app import create_app
from serving.cluster.scaling import _UNLOAD_AFTER_S
from serving.engine.lifecycle.manager import Change
from serving.engine.lifecycle.state import Cause, State
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.lifecycle import HoldSettings, IdleSettings
from serving.settings.loading.load import load_settings
from serving.settings.tree import Settings
from serving.telemetry.definitions import DEFINITIONS

PAGE = (Path(__file__).parents[3] / "docs" / "model-lifecycle.md").read_text()


def test_the_settings_are_right_and_complete(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "serving.yaml"
    file.write_text(text)
    models = load_settings(config=file, overrides={}, environ={}).models
    small = models["gpt-oss-20b"]
    assert small.idle is not None
    assert small.idle.model_fields_set == set(IdleSettings.model_fields)
    assert small.hold.model_fields_set == set(HoldSettings.model_fields)
    assert models["gpt-oss-120b"].sleeps
    assert models["gpt-oss-120b"].warm_up


def test_the_page_tells_the_defaults() -> None:
    assert f"idle after {IdleSettings().after_s:g} s" in PAGE
    assert f"replicas {_UNLOAD_AFTER_S} s after" in PAGE


def test_every_change_state_cause_and_metric_is_named() -> None:
    for change in get_args(Change):
        assert f"`POST /admin/models/NAME/{change}`" in PAGE
    names = {*get_args(State), *get_args(Cause)}
    names |= {each.name for each in DEFINITIONS if each.name.startswith("serving_model_")} | {"serving_requests_held"}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


async def test_the_commands_work_one_after_the_other() -> None:
    engine = ScriptedEngine(Script((ScriptLine(completion="<|channel|>final<|message|>Hello!<|return|>"),)))
    await engine.start()
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    async with (
        Parts.in_process(Settings(), {"demo": engine}) as parts,
        httpx.AsyncClient(transport=httpx.ASGITransport(create_app(parts)), base_url="http://localhost:8000") as client,
    ):
        replies = [await sent(client, line) for line in commands.splitlines()]
    await engine.close()
    assert [reply.status_code for reply in replies] == [200, 200, 200, 200]
    assert [reply.json().get("state") for reply in replies] == [None, "unloaded", "loaded", None]
    assert replies[3].json()["choices"][0]["message"]["content"] == "Hello!"


async def sent(client: httpx.AsyncClient, command: str) -> httpx.Response:
    """What a curl command gets."""
    words = shlex.split(command)
    (url,) = (word for word in words if word.startswith("http"))
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    return await client.request(method, url, json=body)
