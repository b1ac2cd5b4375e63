from __future__ import annotations

from typing import Any

import pytest

from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.tree import Settings


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/responses/resp_1/cancel", "responses"),
        ("/v1/messages/count_tokens", "messages"),
        ("/backends/register", "admin"),
        ("/queue/status", "admin"),
        ("/v1/chatter", "other"),
        ("/v1/modelsx", "other"),
    ],
)
async def test_paths_belong_to_the_apis_of_the_metrics(path: str, api: str) -> None:
    engine = ScriptedEngine(Script((ScriptLine(completion="<|return|>"),)))
    async with Parts.in_process(Settings(), {"demo": engine}) as parts:
        app = create_app(parts)
    rules: Any = next(each.kwargs["rules"] for each in app.user_middleware if "rules" in each.kwargs)
    assert rules.find(path).label == api
