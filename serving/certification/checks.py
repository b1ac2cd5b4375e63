"""Checks that each API is put to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import jsonschema
import jsonschema.validators

from serving.certification.conversation import Ask, CheckFailedError, Json, Said, require, shortened
from serving.certification.questions import (
    COUNT,
    FORCED_TOOLS,
    HELLO,
    SCHEMA_CASES,
    SKY,
    TIME,
    TOOL_CASES,
    WEATHER,
    WEATHER_RESULT,
    SchemaCase,
    ToolCase,
)
from serving.certification.speaker import Speaker


@dataclass(frozen=True, slots=True)
class Check:
    """Check of one API. `run` returns a remark, "" for none, and raises CheckFailedError."""

    group: str
    name: str
    run: Callable[[Speaker], str]


def checks() -> list[Check]:
    """All checks, in the order of the table."""
    return [
        Check("shape", "whole answer", _whole_shape),
        Check("shape", "streamed answer", _stream_shape),
        Check("shape", "streamed call", _call_shape),
        Check("shape", "reasoning arrives", _reasoning),
        Check("stream", "joins to the whole answer", _answers_agree),
        Check("stream", "joins to the whole call", _calls_agree),
        Check("usage", "counts add up", _usage_adds_up),
        Check("usage", "stream and whole count the same", _usage_agrees),
        Check("usage", "a maximum of tokens holds", _maximum_holds),
        *(Check("tools", f"calls {case.tool.name} by itself", _called(case)) for case in TOOL_CASES),
        Check("tools", "answers from a result", _answers_from_result),
        *(
            Check("tools", f"forced {tool.name}", _forced(Ask(f"Call {tool.name}.", (tool,), tool.name)))
            for tool in FORCED_TOOLS
        ),
        *(Check("schema", case.name, _schema(case)) for case in SCHEMA_CASES),
        Check("errors", "unknown model", _unknown_model),
        Check("errors", "a field is missing", _field_missing),
        Check("errors", "no JSON", _no_json),
    ]


def _whole_shape(speaker: Speaker) -> str:
    speaker.api.validate(speaker.body(HELLO))
    return ""


def _stream_shape(speaker: Speaker) -> str:
    speaker.api.validate_stream(speaker.stream(HELLO))
    return ""


def _call_shape(speaker: Speaker) -> str:
    speaker.api.validate_stream(speaker.stream(_calling()))
    return ""


def _reasoning(speaker: Speaker) -> str:
    for stream in (False, True):
        said = speaker.said(SKY, stream=stream)
        require(said.reasoning != "", f"the {'streamed' if stream else 'whole'} answer has no reasoning")
        require(said.content != "", f"the {'streamed' if stream else 'whole'} answer has no text")
    return ""


def _answers_agree(speaker: Speaker) -> str:
    return _agree(speaker, SKY)


def _calls_agree(speaker: Speaker) -> str:
    return _agree(speaker, _calling())


def _agree(speaker: Speaker, ask: Ask) -> str:
    whole, streamed = speaker.said(ask), speaker.said(ask, stream=True)
    for field in ("reasoning", "aside", "content", "named_calls", "finish"):
        one, other = getattr(whole, field), getattr(streamed, field)
        require(one == other, f"{field} is {shortened(repr(one), 80)} whole and {shortened(repr(other), 80)} streamed")
    return ""


def _usage_adds_up(speaker: Speaker) -> str:
    told = True
    for ask in (SKY, _calling()):
        usage = speaker.said(ask).usage
        if usage is None:
            raise CheckFailedError("there is no usage")
        told = told and usage.reasoning is not None
        if usage.total is not None:
            require(usage.total == usage.prompt + usage.completion, f"{usage} does not add up")
        require(usage.prompt > 0 and usage.completion > 0, f"{usage} has a count of nothing")
        require((usage.reasoning or 0) <= usage.completion, f"{usage} has more reasoning than there is")
    return "" if told else "tokens of reasoning are not told"


def _usage_agrees(speaker: Speaker) -> str:
    whole, streamed = speaker.said(SKY), speaker.said(SKY, stream=True)
    require(whole.usage == streamed.usage, f"{whole.usage} whole and {streamed.usage} streamed")
    return ""


def _maximum_holds(speaker: Speaker) -> str:
    most = max(speaker.api.least_tokens, 16)
    for stream in (False, True):
        said = speaker.said(Ask(COUNT, max_tokens=most), stream=stream)
        counted = said.usage.completion if said.usage else 0
        require(counted <= most, f"{counted} tokens came, {most} were the maximum")
        require(said.finish == "length" or counted < most, f"cut after {counted} tokens, the finish is {said.finish!r}")
    return ""


def _called(case: ToolCase) -> Callable[[Speaker], str]:
    ask = Ask(case.question, (WEATHER, TIME))

    def run(speaker: Speaker) -> str:
        remark = ""
        for stream in (False, True):
            said = speaker.said(ask, stream=stream)
            called = [call for call in said.calls if call.name == case.tool.name]
            require(bool(called), f"there is no call, but {shortened(said.content or said.aside, 80)!r}")
            arguments = _valid(called[0].arguments, case.tool.parameters)
            require(said.finish == "tool_calls", f"the finish after a call is {said.finish!r}")
            if arguments != case.tool.example:
                remark = f"called with {shortened(called[0].arguments, 60)}"
        return remark

    return run


def _answers_from_result(speaker: Speaker) -> str:
    ask = Ask(TOOL_CASES[0].question, (WEATHER,))
    first = speaker.said(ask)
    require(bool(first.calls), "there is no call to answer")
    results = tuple((call, WEATHER_RESULT) for call in first.calls)
    for stream in (False, True):
        said = speaker.said(replace(ask, results=results, thought=first.reasoning), stream=stream)
        require(said.content != "" and not said.calls, f"no answer from the result, but {_outline(said)}")
    return ""


def _forced(ask: Ask) -> Callable[[Speaker], str]:
    def run(speaker: Speaker) -> str:
        for stream in (False, True):
            said = speaker.said(ask, stream=stream)
            require([call.name for call in said.calls] == [ask.forced], f"no call, but {_outline(said)}")
            _valid(said.calls[0].arguments, ask.tools[0].parameters)
            require(said.calls[0].id != "", "the call has no id")
            require(said.finish == "tool_calls", f"the finish after a call is {said.finish!r}")
        return ""

    return run


def _schema(case: SchemaCase) -> Callable[[Speaker], str]:
    def run(speaker: Speaker) -> str:
        reply = speaker.reply(case.ask)
        if reply.status == 400:
            require(
                "error" in reply.body and bool(reply.body["error"]["message"]), f"a refusal in no words: {reply.words}"
            )
            return f"refused: {shortened(reply.body['error']['message'], 100)}"
        said = speaker.said(case.ask)
        if said.finish == "length":
            return f"cut after {case.ask.max_tokens} tokens, so nothing was judged"
        _valid(said.content, case.schema)
        return ""

    return run


def _valid(text: str, schema: Json) -> Json:
    """JSON of `text`, which must be valid by `schema`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckFailedError(f"no JSON: {shortened(text)!r}") from error
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    errors = list(validator(schema, format_checker=validator.FORMAT_CHECKER).iter_errors(value))
    require(not errors, f"{shortened(text, 100)} is not valid: {errors[0].message if errors else ''}")
    return value


