"""Why engines do not start, as GET /ready, /status, the page at / and the metrics tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from serving.engine.start_failure import FIXES, FailedStarts, StartFailure
from serving.settings.keys import new_key, new_salt

if TYPE_CHECKING:
    from tests.http_server import Serve

MESSAGE = "RuntimeError: <b>no room</b>\nValueError: Available memory is less than requested."
FAILURE = StartFailure("out_of_memory", MESSAGE, FIXES["out_of_memory"], "/tmp/ray/worker-1.err", 2)


class Known:
    """What the cluster knows."""

    def __init__(self) -> None:
        self.of: dict[str, FailedStarts] = {"demo": FailedStarts(FAILURE, {"out_of_memory": 2})}

    async def read(self, models: Sequence[str]) -> Mapping[str, FailedStarts]:
        return {name: each for name, each in self.of.items() if name in models}


async def test_ready_says_why_a_model_did_not_start(serve: Serve) -> None:
    async with serve(start=False, start_failures=Known()) as served:
        reply = await served.http.get("/ready")
        assert reply.status_code == 503
        assert reply.json()["models"]["demo"]["start_failure"] == {
            "reason": "out_of_memory",
            "message": MESSAGE,
            "fix": FIXES["out_of_memory"],
            "log": "/tmp/ray/worker-1.err",
            "in_a_row": 2,
        }
        # When it is there, nobody asks
        await served.engine.start()
        assert (await served.http.get("/ready")).json()["models"]["demo"] == {"status": "ready"}


async def test_ready_keeps_messages_and_paths_from_strangers(serve: Serve) -> None:
    further = {"admin_key_hash": str(new_key().hashed(new_salt()))}
    async with serve(start=False, start_failures=Known(), further=further) as served:
        told = (await served.http.get("/ready")).json()["models"]["demo"]["start_failure"]
        assert told == {"reason": "out_of_memory", "fix": FIXES["out_of_memory"], "in_a_row": 2}


async def test_a_model_that_is_only_starting_has_no_failure(serve: Serve) -> None:
    known = Known()
    known.of["demo"] = FailedStarts(None, {"checkpoint": 1})
    async with serve(start=False, start_failures=known) as served:
        assert "start_failure" not in (await served.http.get("/ready")).json()["models"]["demo"]
        assert (await served.http.get("/status")).json()["models"]["demo"]["start_failure"] is None


async def test_the_page_says_it_too_and_escapes_it(serve: Serve) -> None:
    async with serve(start=False, start_failures=Known()) as served:
        page = (await served.http.get("/")).text
        assert "demo did not start (out_of_memory)" in page
        assert "&lt;b&gt;no room&lt;/b&gt;" in page
        assert "<b>no room</b>" not in page
        assert "Log: /tmp/ray/worker-1.err" in page
        assert (await served.http.get("/status")).json()["models"]["demo"]["start_failure"]["reason"] == "out_of_memory"


async def test_failures_are_counted_as_the_cluster_has_them(serve: Serve) -> None:
    known = Known()

    async def counted(reason: str) -> str:
        text = (await served.http.get("/metrics")).text
        name = "serving_engine_start_failures_total{"
        return next(
            line.split()[-1] for line in text.splitlines() if line.startswith(name) and f'reason="{reason}"' in line
        )

    async with serve(start_failures=known) as served:
        assert [await counted("out_of_memory"), await counted("driver")] == ["2.0", "0.0"]
        known.of["demo"] = FailedStarts(None, {"out_of_memory": 5})
        assert [await counted("out_of_memory"), await counted("out_of_memory")] == ["5.0", "5.0"]
        # When the cluster could not be asked
        known.of.clear()
        assert await counted("out_of_memory") == "5.0"
