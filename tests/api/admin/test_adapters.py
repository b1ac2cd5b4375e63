"""A LoRA adapter as clients and administrators see it, on the scripted engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openai import NotFoundError
from pydantic import SecretStr

from serving.engine.adapters.registry import Adapters
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.errors import StoreUnavailableError
from serving.settings.keys import new_key, new_salt
from serving.settings.models import ModelSettings
from serving.settings.presets import PresetSettings
from serving.settings.storage import CacheSettings
from serving.settings.tree import Settings
from serving.store.redis_registrations import RedisRegistrations
from serving.store.registrations import FileRegistrations, Registrations

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

FINAL = "<|channel|>final<|message|>"
LINES = (
    ScriptLine(completion=f"{FINAL}Hello there!<|return|>"),
    ScriptLine(adapter="pirate", prompt_contains="slowly", completion=FINAL + "arr " * 500, step_ms=5),
    ScriptLine(adapter="pirate", completion=f"{FINAL}Arr, matey!<|return|>"),
)
DECLARED: Any = {"models": {"demo": ModelSettings.model_validate({"adapters": {"pirate": {"source": "demo"}}})}}
ROOM: Any = {"models": {"demo": ModelSettings.model_validate({"lora": {}, "aliases": ["gpt-oss"]})}}
PIRATE = {"name": "pirate", "model": "demo", "source": "demo"}
MESSAGES: Any = [{"role": "user", "content": "Hello!"}]


async def add(served: Served, **fields: Any) -> Any:
    return await served.http.post("/admin/adapters", json={**PIRATE, **fields})


async def test_its_name_is_a_model_to_every_api(serve: Serve) -> None:
    async with serve(*LINES, **DECLARED) as served:
        chat = await served.openai.chat.completions.create(model="pirate", messages=MESSAGES)
        stream = await served.openai.chat.completions.create(model="local:pirate", messages=MESSAGES, stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        responses = await served.openai.responses.create(model="pirate", input="Hello!")
        raw = await served.openai.completions.create(model="pirate", prompt="Hello")
        plain = await served.openai.chat.completions.create(model="demo", messages=MESSAGES)
        adapters = [request.adapter and request.adapter.name for request in served.engine.requests]
    assert (chat.choices[0].message.content, chat.model) == ("Arr, matey!", "pirate")
    assert streamed == responses.output_text == "Arr, matey!"
    assert "Arr, matey!" in raw.choices[0].text
    assert plain.choices[0].message.content == "Hello there!"
    assert adapters == ["pirate"] * 4 + [None]


async def test_it_is_listed_with_the_model_it_is_over(serve: Serve) -> None:
    variants = {"captain": PresetSettings(model="pirate", instructions="Command.")}
    async with serve(*LINES, **DECLARED, further={"variants": variants}) as served:
        cards = {card.id: card.to_dict() async for card in await served.openai.models.list()}
        captain = await served.chat(model="captain")
    assert (cards["pirate"]["parent"], "root" in cards["pirate"]) == ("demo", False)
    assert (cards["captain"]["parent"], cards["captain"]["root"]) == ("demo", "pirate")
    assert "parent" not in cards["demo"]
    assert captain.json()["choices"][0]["message"]["content"] == "Arr, matey!"


async def test_it_comes_and_goes_while_the_server_runs(serve: Serve) -> None:
    async with serve(*LINES, **ROOM) as served:
        with pytest.raises(NotFoundError, match="pirate"):
            await served.openai.chat.completions.create(model="pirate", messages=MESSAGES)
        added = await add(served)
        listed = (await served.http.get("/admin/adapters")).json()["data"]
        answered = await served.chat(model="pirate")
        removed = await served.http.delete("/admin/adapters/pirate")
        gone = await served.chat(model="pirate")
        again = await served.http.delete("/admin/adapters/pirate")
    assert (added.status_code, added.json()) == (201, listed[0])
    assert listed == [{"object": "adapter", **PIRATE, "declared": False}]
    assert answered.json()["choices"][0]["message"]["content"] == "Arr, matey!"
    assert (removed.status_code, gone.status_code, again.status_code) == (200, 404, 404)


async def test_an_answer_under_way_outlives_its_adapter(serve: Serve) -> None:
    async with serve(*LINES, **ROOM) as served:
        await add(served)
        asked: Any = [{"role": "user", "content": "slowly"}]
        stream = await served.openai.chat.completions.create(
            model="pirate",
            messages=asked,
            stream=True,
            max_tokens=60,
        )
        first = await anext(stream)
        assert (await served.http.delete("/admin/adapters/pirate")).status_code == 200
        rest = [chunk async for chunk in stream]
    assert first.choices
    assert rest[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("change", "status", "param", "says"),
    [
        ({"source": "/nowhere"}, 400, "source", "in none of the directories"),
        ({"source": "relative"}, 400, "source", "should be an absolute path"),
        ({"source": ""}, 400, "source", "empty"),
        ({"source": None}, 400, "source", "source"),
        ({"name": "two words"}, 400, "name", "without blanks"),
        ({"name": "demo"}, 400, "name", "have a model 'demo'"),
        ({"name": "gpt-oss"}, 400, "name", "have a model 'gpt-oss'"),
        ({"name": "x" * 201}, 400, "name", "200"),
        ({"model": "other"}, 400, "model", "those are: demo"),
        ({"path": "/x"}, 400, "path", "path"),
    ],
)
async def test_what_cannot_be_added_is_refused_by_field(
    serve: Serve, change: dict[str, Any], status: int, param: str, says: str
) -> None:
    async with serve(*LINES, **ROOM) as served:
        reply = await add(served, **change)
        listed = (await served.http.get("/admin/adapters")).json()["data"]
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param), reply.text
    assert says in reply.text
    assert listed == []


async def test_a_model_without_room_says_what_to_set(serve: Serve) -> None:
    async with serve(*LINES) as served:
        reply = await add(served)
    assert reply.status_code == 409
    assert "models.demo.lora.directories" in reply.json()["error"]["message"]


async def test_an_engine_that_is_not_there_is_told(serve: Serve) -> None:
    async with serve(*LINES, **ROOM, start=False) as served:
        reply = await add(served)
        listed = (await served.http.get("/admin/adapters")).json()["data"]
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_not_ready")
    assert listed == []


async def test_those_of_the_settings_stay(serve: Serve) -> None:
    async with serve(*LINES, **DECLARED) as served:
        replaced = await add(served)
        removed = await served.http.delete("/admin/adapters/pirate")
        (listed,) = (await served.http.get("/admin/adapters")).json()["data"]
    assert (replaced.status_code, removed.status_code) == (400, 400)
    assert listed["declared"] is True


async def test_files_that_are_gone_fail_their_own_requests_alone(serve: Serve, tmp_path: Path) -> None:
    models = {"demo": ModelSettings.model_validate({"lora": {"directories": [str(tmp_path)]}})}
    registrations = FileRegistrations(tmp_path / "adapters.json")
    text = json.dumps({"model": "demo", "source": str(tmp_path / "gone"), "version": "1"})
    await registrations.put("pirate", text)
    async with serve(*LINES, models=models, registrations=registrations) as served:
        broken, plain = await served.chat(model="pirate"), await served.chat()
    assert (broken.status_code, broken.json()["error"]["code"]) == (503, "adapter_unavailable")
    assert str(tmp_path) not in broken.text
    assert plain.status_code == 200


async def test_a_team_has_the_adapters_that_it_is_given(serve: Serve, tmp_path: Path) -> None:
    keys = {team: new_key() for team in ("crew", "model", "all")}
    models = {"crew": ["pirate"], "model": ["demo"], "all": None}
    teams = {
        team: {"keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}], "models": models[team]}
        for team, key in keys.items()
    }
    path = tmp_path / "teams.yaml"
    path.write_text(yaml.safe_dump({"teams": teams}))
    statuses, listed = {}, {}
    async with serve(*LINES, **DECLARED, further={"teams_file": str(path)}) as served:
        for team, key in keys.items():
            headers = {"authorization": f"Bearer {key.text}"}
            statuses[team] = [
                (
                    await served.http.post(
                        "/v1/chat/completions", json={"model": name, "messages": MESSAGES}, headers=headers
                    )
                ).status_code
                for name in ("pirate", "demo")
            ]
            cards = (await served.http.get("/v1/models", headers=headers)).json()["data"]
            listed[team] = sorted(card["id"] for card in cards)
    assert statuses == {"crew": [200, 404], "model": [404, 200], "all": [200, 200]}
    assert listed == {"crew": ["pirate"], "model": ["demo"], "all": ["demo", "pirate"]}


async def test_it_is_counted_as_its_models_and_by_its_own_name(serve: Serve) -> None:
    async with serve(*LINES, **DECLARED) as served:
        reply = await served.chat(model="pirate")
        metrics = (await served.http.get("/metrics")).text
        usage = (await served.http.get("/admin/usage?by=model")).json()["data"]
    assert reply.headers["x-served-by"] == "local:pirate"
    (line,) = (line for line in metrics.splitlines() if line.startswith("serving_adapter_requests_total{"))
    for label in ('model="demo"', 'adapter="pirate"', 'outcome="ok"'):
        assert label in line
    (counted,) = (line for line in metrics.splitlines() if line.startswith("serving_requests_total{"))
    assert 'model="demo"' in counted
    assert [row["model"] for row in usage] == ["pirate"]


async def test_its_requests_never_fall_back_to_what_has_not_learnt_it(serve: Serve) -> None:
    models = {
        "demo": ModelSettings.model_validate({"adapters": {"pirate": {"source": "demo"}}, "fallback": ["other"]}),
        "other": ModelSettings(source="demo"),
    }
    async with serve(*LINES, models=models, start=False) as served:
        reply = await served.chat(model="pirate")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_not_ready")


async def test_they_are_the_administrators(serve: Serve) -> None:
    admin = new_key()
    async with serve(*LINES, **ROOM, further={"admin_key_hash": str(admin.hashed(new_salt()))}) as served:
        paths = [("GET", "/admin/adapters"), ("POST", "/admin/adapters"), ("DELETE", "/admin/adapters/x")]
        without = [(await served.http.request(*path, json={})).status_code for path in paths]
        headers = {"authorization": f"Bearer {admin.text}"}
        with_key = [(await served.http.request(*path, json={}, headers=headers)).status_code for path in paths]
    assert without == [401] * 3
    assert with_key == [200, 400, 404]


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes registrations that processes share."""
    if request.param == "file":
        return lambda: FileRegistrations(tmp_path / "adapters.json")
    url: SecretStr = request.getfixturevalue("redis_url")
    return lambda: RedisRegistrations(url, "adapters")