def _unknown_model(speaker: Speaker) -> str:
    reply = replace(speaker, model="no-such-model").reply(HELLO)
    require(reply.status == 404, f"wanted 404, got {reply.words}")
    _error_object(speaker, reply.body)
    return ""


def _field_missing(speaker: Speaker) -> str:
    reply = speaker.endpoint.post(speaker.api.path, {"model": speaker.model})
    require(reply.status in (400, 422), f"wanted 400, got {reply.words}")
    _error_object(speaker, reply.body)
    return ""


def _no_json(speaker: Speaker) -> str:
    reply = speaker.endpoint.post(speaker.api.path, '{"model": ')
    require(reply.status in (400, 422), f"wanted 400, got {reply.words}")
    _error_object(speaker, reply.body)
    return ""


def _error_object(speaker: Speaker, body: Json) -> None:
    error = body["error"]
    require(bool(error["message"]) and bool(error["type"]), f"an error has no message or no type: {error}")
    if speaker.api.name == "messages":
        require(body["type"] == "error", f"the body's type is {body.get('type')!r}, not 'error'")
    else:
        require("param" in error and "code" in error, f"an error has no param or no code: {error}")


def _calling() -> Ask:
    return Ask(TOOL_CASES[0].question, (WEATHER,), WEATHER.name)


def _outline(said: Said) -> str:
    return f"text {shortened(said.content, 60)!r}, calls {said.named_calls}, finish {said.finish!r}"
