"""Instructor: a pydantic model out of a forced tool, and out of a JSON schema."""

from __future__ import annotations

from typing import Any

import instructor
from checks import MODEL, NO_MODEL, check, run, tagged
from configuration import client
from instructor import Mode
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


def extracted(client: Any, text: str, model: str = MODEL, response_model: Any = Person) -> Any:
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], response_model=response_model, max_retries=0
    )


@check("chat.tools")
def tools() -> str:
    return extracted(client, tagged("Who is Ann?", "chat.tools")).model_dump_json()


@check("chat.answer")
def schema() -> str:
    schemas = instructor.from_openai(client.client, mode=Mode.JSON_SCHEMA)
    return extracted(schemas, tagged("Describe Ann.", "chat.answer")).model_dump_json()


@check("chat.stream")
def stream() -> list[str]:
    partial = client.chat.completions.create_partial(
        model=MODEL, messages=[{"role": "user", "content": tagged("Stream Ann.", "chat.stream")}], response_model=Person
    )
    return [each.model_dump_json() for each in partial]


@check("chat.error")
def error() -> str:
    try:
        extracted(client, tagged("Who is Ann?", "chat.error"), model=NO_MODEL)
    except Exception as error:  # noqa: BLE001  # instructor wraps what the SDK raises
        return str(error)
    return "no error"


if __name__ == "__main__":
    run()
