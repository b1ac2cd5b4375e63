"""Stored responses outlive the process that answered."""

from __future__ import annotations

import time

import openai
import psutil
import pytest
from openai import OpenAI

from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e]

RECOVERY_S = 120.0


def test_a_response_survives_the_death_of_the_ingress_that_stored_it(stack: Stack, client: OpenAI) -> None:
    response = client.responses.create(model="demo", input="What is the capital of France?", temperature=0)
    (ingress,) = (process for process in stack.processes() if is_ingress(process))
    ingress.kill()
    ingress.wait(10)
    found = retrieve(client, response.id)
    assert found.to_dict() == response.to_dict()
    later = client.responses.create(model="demo", input="And?", previous_response_id=response.id, temperature=0)
    assert later.status == "completed"


def is_ingress(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline()).split(" ")[0]
    except psutil.NoSuchProcess:
        return False
    return title.startswith("ray::ServeReplica") and title.endswith(":ingress")


def retrieve(client: OpenAI, response_id: str) -> openai.types.responses.Response:
    """The response, once a replacement answers; a 404 would be the loss that this looks for."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            return client.responses.retrieve(response_id)
        except openai.NotFoundError as error:
            if error.code == "response_not_found" or time.monotonic() > deadline:
                raise
        except (openai.InternalServerError, openai.APIConnectionError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
