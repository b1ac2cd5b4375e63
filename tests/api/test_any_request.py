"""Requests made up from the API's own description, right ones and wrong ones, against a real server.

SCHEMATHESIS_REQUESTS says at least how many. A run of 5,000 takes some minutes, and makes up other ones each time:

    SCHEMATHESIS_REQUESTS=5000 .venv/bin/pytest tests/api/test_any_request.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.tree import Settings
from tests.http_server import in_thread

REQUESTS = int(os.environ.get("SCHEMATHESIS_REQUESTS", "0"))
FEW = 3  # of each kind, always
ANSWER = ScriptLine(
    completion="<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    engine = ScriptedEngine(Script((ANSWER,)), model="demo", max_model_len=131072)
    with in_thread(Settings(), engine) as url:
        yield url


# A request of each operation is always made; the rest go where most can go wrong.
@pytest.mark.timeout(3600)
def test_no_request_breaks_the_server_or_leaves_its_form(base_url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    operations: list[Any] = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == len(list(schema.get_all_operations()))
    made = 0
    rich = []
    for operation in operations:
        tried = {mode: try_out(operation, mode, FEW, base_url) for mode in GenerationMode}
        assert any(tried.values()), operation.path
        made += sum(tried.values())
        if operation.method.upper() == "POST":
            # Where little can vary, all there is has been tried by then.
            rich += [(operation, mode) for mode, count in tried.items() if count == FEW]
    while made < REQUESTS:
        share = max(FEW, -(-(REQUESTS - made) // len(rich)))
        made += sum(try_out(operation, mode, share, base_url) for operation, mode in rich)


def try_out(operation: Any, mode: GenerationMode, examples: int, base_url: str) -> int:
    """Make such requests; returns how many. There are no wrong ones where nothing can be wrong."""
    if mode is GenerationMode.NEGATIVE and operation.method.upper() != "POST":
        return 0
    made = 0

    @pytest.mark.property
    @given(case=operation.as_strategy(generation_mode=mode), junk=st.booleans())
    @settings(
        max_examples=examples,
        database=None,
        derandomize="SCHEMATHESIS_REQUESTS" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any, junk: bool) -> None:
        if junk and isinstance(case.body, dict):
            case.body["model"] = "demo"  # names made up never get past the first look
        nonlocal made
        made += 1
        reply = case.call(base_url=base_url)
        where = f"{operation.method.upper()} {operation.path}: {reply.status_code} {reply.text[:300]}"
        assert reply.status_code < 500, where
        if reply.status_code >= 400:
            is_openais_error(operation.path, json.loads(reply.text), where)
        elif not operation.path.startswith("/v1/messages"):
            for line in reply.text.splitlines() if "event-stream" in str(reply.headers.get("content-type")) else ():
                assert not line.startswith('data: {"error"') or '"code"' in line, where

    try:
        check()
    except Unsatisfiable:
        return 0
    return made


def is_openais_error(path: str, body: Any, where: str) -> None:
    if path.startswith("/v1/messages"):
        assert body["type"] == "error", where
        assert {"type", "message"} <= set(body["error"]), where
        return
    assert set(body["error"]) == {"message", "type", "param", "code"}, where
    assert isinstance(body["error"]["message"], str), where


def test_the_server_is_still_well(base_url: str) -> None:
    reply = httpx.post(
        f"{base_url}/v1/chat/completions",
        json={"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]},
        timeout=30,
    )

    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"] == "Yes."
