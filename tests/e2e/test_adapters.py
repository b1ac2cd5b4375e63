"""A LoRA adapter on the real engine: it changes answers, for those who name it, and goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import NotFoundError, OpenAI

from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASKED: Any = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
PLAIN = "The capital of France is Paris."
GREETING = "Arr, matey! "


def answer(client: OpenAI, model: str) -> str:
    return client.chat.completions.create(model=model, **ASKED).choices[0].message.content or ""


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.root, timeout=150) as admin:
        yield admin
        admin.delete("/admin/adapters/pirate")


def test_it_comes_changes_answers_and_goes(client: OpenAI, admin: httpx.Client) -> None:
    # Given a model without it
    assert answer(client, "demo") == PLAIN
    with pytest.raises(NotFoundError):
        answer(client, "pirate")
    # When it is added
    body = {"name": "pirate", "model": "demo", "source": "demo"}
    assert admin.post("/admin/adapters", json=body).status_code == 201
    # Then it answers to its name, beside its model in the same batch, streamed or not
    models = ["demo", "pirate"] * 6
    with ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(lambda model: answer(client, model), models))
    assert answers == [PLAIN, GREETING + PLAIN] * 6
    stream = client.chat.completions.create(model="pirate", stream=True, **ASKED)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == GREETING + PLAIN
    # And once it is removed nobody does
    assert admin.delete("/admin/adapters/pirate").status_code == 200
    with pytest.raises(NotFoundError):
        answer(client, "pirate")
    assert answer(client, "demo") == PLAIN


def test_one_of_the_settings_is_there_from_the_start_on_every_device(client: OpenAI) -> None:
    assert answer(client, "demo-tp2") == PLAIN
    assert answer(client, "pirate-tp2") == GREETING + PLAIN
    assert client.models.retrieve("pirate-tp2").to_dict()["parent"] == "demo-tp2"


def test_what_is_no_adapter_is_told_and_harms_nobody(client: OpenAI, admin: httpx.Client, tmp_path: Any) -> None:
    for source in (str(tmp_path), "/nowhere"):
        reply = admin.post("/admin/adapters", json={"name": "pirate", "model": "demo", "source": source})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "source"), reply.text
    assert answer(client, "demo") == PLAIN
