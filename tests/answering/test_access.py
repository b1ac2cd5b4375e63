"""Teams on the whole application: what they may do, how much, and in which order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.engine.scripted import ScriptLine
from serving.settings.admission import AdmissionSettings
from serving.settings.keys import Key, new_key, new_salt
from serving.settings.models import ModelSettings
from serving.tenancy.flow_control.fleet import FleetSize

HELLO = {"role": "user", "content": "Hello!"}
SLOW = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 2000, step_ms=20)
QUICK = ScriptLine(
    completion="<|channel|>analysis<|message|>because<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
)
TINY = {"demo": ModelSettings(max_num_seqs=1)}

Further = dict[str, Any]
MakeTeams = Callable[..., Further]
KEYS: dict[str, Key] = {name: new_key() for name in ("research", "sales", "batch")}


@pytest.fixture
def teams(tmp_path: Path) -> MakeTeams:
    """Settings with a teams file of teams by name, each with its key in KEYS."""

    def make(**policies: dict[str, Any]) -> Further:
        listed = {
            name: {**policy, "keys": [{"id": KEYS[name].id, "hash": str(KEYS[name].hashed(new_salt()))}]}
            for name, policy in policies.items()
        }
        path = tmp_path / "teams.yaml"
        path.write_text(yaml.safe_dump({"teams": listed}))
        return {"teams_file": str(path)}

    return make


def by(team: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[team].text}", **headers}


async def chat(served: Any, team: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "messages": [HELLO], **fields}
    http: httpx.AsyncClient = served.http
    return await http.post("/v1/chat/completions", json=body, headers=by(team, **(headers or {})))


class TestPolicy:
    async def test_a_team_sees_and_uses_its_models_alone(self, serve: Any, teams: MakeTeams) -> None:
        models = {"demo": ModelSettings(aliases=("small",)), "large": ModelSettings(source="demo", aliases=("big",))}
        further = teams(research={"models": ["demo"]}, sales={})
        async with serve(QUICK, models=models, further=further) as served:
            mine = (await served.http.get("/v1/models", headers=by("research"))).json()["data"]
            theirs = (await served.http.get("/v1/models", headers=by("sales"))).json()["data"]
            hidden = await served.http.get("/v1/models/large", headers=by("research"))
            absent = await served.http.get("/v1/models/medium", headers=by("research"))
            refused = await chat(served, "research", model="big")
            allowed = await chat(served, "research", model="small")

        assert [card["id"] for card in mine] == ["demo", "small"]
        assert [card["id"] for card in theirs] == ["demo", "small", "large", "big"]
        assert hidden.status_code == absent.status_code == refused.status_code == 404
        assert hidden.text.replace("large", "medium") == absent.text
        assert refused.json()["error"]["code"] == "model_not_found"
        assert allowed.status_code == 200

    async def test_a_team_counts_tokens_for_its_models_alone(self, serve: Any, teams: MakeTeams) -> None:
        models = {"demo": ModelSettings(aliases=("small",)), "large": ModelSettings(source="demo")}
        further = teams(research={"models": ["small"]}, sales={})
        async with serve(QUICK, models=models, further=further) as served:
            replies = [
                await served.http.post("/tokenize", json={"prompt": "a", **body}, headers=by(team))
                for team, body in (
                    ("research", {"model": "small"}),
                    ("research", {"model": "large"}),
                    ("research", {}),
                    ("sales", {}),
                )
            ]
        assert [reply.status_code for reply in replies] == [200, 404, 200, 400]

    @pytest.mark.parametrize(
        ("asked", "given"), [(None, "low"), ("low", "low"), ("medium", "medium"), ("high", "medium")]
    )
    async def test_effort_has_a_default_and_a_ceiling(
        self, serve: Any, teams: MakeTeams, asked: str | None, given: str
    ) -> None:
        further = teams(research={"default_effort": "low", "highest_effort": "medium"})
        async with serve(QUICK, further=further) as served:
            reply = await chat(served, "research", reasoning_effort=asked)
            response = await served.http.post(
                "/v1/responses",
                json={"model": "demo", "input": "Hi", "reasoning": {"effort": asked} if asked else None},
                headers=by("research"),
            )

        assert reply.headers["x-reasoning-effort"] == response.headers["x-reasoning-effort"] == given

    @pytest.mark.parametrize("stream", [False, True])
    async def test_analysis_is_kept_from_a_team_that_may_not_see_it(
        self, serve: Any, teams: MakeTeams, stream: bool
    ) -> None:
        further = teams(research={"show_reasoning": False}, sales={})
        async with serve(QUICK, further=further) as served:
            mine = await chat(served, "research", include_reasoning=True, separate_thinking=True, stream=stream)
            theirs = await chat(served, "sales", stream=stream)
            response = await served.http.post(
                "/v1/responses", json={"model": "demo", "input": "Hi", "stream": stream}, headers=by("research")
            )

        assert "because" not in mine.text
        assert "because" not in response.text
        assert "Yes." in mine.text
        assert "because" in theirs.text

    @pytest.mark.parametrize(
        "policy", [{"show_reasoning": False}, {"highest_effort": "low"}, {"max_reasoning_tokens": 5}]
    )
    async def test_raw_prompts_are_no_way_around_that(
        self, serve: Any, teams: MakeTeams, policy: dict[str, Any]
    ) -> None:
        body = {"model": "demo", "prompt": "Hi"}
        async with serve(QUICK, further=teams(research=policy, sales={})) as served:
            mine = await served.http.post("/v1/completions", json=body, headers=by("research"))
            theirs = await served.http.post("/v1/completions", json=body, headers=by("sales"))
            engine_requests = len(served.engine.requests)

        assert mine.status_code == 403
        assert theirs.status_code == 200
        assert engine_requests == 1

    async def test_reasoning_is_held_to_the_teams_budget(self, serve: Any, teams: MakeTeams) -> None:
        thinks = ScriptLine(completion="<|channel|>analysis<|message|>" + "hm " * 500 + "<|end|>")
        async with serve(thinks, further=teams(research={"max_reasoning_tokens": 20})) as served:
            reply = await chat(served, "research", max_reasoning_tokens=400, max_tokens=60)

        assert reply.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 20

    async def test_output_has_a_ceiling(self, serve: Any, teams: MakeTeams) -> None:
        further = teams(research={"max_output": 50})
        long = ScriptLine(completion="<|channel|>final<|message|>" + "word " * 500)
        async with serve(long, further=further) as served:
            unasked = await chat(served, "research")
            asked = await chat(served, "research", max_tokens=51)
            raw = await served.http.post(
                "/v1/completions", json={"model": "demo", "prompt": "Hi", "max_tokens": 51}, headers=by("research")
            )

        assert unasked.json()["usage"]["completion_tokens"] == 50
        assert unasked.json()["choices"][0]["finish_reason"] == "length"
        assert asked.status_code == raw.status_code == 400
        assert "at most 50" in asked.json()["error"]["message"]

    async def test_context_has_a_ceiling(self, serve: Any, teams: MakeTeams) -> None:
        async with serve(QUICK, further=teams(research={"max_context": 256}, sales={})) as served:
            long = [{"role": "user", "content": "word " * 300}]
            mine = await chat(served, "research", messages=long)
            theirs = await chat(served, "sales", messages=long)

        assert mine.json()["error"]["code"] == "context_length_exceeded"
        assert "256" in mine.json()["error"]["message"]
        assert theirs.status_code == 200


class TestLimits:
    async def test_replies_say_what_is_left(self, serve: Any, teams: MakeTeams) -> None:
        further = teams(research={"requests_per_minute": 1000, "tokens_per_minute": 100_000})
        async with serve(QUICK, further=further) as served:
            first = await chat(served, "research")
            second = await chat(served, "research", stream=True)

        left = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in (first, second)]
        assert first.headers["x-ratelimit-limit-requests"] == "1000"
        assert left == [999, 998]
        assert int(second.headers["x-ratelimit-remaining-tokens"]) < 100_000
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")

    async def test_no_limits_no_headers(self, serve: Any, teams: MakeTeams) -> None:
        async with serve(QUICK, further=teams(research={})) as served:
            reply = await chat(served, "research")

        assert not [name for name in reply.headers if name.startswith("x-ratelimit")]

    async def test_who_asks_too_often_is_told_when_to_come_back(self, serve: Any, teams: MakeTeams) -> None:
        async with serve(QUICK, further=teams(research={"requests_per_minute": 2}, sales={})) as served:
            statuses = [(await chat(served, "research")).status_code for _ in range(2)]
            refused = await chat(served, "research", stream=True)
            other = await chat(served, "sales")

        assert statuses == [200, 200]
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 59 <= int(refused.headers["retry-after"]) <= 61
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert other.status_code == 200

    async def test_a_refused_request_costs_nothing(self, serve: Any, teams: MakeTeams) -> None:
        async with serve(QUICK, further=teams(research={"requests_per_minute": 1})) as served:
            wrong = await chat(served, "research", temperature=9)
            assert wrong.status_code == 400
            assert (await chat(served, "research")).status_code == 200

    async def test_a_days_budget_is_settled_by_what_was_used(self, serve: Any, teams: MakeTeams) -> None:
        async with serve(QUICK, further=teams(research={"tokens_per_day": 800})) as served:
            first = await chat(served, "research")
            replies = [first]
            while replies[-1].status_code == 200:
                await served.tenancy.limiter.flush()
                replies.append(await chat(served, "research"))

        used = first.json()["usage"]["total_tokens"]
        # Another request is let in as long as its estimate fits; later estimates know what is usual.
        assert 800 - 256 - 2 * used <= used * (len(replies) - 1) <= 800
        assert replies[-1].json()["error"]["type"] == "insufficient_quota"
        assert replies[-1].headers["x-should-retry"] == "false"

    async def test_concurrent_requests_are_limited_and_freed_when_a_client_leaves(
        self, serve: Any, teams: MakeTeams, until: Any
    ) -> None:
        async with serve(SLOW, further=teams(research={"concurrent_requests": 1})) as served:
            first = asyncio.create_task(chat(served, "research"))
            await until(lambda: len(served.engine.requests) == 1)
            refused = await chat(served, "research")
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            limiter = served.tenancy.limiter
            await until(lambda: limiter._leases["research"].slots_used == 0)
            again = await chat(served, "research", max_tokens=1)

        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert again.status_code == 200


class TestLine:
    ONE_PLACE = AdmissionSettings(margin=0, reserve=0, max_queued=2)

    async def test_who_waits_is_let_in_when_a_place_is_free(self, serve: Any) -> None:
        async with serve(QUICK, models=TINY, further={"admission": AdmissionSettings(margin=0)}) as served:
            replies = await asyncio.gather(*(served.chat() for _ in range(4)))

        assert [reply.status_code for reply in replies] == [200] * 4

    async def test_no_more_than_there_are_places_for_reach_the_engine(self, serve: Any, until: Any) -> None:
        async with serve(SLOW, models=TINY, further={"admission": self.ONE_PLACE}) as served:
            tasks = [asyncio.create_task(served.chat()) for _ in range(3)]
            admission = served.tenancy.admission("demo")
            await until(lambda: admission.waiting == 2)

            assert len(served.engine.requests) == 1
            full = await served.chat()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: admission.waiting == admission.in_use == 0)

        assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1

    async def test_a_client_that_leaves_the_line_frees_its_place_in_it(self, serve: Any, until: Any) -> None:
        async with serve(SLOW, models=TINY, further={"admission": self.ONE_PLACE}) as served:
            admission = served.tenancy.admission("demo")
            running, waiting = (asyncio.create_task(served.chat(stream=stream)) for stream in (False, True))
            await until(lambda: admission.waiting == 1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

            await until(lambda: admission.waiting == 0)
            assert admission.in_use == 1
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def test_a_flooding_team_is_refused_and_another_is_not(
        self, serve: Any, teams: MakeTeams, until: Any
    ) -> None:
        further = {**teams(research={}, sales={}), "admission": self.ONE_PLACE}
        async with serve(SLOW, models=TINY, further=further) as served:
            flood = [asyncio.create_task(chat(served, "research")) for _ in range(3)]
            admission = served.tenancy.admission("demo")
            await until(lambda: admission.waiting == 2)
            calm = asyncio.create_task(chat(served, "sales"))
            done, _ = await asyncio.wait({*flood}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
            pushed_out = done.pop().result()
            once_more = await chat(served, "research")

            assert not calm.done()
            for task in (*flood, calm):
                task.cancel()
            await asyncio.gather(*flood, calm, return_exceptions=True)

        assert (pushed_out.status_code, once_more.status_code) == (429, 429)
        assert pushed_out.json()["error"]["code"] == "queue_full"

    async def test_a_choice_takes_a_place_each(self, serve: Any, until: Any) -> None:
        models = {"demo": ModelSettings(max_num_seqs=4)}
        async with serve(SLOW, models=models, further={"admission": self.ONE_PLACE}) as served:
            admission = served.tenancy.admission("demo")
            wide = asyncio.create_task(served.chat(n=3))
            await until(lambda: admission.in_use == 3)
            wide.cancel()
            await asyncio.gather(wide, return_exceptions=True)
            await until(lambda: admission.in_use == 0)

    async def test_more_prompts_than_places_take_turns(self, serve: Any) -> None:
        async with serve(QUICK, models={"demo": ModelSettings(max_num_seqs=2)}) as served:
            reply = await served.http.post("/v1/completions", json={"model": "demo", "prompt": ["Hi"] * 9})
            in_use = served.tenancy.admission("demo").in_use

        assert len(reply.json()["choices"]) == 9
        assert in_use <= 3

    async def test_a_second_engine_lets_in_who_waits(self, serve: Any, until: Any) -> None:
        async with serve(SLOW, models=TINY, further={"admission": self.ONE_PLACE}) as served:
            admission = served.tenancy.admission("demo")
            asked = [asyncio.create_task(served.chat()) for _ in range(2)]
            await until(lambda: (admission.in_use, admission.waiting) == (1, 1))
            served.tenancy.resize(FleetSize({"demo": 2}, 1))
            await until(lambda: (admission.in_use, admission.waiting) == (2, 0))
            queue = (await served.http.get("/queue/status")).json()["models"]["demo"]
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

        assert (queue["running"], queue["places"]) == (2, 2)

    async def test_a_request_waits_while_the_engine_has_no_memory_left_for_it(self, serve: Any, until: Any) -> None:
        async with serve(SLOW, models={"demo": ModelSettings(max_num_seqs=8)}) as served:
            admission, engine = served.tenancy.admission("demo"), served.engine
            # Given room for one prompt and its answer, as far as it is known yet: 256 tokens
            engine.kv_blocks = 40
            admission.report(engine.load())
            asked = [asyncio.create_task(served.chat()) for _ in range(3)]
            await until(lambda: (admission.in_use, admission.waiting) == (1, 2))
            # When the engine reports more of it, the oldest goes in
            await until(lambda: engine.running == 1)
            engine.kv_blocks = 60
            admission.report(engine.load())
            metrics = (await served.http.get("/metrics")).text
            assert (admission.in_use, admission.waiting) == (2, 1)
            # And when one is over, without a report
            asked[0].cancel()
            await until(lambda: (admission.in_use, admission.waiting) == (2, 0))
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await until(lambda: engine.running == 0)

        (ratio,) = re.findall(r'^serving_engine_saturation_ratio\{.*model="demo".*\} (.*)$', metrics, re.MULTILINE)
        assert 0.5 < float(ratio) < 1
        assert engine.load().idle
        assert engine.load().kv_cache.used == 0
        assert admission._saturation._answer_tokens == 0

    @pytest.mark.parametrize(("waiting", "effort"), [(0, "high"), (1, "medium"), (3, "low")])
    async def test_effort_falls_while_many_wait(
        self, serve: Any, teams: MakeTeams, until: Any, waiting: int, effort: str
    ) -> None:
        admin = new_key()
        further = {
            **teams(research={"effort_under_load": {"medium_above": 0.1, "low_above": 0.5}}, sales={}),
            "admission": AdmissionSettings(margin=0, max_queued=4),
            "admin_key_hash": str(admin.hashed(new_salt())),
        }
        slow = ScriptLine(prompt_contains="slowly", completion=SLOW.completion, step_ms=20)
        async with serve(slow, QUICK, models=TINY, further=further) as served:
            admission = served.tenancy.admission("demo")
            message = {"role": "user", "content": "slowly"}
            sales = [asyncio.create_task(chat(served, "sales", messages=[message])) for _ in range(1 + waiting)]
            await until(lambda: admission.waiting == waiting and admission.in_use == 1)
            research = asyncio.create_task(chat(served, "research", reasoning_effort="high"))
            await until(lambda: admission.waiting == waiting + 1)
            for task in sales:
                task.cancel()
            await asyncio.gather(*sales, return_exceptions=True)
            reply = await research
            metrics = await served.http.get("/metrics", headers={"authorization": f"Bearer {admin.text}"})

        assert reply.headers["x-reasoning-effort"] == effort
        counted = [line for line in metrics.text.splitlines() if line.startswith("serving_effort_changes_total{")]
        assert len(counted) == (effort != "high")


class TestDeadlines:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_what_runs_out_is_stopped_in_the_engine(self, serve: Any, until: Any, stream: bool) -> None:
        async with serve(SLOW) as served:
            admission = served.tenancy.admission("demo")
            reply = await served.http.post(
                "/v1/chat/completions",
                json={"model": "demo", "messages": [HELLO], "stream": stream},
                headers={"x-request-timeout": "0.3"},
            )
            await until(lambda: admission.in_use == 0)

        assert "deadline_exceeded" in reply.text
        assert reply.status_code == (200 if stream else 504)

    async def test_what_runs_out_in_line_leaves_it(self, serve: Any, until: Any) -> None:
        async with serve(SLOW, models=TINY, further={"admission": AdmissionSettings(margin=0)}) as served:
            admission = served.tenancy.admission("demo")
            running = asyncio.create_task(served.chat())
            await until(lambda: admission.in_use == 1)
            reply = await served.http.post(
                "/v1/chat/completions",
                json={"model": "demo", "messages": [HELLO]},
                headers={"x-request-timeout": "0.1"},
            )
            waiting = admission.waiting
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert waiting == 0

    async def test_what_cannot_be_done_in_time_is_refused_at_once(self, serve: Any) -> None:
        line = ScriptLine(completion="<|channel|>final<|message|>word word word<|return|>", step_ms=10)
        async with serve(line) as served:
            await asyncio.gather(*(served.chat() for _ in range(25)))
            asked = len(served.engine.requests)
            reply = await served.http.post(
                "/v1/chat/completions",
                json={"model": "demo", "messages": [HELLO]},
                headers={"x-request-timeout": "0.01"},
            )

            assert len(served.engine.requests) == asked
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_unattainable")
        assert reply.headers["x-should-retry"] == "false"

    @pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan", "inf", ""])
    async def test_a_deadline_that_is_none_is_refused(self, serve: Any, seconds: str) -> None:
        async with serve(QUICK) as served:
            reply = await served.http.post(
                "/v1/chat/completions",
                json={"model": "demo", "messages": [HELLO]},
                headers={"x-request-timeout": seconds},
            )

        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "x-request-timeout")
