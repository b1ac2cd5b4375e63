"""A model that comes and goes, as clients and administrators see it, on the scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from serving.engine.lifecycle.store import Kept, MemoryLifecycleStore
from serving.errors import EngineNotReadyError, StoreUnavailableError
from serving.settings.accounting import AuditSettings
from serving.settings.keys import new_key, new_salt
from serving.settings.models import ModelSettings

if TYPE_CHECKING:
    from tests.http_server import Lifecycles, Serve, Served, Until

IDLE: Any = {"models": {"demo": ModelSettings.model_validate({"idle": {"after_s": 60}})}}
SLEEPY: Any = {
    "models": {"demo": ModelSettings.model_validate({"idle": {"after_s": 60, "action": "sleep"}, "warm_up": ["Hi!"]})}
}


async def change(served: Served, what: str, name: str = "demo") -> httpx.Response:
    return await served.http.post(f"/admin/models/{name}/{what}")


async def card(served: Served) -> dict[str, Any]:
    reply = await served.http.get("/admin/models")
    assert reply.status_code == 200, reply.text
    cards: list[dict[str, Any]] = reply.json()["data"]
    return cards[0]


async def sample(served: Served, name: str) -> float:
    """A metric's value; its name comes with its labels, deployment and replica left out."""
    text = (await served.http.get("/metrics")).text.replace('deployment="ingress",replica="test",', "")
    (value,) = (line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{name} "))
    return float(value)


async def until_it_is(served: Served, state: str) -> None:
    await until_card(served, "state", state)


async def until_held(served: Served, count: int) -> None:
    await until_card(served, "held", count)


async def until_card(served: Served, field: str, value: object) -> None:
    async with asyncio.timeout(10):
        while True:
            if (await card(served))[field] == value:
                return
            await asyncio.sleep(0.01)


class TestByAnAdministrator:
    async def test_an_unloaded_model_is_refused_until_it_is_loaded(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(lifecycles=lifecycles) as served:
            unloaded = await change(served, "unload?wait=true")
            refused = await served.chat()
            with pytest.raises(EngineNotReadyError, match="is closed"):
                await served.engine.check_health()
            loaded = await change(served, "load?wait=true")
            answered = await served.chat()
        assert (unloaded.status_code, unloaded.json()["state"], unloaded.json()["cause"]) == (200, "unloaded", "admin")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unloaded")
        assert "POST /admin/models/demo/load" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert (loaded.status_code, loaded.json()["state"]) == (200, "loaded")
        assert answered.status_code == 200

    async def test_who_waits_in_line_when_it_goes_is_refused_too(
        self, serve: Serve, lifecycles: Lifecycles, until: Until
    ) -> None:
        models = {"demo": ModelSettings(max_num_seqs=1)}
        async with serve(models=models, lifecycles=lifecycles, further={"admission": {"margin": 0}}) as served:
            slow = asyncio.create_task(served.chat(messages=[{"role": "user", "content": "silently"}]))
            await until(lambda: served.engine.running == 1)
            waiting = asyncio.create_task(served.chat())
            await until(lambda: served.tenancy.admission("demo").waiting == 1)
            await change(served, "unload?wait=true")
            replies = await asyncio.gather(slow, waiting)
        assert [reply.json()["error"]["code"] for reply in replies] == ["engine_died", "model_unloaded"]

    async def test_without_wait_the_reply_says_that_it_is_under_way(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(lifecycles=lifecycles) as served:
            await change(served, "unload?wait=true")
            served.engine.may_start.clear()
            loading = await change(served, "load")
            served.engine.may_start.set()
            await until_it_is(served, "loaded")
            again = await change(served, "load")
        assert (loading.status_code, loading.json()["state"]) == (202, "loading")
        assert again.status_code == 200

    async def test_it_works_where_the_application_is_left_to_itself(self, served: Served) -> None:
        assert (await change(served, "unload?wait=true")).json()["state"] == "unloaded"
        assert (await served.chat()).status_code == 503
        assert (await change(served, "load?wait=true")).json()["state"] == "loaded"
        assert (await served.chat()).status_code == 200

    async def test_an_unloaded_model_is_no_fault(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(lifecycles=lifecycles) as served:
            await change(served, "unload?wait=true")
            ready = await served.http.get("/ready")
            names = [model.id async for model in await served.openai.models.list()]
            state = await sample(served, 'serving_model_state{model="demo",state="unloaded"}')
            served.engine.may_start.clear()
            await change(served, "load")
            loading = await served.http.get("/ready")
            served.engine.may_start.set()
        assert (ready.status_code, ready.json()["models"]["demo"]) == (200, {"status": "unloaded"})
        assert (loading.status_code, loading.json()["models"]["demo"]) == (200, {"status": "loading"})
        assert names[0] == "demo"
        assert state == 1

    async def test_others_answer_meanwhile_where_it_has_fallbacks(self, serve: Serve) -> None:
        models = {"demo": ModelSettings(fallback=("other",)), "other": ModelSettings(source="/m")}
        async with serve(models=models) as served:
            # The two share an engine, which only "demo" would close.
            served.engine.close = _nothing  # type: ignore[method-assign]  # as said
            await change(served, "unload")
            reply = await served.chat()
            del served.engine.close
        assert (reply.status_code, reply.headers["x-served-by"]) == (200, "local:other")

    async def test_other_processes_know_it_at_once(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(lifecycles=lifecycles) as one, serve(lifecycles=lifecycles) as other:
            await change(one, "unload?wait=true")
            await until_it_is(other, "unloaded")
            refused = await other.chat()
            await change(other, "load?wait=true")
            answered = await one.chat()
        assert (refused.status_code, answered.status_code) == (503, 200)

    async def test_the_list_says_how_each_model_is(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(lifecycles=lifecycles) as served:
            new = await card(served)
            await served.chat()
            used = await card(served)
        (report,) = new.pop("reports")
        assert new == {
            "object": "model.life",
            "name": "demo",
            "state": "loaded",
            "cause": "settings",
            "since": int(lifecycles.now),
            "last_used": None,
            "held": 0,
            "replicas": {"running": 1, "wanted": None},
        }
        assert report["asleep"] is False
        assert report["memory_bytes"] > 1_000_000
        assert report["device_memory_bytes"] is None
        assert used["last_used"] == int(lifecycles.now)

    @pytest.mark.parametrize(
        ("path", "status", "says"),
        [
            ("/admin/models/other/load", 404, "they have demo"),
            ("/admin/models/demo/start", 404, "load, unload, sleep, wake"),
            ("/admin/models/demo/load?wait=yes", 400, "true or false"),
        ],
    )
    async def test_mistakes_are_named(self, served: Served, path: str, status: int, says: str) -> None:
        reply = await served.http.post(path)
        assert (reply.status_code, says in reply.text) == (status, True), reply.text

    async def test_only_the_administrator_may_and_the_audit_log_has_it(self, serve: Serve, tmp_path: Path) -> None:
        admin = new_key()
        further = {
            "admin_key_hash": str(admin.hashed(new_salt())),
            "audit": AuditSettings(file=str(tmp_path / "audit")),
        }
        async with serve(further=further) as served:
            without = await change(served, "unload")
            reply = await served.http.post(
                "/admin/models/demo/unload", headers={"authorization": f"Bearer {admin.text}"}
            )
            assert served.tenancy.audit is not None
            await served.tenancy.audit.flush()
            lines = [json.loads(line) for line in served.tenancy.audit.path.read_text().splitlines()]
        assert (without.status_code, reply.status_code // 100) == (401, 2)
        told = [(line["path"], line["model"], line["status"]) for line in lines]
        assert told == [
            ("/admin/models/demo/unload", None, 401),
            ("/admin/models/demo/unload", "demo", reply.status_code),
        ]

    async def test_a_store_that_is_away_is_told_and_what_is_loaded_goes_on(
        self, serve: Serve, lifecycles: Lifecycles
    ) -> None:
        lifecycles.store = Away()
        async with serve(lifecycles=lifecycles) as served:
            reply = await change(served, "unload")
            answered = await served.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_unavailable")
        assert answered.status_code == 200


class TestIdle:
    async def test_it_is_unloaded_and_the_next_request_waits_for_it(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(**IDLE, lifecycles=lifecycles) as served:
            await served.chat()
            lifecycles.now += 59
            await asyncio.sleep(0.1)
            still = await card(served)
            lifecycles.now += 2
            await until_it_is(served, "unloaded")
            idle = await card(served)
            served.engine.may_start.clear()
            waiting = asyncio.create_task(served.chat())
            await until_held(served, 1)
            held = await sample(served, 'serving_requests_held{model="demo"}')
            assert not waiting.done()
            served.engine.may_start.set()
            answered = await waiting
            await until_it_is(served, "loaded")
            counts = [
                await sample(served, 'serving_model_unloads_total{cause="idle",model="demo"}'),
                await sample(served, 'serving_model_loads_total{cause="request",model="demo"}'),
                await sample(served, 'serving_model_loads_total{cause="admin",model="demo"}'),
                await sample(served, 'serving_model_load_seconds_count{model="demo"}'),
            ]
        assert (still["state"], idle["cause"], held) == ("loaded", "idle", 1)
        assert (answered.status_code, answered.json()["choices"][0]["message"]["content"]) == (200, "Hello there!")
        assert counts == [1, 1, 0, 1]

    async def test_a_long_answer_keeps_it_loaded(self, serve: Serve, lifecycles: Lifecycles, until: Until) -> None:
        async with serve(**IDLE, lifecycles=lifecycles) as served:
            stream = await served.openai.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "slowly"}], stream=True
            )
            chunks = aiter(stream)
            await anext(chunks)
            for _ in range(4):
                lifecycles.now += 30
                await asyncio.sleep(0.05)
            state = (await card(served))["state"]
            await stream.close()
            await until(lambda: not served.tenancy.admission("demo").in_use)
            lifecycles.now += 61
            await until_it_is(served, "unloaded")
        assert state == "loaded"

    async def test_use_at_any_process_keeps_it_loaded_for_all(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(**IDLE, lifecycles=lifecycles) as one, serve(**IDLE, lifecycles=lifecycles) as other:
            await other.http.get("/admin/models")  # begins to look
            for _ in range(4):
                lifecycles.now += 30
                await one.chat()
                await asyncio.sleep(0.05)
            assert (await card(other))["state"] == "loaded"
            lifecycles.now += 61
            await until_it_is(one, "unloaded")
            await until_it_is(other, "unloaded")

    async def test_a_model_with_no_replicas_is_loaded_when_it_is_wanted(
        self, serve: Serve, lifecycles: Lifecycles
    ) -> None:
        models = {"demo": ModelSettings.model_validate({"replicas": {"min": 0, "max": 1}})}
        async with serve(models=models, lifecycles=lifecycles) as served:
            await until_it_is(served, "unloaded")
            ready = await served.http.get("/ready")
            answered = await served.chat()
            loaded = await card(served)
            lifecycles.now += 901
            await until_it_is(served, "unloaded")
        assert (ready.status_code, answered.status_code) == (200, 200)
        assert (loaded["state"], loaded["cause"]) == ("loaded", "request")


class TestHeldRequests:
    @pytest.fixture
    async def away(self, serve: Serve, lifecycles: Lifecycles) -> AsyncIterator[Served]:
        """A server whose model is idle, and does not come back before it is let."""
        models = {"demo": ModelSettings.model_validate({"idle": {"after_s": 60}, "hold": {"longest_s": 90, "most": 2}})}
        async with serve(models=models, lifecycles=lifecycles) as served:
            await served.chat()
            lifecycles.now += 61
            await until_it_is(served, "unloaded")
            served.engine.may_start.clear()
            yield served
            served.engine.may_start.set()

    async def test_more_than_may_wait_are_refused(self, away: Served) -> None:
        waiting = [asyncio.create_task(away.chat()) for _ in range(2)]
        await until_held(away, 2)
        refused = await away.chat()
        away.engine.may_start.set()
        answered = [reply.status_code for reply in await asyncio.gather(*waiting)]
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert "retry-after" in refused.headers
        assert answered == [200, 200]

    async def test_a_client_that_leaves_frees_its_place(self, away: Served) -> None:
        waiting = [asyncio.create_task(away.chat(stream=True)) for _ in range(2)]
        await until_held(away, 2)
        waiting[0].cancel()
        await until_held(away, 1)
        away.engine.may_start.set()
        assert (await waiting[1]).status_code == 200

    async def test_its_deadline_holds_while_it_waits(self, away: Served) -> None:
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}
        reply = await away.http.post("/v1/chat/completions", json=body, headers={"x-request-timeout": "0.2"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
        await until_held(away, 0)

    async def test_it_waits_no_longer_than_the_settings_say(self, away: Served, lifecycles: Lifecycles) -> None:
        waiting = asyncio.create_task(away.chat())
        await until_held(away, 1)
        lifecycles.now += 91
        reply = await waiting
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_not_ready")
        assert "90 s" in reply.json()["error"]["message"]

    async def test_it_is_refused_when_an_administrator_unloads_the_model(self, away: Served) -> None:
        waiting = asyncio.create_task(away.chat())
        await until_held(away, 1)
        await change(away, "unload")
        reply = await waiting
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_unloaded")

    async def test_raw_completions_and_responses_wait_too(self, away: Served) -> None:
        waiting = [
            asyncio.create_task(away.openai.completions.create(model="demo", prompt="Hello")),
            asyncio.create_task(away.openai.responses.create(model="demo", input="Hello!")),
        ]
        await until_held(away, 2)
        away.engine.may_start.set()
        await asyncio.gather(*waiting)


class TestSleep:
    async def test_a_sleeping_model_is_woken_by_the_next_request(
        self, serve: Serve, lifecycles: Lifecycles, until: Until
    ) -> None:
        async with serve(**SLEEPY, lifecycles=lifecycles) as served:
            slept = await change(served, "sleep")
            assert served.engine.asleep
            ready = await served.http.get("/ready")
            answered = await served.chat()
            awake = await card(served)
            await change(served, "sleep")
            woken = await change(served, "wake")
            # The prompt is asked beside it, once for each time it woke.
            await until(lambda: [each.request_id for each in served.engine.requests].count("warm-up-prompt-1") == 2)
        assert (slept.status_code, slept.json()["state"]) == (200, "loaded")
        assert [report["asleep"] for report in slept.json()["reports"]] == [True]
        assert (ready.status_code, answered.status_code) == (200, 200)
        assert [report["asleep"] for report in awake["reports"] + woken.json()["reports"]] == [False, False]

    async def test_a_model_at_work_does_not_sleep(self, serve: Serve, lifecycles: Lifecycles) -> None:
        async with serve(**SLEEPY, lifecycles=lifecycles) as served:
            stream = await served.openai.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "slowly"}], stream=True
            )
            await anext(aiter(stream))
            reply = await change(served, "sleep")
            await stream.close()
        assert (reply.status_code, "1 requests" in reply.text) == (409, True)

    @pytest.mark.parametrize("what", ["sleep", "wake"])
    async def test_an_unloaded_model_can_do_neither(self, serve: Serve, lifecycles: Lifecycles, what: str) -> None:
        async with serve(**SLEEPY, lifecycles=lifecycles) as served:
            await change(served, "unload?wait=true")
            reply = await change(served, what)
        assert (reply.status_code, "is unloaded" in reply.text) == (409, True)

    async def test_where_engines_cannot_sleep_the_reply_says_what_to_do(self, served: Served) -> None:
        reply = await change(served, "sleep")
        assert (reply.status_code, "use unload" in reply.text) == (409, True)


class Away(MemoryLifecycleStore):
    async def read(self, models: object) -> Mapping[str, Kept]:
        raise StoreUnavailableError("It is away.")


async def _nothing() -> None:
    pass