def process(registrations: Registrations, engine: ScriptedEngine, models: dict[str, ModelSettings]) -> Adapters:
    versions = iter("123456789")
    return Adapters(
        Settings(models=models), {"demo": engine}, new_version=lambda: next(versions), registrations=registrations
    )


async def test_what_is_added_outlives_the_process_and_reaches_the_others(shared: Any, until: Any) -> None:
    engine = ScriptedEngine(Script(LINES), settings=ROOM["models"]["demo"])
    await engine.start()
    one, other = (process(shared(), engine, ROOM["models"]) for _ in range(2))
    await one.start()
    await other.start()
    added = await one.add("pirate", "demo", "demo")
    await until(lambda: other.find("pirate") == added)
    await one.remove("pirate")
    await until(lambda: other.find("pirate") is None)
    added = await other.add("pirate", "demo", "demo")
    for each in (one, other):
        await each.close()
    later = process(shared(), engine, ROOM["models"])
    await later.start()
    assert later.find("pirate") == added
    await later.close()


async def test_what_fits_the_settings_no_more_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registrations = FileRegistrations(tmp_path / "adapters.json")
    fields = {"model": "demo", "source": "demo", "version": "1"}
    kept = {"good": fields, "demo": fields, "gone": {**fields, "model": "gone"}, "half": {"model": "demo"}, "list": []}
    for name, value in kept.items():
        await registrations.put(name, json.dumps(value))
    adapters = process(registrations, ScriptedEngine(Script(LINES)), ROOM["models"])
    await adapters.start()
    assert list(adapters.all()) == ["good"]
    for name in kept.keys() - {"good"}:
        assert f"added adapter '{name}' is passed over" in caplog.text
    await adapters.close()


