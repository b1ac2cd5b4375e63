"""The page at /: as a browser shows it, with and without JavaScript, with and without keys."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from serving.engine.scripted import ScriptLine
from serving.settings.keys import new_key, new_salt
from tests.programs import program

BROKEN = "<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>Yes.<|return|>"


class Served(Protocol):
    http: httpx.AsyncClient
    port: int

    async def chat(self, **fields: object) -> httpx.Response: ...


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Root, as in a container, may not use Chromium's sandbox; what is shown is our own page.
        running = await playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        yield running
        await running.close()


async def opened(browser: Browser, served: Served, **context: Any) -> tuple[Page, list[str]]:
    """The page, and what the browser complains of."""
    page = await browser.new_page(**context)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"http://127.0.0.1:{served.port}/")
    return page, complaints


@pytest.mark.needs("chromium")
async def test_the_playground_streams_each_channel_into_its_own_pane(browser: Browser, served: Served) -> None:
    page, complaints = await opened(browser, served)
    await page.fill("#message", "weather?")
    await page.select_option("#effort", "high")
    await page.select_option("#tool", "weather")
    await page.click("#send")
    await expect(page.locator("#outcome")).to_contain_text("tokens")
    await expect(page.locator("#pane-analysis")).to_have_text("A tool has this.")
    await expect(page.locator("#pane-commentary")).to_have_text("Let me look.")
    await expect(page.locator("#pane-final")).to_have_text("")
    await expect(page.locator("#pane-tool")).to_have_text('get_weather {"city": "Zürich"}')
    assert complaints == []


@pytest.mark.needs("chromium")
async def test_a_running_answer_can_be_stopped(browser: Browser, served: Served) -> None:
    page, _ = await opened(browser, served)
    await page.fill("#message", "slowly")
    await page.click("#send")
    await expect(page.locator("#pane-final")).to_contain_text("word word")
    await page.click("text=Stop")
    await expect(page.locator("#outcome")).to_have_text("stopped")
    await expect(page.locator("#send")).to_have_text("Send")


@pytest.mark.needs("chromium")
async def test_an_error_is_shown_in_its_own_words(browser: Browser, serve: Serve) -> None:
    async with serve(start=False) as served:
        page, _ = await opened(browser, served)
        await expect(page.locator("#state")).to_have_text("not ready: demo")
        await page.click("#send")
        await expect(page.locator("#outcome")).to_contain_text("has not started")


@pytest.mark.needs("chromium")
async def test_figures_move_by_themselves(browser: Browser, serve: Serve) -> None:
    async with serve(ScriptLine(completion=BROKEN)) as served:
        page, _ = await opened(browser, served)
        await expect(page.locator("#nothing")).to_be_visible()
        await served.chat()
        await expect(page.locator("#recent-rows")).to_contain_text("start_missing")
        await expect(page.locator("#channel-rows tr", has_text="prompt")).to_contain_text(re.compile("[1-9]"))


@pytest.mark.needs("chromium")
async def test_without_javascript_the_figures_are_in_the_page(browser: Browser, serve: Serve) -> None:
    async with serve(ScriptLine(completion=BROKEN)) as served:
        await served.chat()
        page, _ = await opened(browser, served, java_script_enabled=False)
        await expect(page.locator("#model-rows")).to_contain_text("demo")
        await expect(page.locator("#state")).to_have_text("ready")
        await expect(page.locator("#recent-rows")).to_contain_text("recovered")
        await expect(page.locator("#curl")).to_contain_text(f"curl -N http://127.0.0.1:{served.port}/v1/chat")


@pytest.mark.needs("chromium")
async def test_backends_appear_with_the_first_one(browser: Browser, serve: Serve) -> None:
    async with serve() as served:
        page, complaints = await opened(browser, served)
        await expect(page.locator("#models")).to_be_visible()
        await expect(page.locator("#backends")).to_be_hidden()
        body = {"name": "lab", "url": "http://127.0.0.1:9/v1", "type": "vllm", "models": ["<b>20b</b>"]}
        assert (await served.http.post("/backends/register", json=body)).status_code == 201
        await expect(page.locator("#backend-rows")).to_contain_text("lab")
        await expect(page.locator("#backend-rows")).to_contain_text("cannot be reached")
        await expect(page.locator("#backend-rows")).to_contain_text("<b>20b</b>")
        assert complaints == []


@pytest.mark.needs("chromium")
async def test_where_keys_are_on_nothing_is_shown_until_they_are_given(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    team, admin = new_key(), new_key()
    stored = {"id": team.id, "hash": str(team.hashed(new_salt()))}
    (tmp_path / "teams.yaml").write_text(json.dumps({"teams": {"search": {"keys": [stored]}}}))
    settings = {"teams_file": str(tmp_path / "teams.yaml"), "admin_key_hash": str(admin.hashed(new_salt()))}
    async with serve(further=settings) as served:
        assert (await served.http.get("/status")).status_code == 401
        page, _ = await opened(browser, served)
        assert "demo" not in await page.locator("#model-rows").inner_text()
        await page.fill("#admin-key", admin.text)
        await page.fill("#team-key", team.text)
        await page.click("text=Use them")
        await expect(page.locator("#model-rows")).to_contain_text("demo")
        await page.click("#send")
        await expect(page.locator("#outcome")).to_contain_text("tokens")
        assert team.text not in page.url


async def test_an_unloaded_model_is_shown_as_that_and_as_no_fault(served: Served) -> None:
    await served.http.post("/admin/models/demo/unload?wait=true")
    page = (await served.http.get("/")).text
    assert '<td class="good">unloaded</td>' in page
    assert "not ready" not in page.split("<main")[1].split("<script")[0]


async def test_names_from_outside_stay_text(serve: Serve) -> None:
    async with serve(ScriptLine(completion=BROKEN)) as served:
        await served.http.post(
            "/v1/chat/completions",
            json={"model": "demo", "messages": [{"role": "user", "content": "x"}]},
            headers={"host": 'a"><script>alert(1)</script>'},
        )
        reply = await served.http.get("/", headers={"host": 'a"><script>alert(1)</script>'})
    assert "<script>alert" not in reply.text


async def test_status_is_the_same_as_data(serve: Serve) -> None:
    async with serve(ScriptLine(completion=BROKEN)) as served:
        await served.chat()
        status = (await served.http.get("/status")).json()
    assert status["models"]["demo"]["ready"] is True
    assert status["ingress_replicas"] == 1
    assert status["tokens"]["final"] == 2
    assert [(event["kind"], event["detail"]) for event in status["recent"]] == [("recovered", "start_missing")]


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    reply = await served.http.get("/")
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", reply.text) == []
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
