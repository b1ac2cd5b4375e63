"""More long prompts than a real engine's KV cache holds: they wait for their turn, and none is computed twice."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from serving.settings.keys import Key, new_key, new_salt
from tests.e2e.conftest import Stack, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PROMPT = 400
"""Tokens of a prompt: with its answer a seventh of the KV cache of 50 blocks of 128 tokens."""
ANSWER = 200
SETTINGS = {
    # Slots for all, so that memory alone holds requests back; no prompts but these, or the prefix cache shares them.
    "models": {
        "demo": {
            "source": "demo",
            "max_model_len": 1024,
            "max_num_seqs": 64,
            "engine_args": {"num_gpu_blocks_override": 50, "block_size": 128},
        }
    },
}


@dataclass(frozen=True)
class Shared:
    stack: Stack
    admin: Key
    keys: dict[str, Key]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    directory: Path = tmp_path_factory.mktemp("saturation")
    keys, admin = {name: new_key() for name in ("flood", "calm")}, new_key()
    teams = {name: {"keys": [{"id": key.id, "hash": str(key.hashed(new_salt()))}]} for name, key in keys.items()}
    (directory / "teams.yaml").write_text(json.dumps({"teams": teams}))
    settings = SETTINGS | {
        "teams_file": str(directory / "teams.yaml"),
        "admin_key_hash": str(admin.hashed(new_salt())),
    }
    (directory / "serving.yaml").write_text(json.dumps(settings))
    with started(directory, "--config", str(directory / "serving.yaml")) as stack:
        yield Shared(stack, admin, keys)


async def preemptions(http: httpx.AsyncClient, admin: Key) -> float:
    metrics = await http.get("/metrics", headers={"authorization": f"Bearer {admin.text}"})
    (count,) = re.findall(r"^vllm:num_preemptions_total\{.*\} (.*)$", metrics.text, re.MULTILINE)
    return float(count)


async def test_prompts_wait_for_memory_in_a_fair_order_and_none_is_preempted(shared: Shared) -> None:
    chance = random.Random(1)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=shared.stack.root, timeout=300, limits=limits) as http:

        async def ask(team: str, stream: bool) -> float:
            """When its answer was whole."""
            prompt = [chance.randrange(1000, 100_000) for _ in range(PROMPT)]
            body = {"model": "demo", "prompt": prompt, "max_tokens": ANSWER, "stream": stream}
            headers = {"authorization": f"Bearer {shared.keys[team].text}"}
            reply = await http.post("/v1/completions", json=body, headers=headers)
            assert reply.status_code == 200, reply.text
            return time.monotonic()

        # Given a team whose prompts are four times as many as fit
        flood = [asyncio.create_task(ask("flood", stream=bool(number % 2))) for number in range(25)]
        await asyncio.sleep(1)
        # When another team comes
        calm = await asyncio.gather(*(ask("calm", stream=True) for _ in range(4)))
        flooded = await asyncio.gather(*flood)
        # Then its turn comes before most of the first team's, which came before
        assert sum(ended > max(calm) for ended in flooded) >= len(flooded) / 3
        # And no answer lost its memory to another one
        assert await preemptions(http, shared.admin) == 0
