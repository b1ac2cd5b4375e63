"""SDKs and frameworks: what each shows its user, and what of the model's words comes back in its tool loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.harness import ANALYSIS, PREAMBLE, SUNNY, Scripted, run_node_program, run_python_program
from tests.clients.registry import PROGRAMS, Client

pytestmark = pytest.mark.clients

Shown = Callable[[Client, str], Any]
WEATHER = "21 degrees"
CASES = [pytest.param(client, api, id=f"{client.title} {api}") for client in PROGRAMS for api in client.reasoning]


STATELESS = (
    "openai (Python)",
    "openai (Node)",
    "Vercel AI SDK",
    "openai-agents (Python)",
    "@openai/agents (Node)",
)


@pytest.fixture(scope="module")
def shown(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What a client's check showed; its program runs once, with all checks."""
    results: dict[str, dict[str, Any]] = {}

    def get(client: Client, check: str) -> Any:
        if client.title not in results:
            results[client.title] = _run(client, scripted, tmp_path_factory.mktemp("client"))
        result = results[client.title][check]
        assert "failed" not in result, f"{client.title}, {check}:\n{result['failed']}"
        return result["shown"]

    return get


def _run(client: Client, scripted: Scripted, folder: Path) -> dict[str, Any]:
    assert client.program is not None
    if client.group is None:
        return run_node_program(client.title, client.program, scripted, folder)
    return run_python_program(client.title, client.program, client.group, scripted, folder)


def _client(title: str) -> Client:
    return next(client for client in PROGRAMS if client.title == title)


@pytest.mark.parametrize(("client", "api"), CASES)
def test_an_answer_is_shown(shown: Shown, client: Client, api: str) -> None:
    assert shown(client, f"{api}.answer") == client.answer


@pytest.mark.parametrize(("client", "api"), CASES)
def test_a_stream_is_shown_as_it_comes(shown: Shown, client: Client, api: str) -> None:
    pieces = shown(client, f"{api}.stream")
    assert len(pieces) > 3
    assert client.streamed in ("".join(pieces), pieces[-1])


@pytest.mark.parametrize(("client", "api"), CASES)
def test_a_tool_loop_runs_to_its_answer(shown: Shown, scripted: Scripted, client: Client, api: str) -> None:
    assert client.tool_answer in shown(client, f"{api}.tools")
    first, *second = scripted.prompts(f"({client.title}: {api}.tools)")
    assert ANALYSIS not in first
    assert [WEATHER in prompt for prompt in second] == [client.tool_answer == SUNNY] * len(second)
    assert all((ANALYSIS in prompt) is client.reasoning[api] for prompt in second)


@pytest.mark.parametrize(("client", "api"), CASES)
def test_an_error_says_what_is_wrong(shown: Shown, client: Client, api: str) -> None:
    assert "model 'no-such-model' does not exist" in shown(client, f"{api}.error").replace("\\'", "'")


@pytest.mark.parametrize("title", STATELESS)
def test_reasoning_goes_out_and_comes_back_without_the_store(shown: Shown, scripted: Scripted, title: str) -> None:
    """The second prompt is the same, token for token, as with the store or with plain items."""
    client = _client(title)
    prompts = []
    for check in ("responses.encrypted", "responses.tools"):
        assert shown(client, check) == SUNNY
        _, prompt = scripted.prompts(f"({title}: {check})")
        prompts.append(prompt.replace(check, ""))
    assert ANALYSIS in prompts[0]
    assert prompts[0] == prompts[1]


def test_the_ai_sdk_shows_a_summary_and_the_preamble(shown: Shown) -> None:
    client = _client("Vercel AI SDK")
    assert shown(client, "responses.summary") == "Easy."
    assert PREAMBLE in shown(client, "chat.preamble")
