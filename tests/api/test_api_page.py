"""docs/api.md: its examples run as they stand, and no field of ours is missing from it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import field_tables
import pytest
from openai.types import completion_create_params as openai_completions
from openai.types.chat import completion_create_params as openai_chat
from openai.types.responses import response_create_params as openai_responses

from serving.api.openai.chat.request import ChatCompletionRequest
from serving.api.openai.completions.request import CompletionRequest
from serving.api.openai.responses.request import ResponsesRequest
from serving.api.openai.tokenize.wire import DetokenizeRequest, TokenizeChatRequest, TokenizeTextRequest
from serving.engine.scripted import ScriptLine
from serving.settings.reasoning import ReasoningSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

ANALYSIS = "<|channel|>analysis<|message|>The user asks something and I think about it.<|end|><|start|>assistant"
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"Paris"}<|call|>'


def said(prompt: str | None, answer: str) -> ScriptLine:
    if not answer.startswith("<|"):
        answer = f"<|channel|>final<|message|>{answer}<|return|>"
    return ScriptLine(prompt_contains=prompt, completion=ANALYSIS + answer, tokens_per_step=4)


SCRIPT = (
    said("as JSON", '{"country":"France","capital":"Paris"}'),
    said("yes or no", "yes"),
    said(None, "Because of how light scatters."),
)


@pytest.fixture
async def page(serve: Serve) -> AsyncIterator[Served]:
    async with serve(*SCRIPT) as served:
        yield served


def run(blocks: list[str], address: str) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block.replace(ADDRESS, address), "<docs/api.md>", "exec"), names)  # our own page
    names["client"].close()


@pytest.mark.parametrize("number", range(1, len(PYTHON)))
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_each_python_example_runs(page: Served, number: int) -> None:
    if "get_weather" in PYTHON[number]:
        page.engine.in_turn = [said(None, CALL), said(None, "It is sunny.")]
    await asyncio.to_thread(run, [PYTHON[0], PYTHON[number]], f"http://{page.host}:{page.port}")


@pytest.mark.parametrize("command", SHELL)
async def test_each_command_is_answered(page: Served, command: str) -> None:
    command = command.replace(ADDRESS, f"http://{page.host}:{page.port}")
    done = await asyncio.to_thread(subprocess.run, ["bash", "-c", command], capture_output=True, timeout=60, check=True)
    reply = json.loads(done.stdout)
    assert "error" not in reply
    assert reply


@pytest.mark.parametrize(
    ("ours", "openais"),
    [
        (ChatCompletionRequest, openai_chat.CompletionCreateParamsBase),
        (CompletionRequest, openai_completions.CompletionCreateParamsBase),
        (ResponsesRequest, openai_responses.ResponseCreateParamsBase),
    ],
)
def test_every_field_beyond_openais_is_described(ours: Any, openais: Any) -> None:
    beyond = set(ours.model_fields) - set(openais.__annotations__) - {"stream"}
    assert [field for field in sorted(beyond) if f"`{field}" not in PAGE] == []


def test_the_tables_of_known_fields_are_those_of_the_code() -> None:
    assert field_tables.page(PAGE) == PAGE, "run `make fields`"


def test_every_setting_of_reasoning_and_field_of_tokens_is_described() -> None:
    fields = {
        *ReasoningSettings.model_fields,
        *TokenizeTextRequest.model_fields,
        *TokenizeChatRequest.model_fields,
        *DetokenizeRequest.model_fields,
    }
    assert [field for field in sorted(fields) if f"`{field}" not in PAGE] == []
