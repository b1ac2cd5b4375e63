"""What docs/responses.md shows works, block after block as a reader would type it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serving.api.openai.responses.request import ResponsesRequest
from serving.engine.scripted import ScriptLine
from serving.settings.loading.load import load_settings

if TYPE_CHECKING:
    from tests.http_server import Served

PAGE = (Path(__file__).parents[4] / "docs" / "responses.md").read_text()
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Zürich"}<|call|>'
ANSWERS = [
    "<|channel|>analysis<|message|>A greeting.<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|return|>",
    CALL,
    "<|channel|>final<|message|>It is sunny.<|return|>",
    "<|channel|>final<|message|>Hello, Ann!<|return|>",
    "<|channel|>commentary to=functions.calculate<|message|>2 + 3<|call|>",
    f"<|channel|>analysis<|message|>The weather.<|end|><|start|>assistant{CALL}",
    "<|channel|>final<|message|>The user asks for the weather.<|return|>",
    "<|channel|>final<|message|>Hello again!<|return|>",
    "<|channel|>final<|message|>Hello from behind!<|return|>",
    "<|channel|>final<|message|>Hello, briefly!<|return|>",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


async def test_the_programs_run(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.engine.in_turn = [ScriptLine(completion=text) for text in ANSWERS]
    namespace: dict[str, Any] = {}
    printed = []
    for block in blocks("python"):
        program = block.replace("http://localhost:8000", f"http://127.0.0.1:{served.port}")
        await asyncio.to_thread(exec, program, namespace)
        printed.append(capsys.readouterr().out)
    assert "Hello from behind!\n" in printed
    namespace["client"].close()
    assert printed[0] == "Hello!\n['reasoning', 'message']\n"
    assert printed[1] == "It is sunny.\n"
    assert printed[2] == "3\n"
    assert printed[3] == "['2 + 3']\n"
    assert printed[4] == "['function_call', 'reasoning']\n"
    assert int(printed[5].splitlines()[0]) > 10
    assert printed[5].splitlines()[1] == "['message', 'compaction']"
    assert printed[6] == "Hello again!"
    assert printed[7].splitlines()[0] == "6 response.output_text.delta"
    assert printed[7].splitlines()[-1].endswith("response.completed")
    assert served.engine.in_turn == []


def test_the_settings_are_right_and_say_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    (text,) = blocks("yaml")
    file.write_text(text)
    settings = load_settings(config=file, overrides={}, environ={})
    assert settings.responses.backend == "redis"
    defaults = type(settings.responses)()
    assert settings.responses.model_copy(update={"backend": "memory"}) == defaults


def test_every_extension_is_on_the_page() -> None:
    for field in ("max_reasoning_tokens", "min_answer_tokens"):
        assert field in ResponsesRequest.model_fields
        assert f"`{field}`" in PAGE
