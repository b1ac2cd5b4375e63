"""Who answers instead of a model of ours, and when that may leave the house."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.engine.base import EngineRequest
from serving.engine.scripted import ScriptLine
from serving.errors import EngineDiedError
from serving.settings.keys import new_key, new_salt

DELTAS = ({"reasoning": "Hm."}, {"content": "From elsewhere"})
SLOW = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 5000, step_ms=5)


@pytest.fixture
def elsewhere(dialects: Any) -> Any:
    return dialects["any"](models=("m",), deltas=DELTAS)


def outside(server: Any) -> dict[str, Any]:
    return {"out": {"url": server.url, "type": "vllm", "external": True}}


async def test_what_is_not_ready_is_answered_by_the_chain(house: Any, running: Any, elsewhere: Any) -> None:
    async with (
        running(elsewhere),
        house(
            fallback=["gone:x", "out:m"], servers=outside(elsewhere), start=False, section={"external": True}
        ) as ours,
    ):
        reply = await ours.ask("demo")
        fell_back = await ours.metric("serving_fallbacks_total", model="demo", reason="not_ready")
        sent = await ours.metric("serving_external_requests_total", backend="out")

    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == "From elsewhere"
    assert reply.headers["x-served-by"] == "out:m"
    assert (fell_back, sent) == (1, 1)


async def test_a_model_that_is_ready_answers_itself(house: Any, running: Any, elsewhere: Any) -> None:
    async with (
        running(elsewhere),
        house(fallback=["out:m"], servers=outside(elsewhere), section={"external": True}) as ours,
    ):
        replies = [await ours.ask("demo"), await ours.ask("demo", stream=True)]

    assert [reply.headers["x-served-by"] for reply in replies] == ["local:demo"] * 2
    assert elsewhere.asked == []


async def test_nothing_leaves_the_house_unless_that_is_allowed(house: Any, running: Any, elsewhere: Any) -> None:
    async with running(elsewhere), house(fallback=["out:m"], servers=outside(elsewhere), start=False) as ours:
        fallen = await ours.ask("demo")
        selected = await ours.ask("out:m")

    assert (fallen.status_code, fallen.json()["error"]["code"]) == (503, "engine_not_ready")
    assert (selected.status_code, selected.json()["error"]["code"]) == (403, "external_not_allowed")
    assert elsewhere.asked == []


async def test_the_policy_of_the_team_decides_and_the_audit_log_tells(
    house: Any, running: Any, elsewhere: Any, tmp_path: Path
) -> None:
    keys = {name: new_key() for name in ("inside", "outside")}
    teams = {
        name: {"external": name == "outside", "keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]}
        for name, key in keys.items()
    }
    (tmp_path / "teams.yaml").write_text(yaml.safe_dump({"teams": teams}))
    further = {"teams_file": str(tmp_path / "teams.yaml"), "audit": {"file": str(tmp_path / "audit")}}
    async with (
        running(elsewhere),
        house(
            fallback=["out:m"],
            servers=outside(elsewhere),
            start=False,
            section={"external": True},  # is for servers without teams
            further=further,
        ) as ours,
    ):
        replies = {}
        for name, key in keys.items():
            ours.http.headers["authorization"] = f"Bearer {key.text}"
            replies[name] = await ours.ask("demo", "the secret plan")
        await ours.tenancy.audit.flush()
        lines = [json.loads(line) for line in ours.tenancy.audit.path.read_text().splitlines()]

    assert {name: reply.status_code for name, reply in replies.items()} == {"inside": 503, "outside": 200}
    assert len(elsewhere.asked) == 1
    told = [(line["team"], line["served_by"], line["sent_outside"]) for line in lines]
    assert told == [("inside", None, []), ("outside", "out:m", ["out"])]
    assert "secret" not in json.dumps(lines)


async def test_a_full_model_is_answered_by_the_chain(house: Any, running: Any, elsewhere: Any, until: Any) -> None:
    further = {"admission": {"max_queued": 1, "margin": 0, "reserve": 0}}
    async with (
        running(elsewhere),
        house(SLOW, fallback=["in:m"], servers={"in": {"url": elsewhere.url, "type": "vllm"}}, further=further) as ours,
    ):
        admission = ours.tenancy.admission("demo")
        tasks = [asyncio.create_task(ours.ask("demo", stream=True, max_tokens=2000)) for _ in range(64 + 1)]
        await until(lambda: admission.waiting >= 1)
        reply = await ours.ask("demo")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert (reply.status_code, reply.headers["x-served-by"]) == (200, "in:m")


async def test_an_engine_that_dies_before_its_first_token_is_stood_in_for(
    house: Any, running: Any, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(request: EngineRequest) -> Any:
        raise EngineDiedError("gone")

    async with (
        running(elsewhere),
        house(fallback=["in:m"], servers={"in": {"url": elsewhere.url, "type": "vllm"}}) as ours,
    ):
        monkeypatch.setattr(ours.engine, "generate", dies)
        reply = await ours.ask("demo", stream=True)

    assert (reply.status_code, reply.headers["x-served-by"]) == (200, "in:m")
    assert "From elsewhere" in reply.text


async def test_the_requests_own_mistake_stays_its_own(house: Any, running: Any, elsewhere: Any) -> None:
    async with (
        running(elsewhere),
        house(fallback=["in:m"], servers={"in": {"url": elsewhere.url, "type": "vllm"}}) as ours,
    ):
        reply = await ours.ask("demo", max_tokens=10_000_000)

    assert reply.status_code == 400
    assert elsewhere.asked == []


async def test_limits_of_a_team_hold_whoever_answers(house: Any, running: Any, elsewhere: Any, tmp_path: Path) -> None:
    key = new_key()
    team = {"requests_per_minute": 2, "keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]}
    (tmp_path / "teams.yaml").write_text(yaml.safe_dump({"teams": {"a": team}}))
    async with (
        running(elsewhere),
        house(
            fallback=["in:m"],
            servers={"in": {"url": elsewhere.url, "type": "vllm"}},
            start=False,
            further={"teams_file": str(tmp_path / "teams.yaml")},
        ) as ours,
    ):
        ours.http.headers["authorization"] = f"Bearer {key.text}"
        statuses = [(await ours.ask("demo")).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


async def test_a_team_reaches_the_models_of_its_list_by_selector_too(
    house: Any, running: Any, dialects: Any, tmp_path: Path
) -> None:
    key = new_key()
    team = {"models": ["m"], "keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]}
    (tmp_path / "teams.yaml").write_text(yaml.safe_dump({"teams": {"a": team}}))
    server = dialects["any"](models=("m", "other"), deltas=DELTAS)
    async with (
        running(server),
        house(
            servers={"in": {"url": server.url, "type": "vllm"}, **outside(server)},
            further={"teams_file": str(tmp_path / "teams.yaml")},
        ) as ours,
    ):
        ours.http.headers["authorization"] = f"Bearer {key.text}"
        statuses = {name: (await ours.ask(name)).status_code for name in ("m", "in:m", "out:m", "in:other", "demo")}
        listed = [card["id"] for card in (await ours.http.get("/v1/models")).json()["data"]]

    assert statuses == {"m": 200, "in:m": 200, "out:m": 403, "in:other": 404, "demo": 404}
    assert listed == ["m"]