async def test_what_the_store_does_not_take_is_not_there(tmp_path: Path) -> None:
    engine = ScriptedEngine(Script(LINES), settings=ROOM["models"]["demo"])
    await engine.start()
    (tmp_path / "file").touch()
    adapters = process(FileRegistrations(tmp_path / "file" / "adapters.json"), engine, ROOM["models"])
    with pytest.raises(StoreUnavailableError):
        await adapters.add("pirate", "demo", "demo")
    assert adapters.find("pirate") is None
    assert engine.adapters == []


async def test_kept_answers_are_never_those_of_its_model_or_of_what_had_its_name_before(serve: Serve) -> None:
    further = {"cache": CacheSettings(backend="memory")}
    asked = {"temperature": 0}
    async with serve(*LINES, **ROOM, further=further) as served:
        await add(served)
        replies = [await served.chat(model=name, **asked) for name in ("demo", "pirate", "pirate", "demo")]
        await add(served)
        replies.append(await served.chat(model="pirate", **asked))
    assert [reply.headers["x-cache"] for reply in replies] == ["miss", "miss", "hit", "hit", "miss"]
    answers = [reply.json()["choices"][0]["message"]["content"] for reply in replies]
    assert answers == ["Hello there!", "Arr, matey!", "Arr, matey!", "Hello there!", "Arr, matey!"]
