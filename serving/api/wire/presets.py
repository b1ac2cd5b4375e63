"""Expansion of a request to a preset into the request that it stands for.

Presets are filled into the JSON before a request is checked, while absent fields can still be told from given ones.
Each API has its own names for the same things. Effort and budget are not here: they become the model's defaults
(ModelRegistry), which every API knows already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.settings.presets import PresetAnswer, PresetSettings

Body = dict[str, Any]
Expand = Callable[[Body], Body]
Filling = tuple[Sequence[str], Any]
"""Where in a request's body something stands, and what stands there if the request says nothing."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """An API's names for what a preset sets. `samples` is false for routes that count tokens and generate nothing."""

    fillings: Callable[[PresetSettings, Body], Iterator[Filling]]
    instruct: Callable[[Body, str], Body]
    samples: bool = True


def unchanged(body: Body) -> Body:
    """Return `body`, for servers without presets."""
    return body


def expanding(presets: Mapping[str, PresetSettings], dialect: Dialect) -> Expand:
    """Make the function that expands each request's body; a body that names no preset stays as it is."""

    def expand(body: Body) -> Body:
        name = body.get("model")
        preset = presets.get(name) if isinstance(name, str) else None
        if preset is None:
            return body
        for path, value in dialect.fillings(preset, body):
            body = _filled(body, path, value)
        if dialect.samples:
            for name, value in (("temperature", preset.temperature), ("top_p", preset.top_p)):
                body = body if value is None else _filled(body, (name,), value)
        return dialect.instruct(body, preset.instructions) if preset.instructions else body

    return expand


def _filled(body: Body, path: Sequence[str], value: Any) -> Body:
    """`body` with `value` at `path`, unless something stands there."""
    name, *rest = path
    said = body.get(name)
    if not rest:
        return body if said is not None else {**body, name: value}
    if said is not None and not isinstance(said, dict):
        return body  # a mistake, which is told when the request is checked
    return {**body, name: _filled(said or {}, rest, value)}


def _in_chat(preset: PresetSettings, body: Body) -> Iterator[Filling]:
    if preset.tools:
        functions = [tool.model_dump(exclude_none=True) for tool in preset.tools]
        yield ("tools",), [{"type": "function", "function": function} for function in functions]
    other_forms = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
    if preset.answer is not None and all(body.get(form) is None for form in other_forms):
        yield ("response_format",), {"type": "json_schema", "json_schema": _form(preset.answer)}


def _instruct_chat(body: Body, instructions: str) -> Body:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return body
    return {**body, "messages": [{"role": "system", "content": instructions}, *messages]}


def _in_responses(preset: PresetSettings, _: Body) -> Iterator[Filling]:
    if preset.tools:
        yield ("tools",), [{"type": "function", **tool.model_dump(exclude_none=True)} for tool in preset.tools]
    if preset.answer is not None:
        yield ("text", "format"), {"type": "json_schema", **_form(preset.answer)}


def _instruct_responses(body: Body, instructions: str) -> Body:
    return _before_text(body, "instructions", instructions)


def _in_messages(preset: PresetSettings, _: Body) -> Iterator[Filling]:
    if preset.tools:
        tools = [tool.model_dump(exclude={"parameters"}) for tool in preset.tools]
        schemas = [tool.parameters or {"type": "object"} for tool in preset.tools]
        yield ("tools",), [{**tool, "input_schema": schema} for tool, schema in zip(tools, schemas, strict=True)]
    if preset.answer is not None:
        yield ("output_config", "format"), {"type": "json_schema", "schema": preset.answer.json_schema}


def _instruct_messages(body: Body, instructions: str) -> Body:
    system = body.get("system")
    if isinstance(system, list):
        return {**body, "system": [{"type": "text", "text": instructions}, *system]}
    return _before_text(body, "system", instructions)


def _before_text(body: Body, name: str, instructions: str) -> Body:
    said = body.get(name)
    if said is None or said == "":
        return {**body, name: instructions}
    return {**body, name: f"{instructions}\n\n{said}"} if isinstance(said, str) else body


def _form(answer: PresetAnswer) -> Body:
    form: Body = {"name": answer.name, "schema": answer.json_schema}
    return form if answer.description is None else {**form, "description": answer.description}


CHAT = Dialect(_in_chat, _instruct_chat)
TOKENIZE = Dialect(_in_chat, _instruct_chat, samples=False)
RESPONSES = Dialect(_in_responses, _instruct_responses)
MESSAGES = Dialect(_in_messages, _instruct_messages)
COUNT_TOKENS = Dialect(_in_messages, _instruct_messages, samples=False)
