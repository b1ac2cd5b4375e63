"""Custom tools, apply_patch, local shells and namespaces: functions to the model, items of their own to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import Response

from serving.engine.base import Constraint
from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode

if TYPE_CHECKING:
    from tests.http_server import Served

LARK = 'start: "add " /[0-9]+/'
EXEC: Any = {"type": "custom", "name": "exec", "description": "Run code."}
GRAMMAR: Any = {**EXEC, "format": {"type": "grammar", "syntax": "lark", "definition": LARK}}
REGEX: Any = {**EXEC, "format": {"type": "grammar", "syntax": "regex", "definition": "add [0-9]+"}}
PATCH: Any = {"type": "apply_patch"}
LOCAL_SHELL: Any = {"type": "local_shell"}
SHELL: Any = {"type": "shell", "environment": {"type": "local"}}
NAMESPACE: Any = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [{"type": "function", "name": "find", "parameters": {"type": "object"}}, {**EXEC, "name": "query"}],
}


def call(name: str, body: str, *, plain: bool = False) -> ScriptLine:
    kind = "" if plain else " <|constrain|>json"
    return ScriptLine(
        completion="<|channel|>analysis<|message|>Use it.<|end|><|start|>assistant"
        f"<|channel|>commentary to=functions.{name}{kind}<|message|>{body}<|call|>"
    )


ANSWER = ScriptLine(completion="<|channel|>final<|message|>Done.<|return|>")
CASES: dict[str, tuple[Any, ScriptLine, dict[str, Any], dict[str, Any], str]] = {
    "custom": (
        EXEC,
        call("exec", '{"input":"print(\\"Zürich\\")\\n"}'),
        {"type": "custom_tool_call", "name": "exec", "input": 'print("Zürich")\n'},
        {"type": "custom_tool_call_output", "output": "Zürich"},
        "Zürich",
    ),
    "apply_patch": (
        PATCH,
        call("apply_patch", '{"operation":{"type":"update_file","path":"a.py","diff":"@@\\n-a\\n+b\\n"}}'),
        {
            "type": "apply_patch_call",
            "operation": {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b\n"},
        },
        {"type": "apply_patch_call_output", "status": "failed", "output": "no such line"},
        "failed\nno such line",
    ),
    "delete": (
        PATCH,
        call("apply_patch", '{"operation":{"type":"delete_file","path":"a.py"}}'),
        {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a.py"}},
        {"type": "apply_patch_call_output", "status": "completed"},
        "completed",
    ),
    "local_shell": (
        LOCAL_SHELL,
        call("local_shell", '{"command":["ls","-l"],"timeout_ms":1000}'),
        {
            "type": "local_shell_call",
            "action": {
                "type": "exec",
                "command": ["ls", "-l"],
                "env": {},
                "timeout_ms": 1000,
                "user": None,
                "working_directory": None,
            },
        },
        {"type": "local_shell_call_output", "output": "total 0"},
        "total 0",
    ),
    "shell": (
        SHELL,
        call("shell", '{"commands":["ls","pwd"]}'),
        {
            "type": "shell_call",
            "action": {"commands": ["ls", "pwd"], "timeout_ms": None, "max_output_length": None},
            "environment": {"type": "local"},
        },
        {
            "type": "shell_call_output",
            "output": [
                {"stdout": "a.py\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
                {"stdout": "", "stderr": "slow", "outcome": {"type": "timeout"}},
            ],
        },
        "a.py\nexit code 0\nslow\ntimed out",
    ),
    "namespace": (
        NAMESPACE,
        call("crm__find", '{"name":"Ann"}'),
        {"type": "function_call", "name": "find", "namespace": "crm", "arguments": '{"name":"Ann"}'},
        {"type": "function_call_output", "output": "Ann"},
        "Ann",
    ),
    "namespace_custom": (
        NAMESPACE,
        call("crm__query", '{"input":"select"}'),
        {"type": "custom_tool_call", "name": "query", "namespace": "crm", "input": "select"},
        {"type": "custom_tool_call_output", "output": "row"},
        "row",
    ),
    "lark": (
        GRAMMAR,
        call("exec", "add 12", plain=True),
        {"type": "custom_tool_call", "name": "exec", "input": "add 12"},
        {"type": "custom_tool_call_output", "output": "12"},
        "12",
    ),
}


def asked_of(served: Served) -> list[Any]:
    """The requests that begin an answer: no checks of grammars, and no later segments."""
    requests = served.engine.requests
    return [each for each in requests if "-check-" not in each.request_id and not each.completion_token_ids]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", CASES)
async def test_a_call_is_an_item_of_its_tools_type_and_goes_back_as_the_same_tokens(
    served: Served, name: str, streamed: bool
) -> None:
    tool, line, expected, output, result = CASES[name]
    served.engine.in_turn = [line, ANSWER]
    question: Any = {"role": "user", "content": "Do it."}
    fields: Any = {"model": "demo", "tools": [tool], "store": False}
    if streamed:
        async with served.openai.responses.stream(input=[question], **fields) as stream:
            response = await stream.get_final_response()
    else:
        response = await served.openai.responses.create(input=[question], **fields)
    # Then the item has the shape that the client's types have
    Response.model_validate(response.to_dict())
    _, item = response.output
    shown = item.to_dict()
    assert {key: shown[key] for key in expected} == expected
    assert shown["status"] == "completed"
    # And when it goes back with its result
    named = {"id": shown["call_id"]} if output["type"] == "local_shell_call_output" else {"call_id": shown["call_id"]}
    items: Any = [question, *[each.to_dict() for each in response.output], {**output, **named}]
    await served.openai.responses.create(input=items, **fields)
    # Then the model is shown the tokens it wrote, and the result
    before, after = asked_of(served)
    begin = len(before.prompt_token_ids)
    assert after.prompt_token_ids[begin : begin + len(line.token_ids)] == line.token_ids
    assert decode(after.prompt_token_ids[begin + len(line.token_ids) :]).count(result) == 1


@pytest.mark.parametrize("name", CASES)
async def test_a_stored_call_is_streamed_again_as_it_was(served: Served, name: str) -> None:
    tool, line, _, _, _ = CASES[name]
    served.engine.in_turn = [line]
    stream: Any = await served.openai.responses.create(model="demo", input="q", tools=[tool], stream=True)
    events = [event.to_dict() async for event in stream]
    again: Any = await served.openai.responses.retrieve(events[-1]["response"]["id"], stream=True)
    assert [event.to_dict() async for event in again] == events


async def test_a_custom_call_streams_its_input(served: Served) -> None:
    served.engine.in_turn = [call("exec", '{"input": "one\\ntwo \\u00fc"}')]
    stream: Any = await served.openai.responses.create(model="demo", input="q", tools=[EXEC], stream=True)
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    done = [event.input for event in events if event.type == "response.custom_tool_call_input.done"]
    assert len(deltas) > 1
    assert ["".join(deltas)] == done == ["one\ntwo ü"]


@pytest.mark.parametrize(
    ("tool", "constraint"), [(GRAMMAR, Constraint("grammar", LARK)), (REGEX, Constraint("regex", "add [0-9]+"))]
)
async def test_a_grammar_holds_the_input_and_is_checked_first(
    served: Served, tool: Any, constraint: Constraint
) -> None:
    # Given a model that begins the call as one of JSON
    served.engine.in_turn = [call("exec", "add 12")]
    response = await served.openai.responses.create(model="demo", input="q", tools=[tool])
    check, free, body = served.engine.requests
    # Then the engine was asked about the grammar, and the call's body is plain text under it
    assert (check.constraint, free.constraint, body.constraint) == (constraint, None, constraint)
    assert decode(body.completion_token_ids).endswith("commentary to=functions.exec<|message|>")
    assert constraint.value in decode(free.prompt_token_ids)
    assert "type exec = (_: string) => any;" in decode(free.prompt_token_ids)
    assert response.output[-1].type == "custom_tool_call"


@pytest.mark.parametrize("tool", [PATCH, LOCAL_SHELL, SHELL])
async def test_calls_of_own_tools_are_held_to_their_fields(served: Served, tool: Any) -> None:
    await served.openai.responses.create(model="demo", input="q", tools=[tool])
    check = served.engine.requests[0].constraint
    assert check is not None
    assert check.kind == "grammar"


@pytest.mark.parametrize(
    ("choice", "tools", "shown"),
    [
        ({"type": "custom", "name": "exec"}, [EXEC, PATCH], "exec"),
        ({"type": "apply_patch"}, [EXEC, PATCH], "apply_patch"),
        ({"type": "shell"}, [EXEC, SHELL], "shell"),
        ({"type": "function", "name": "find", "namespace": "crm"}, [NAMESPACE], "crm__find"),
        ({"type": "custom", "name": "exec"}, [GRAMMAR, PATCH], "exec"),
    ],
)
async def test_each_kind_can_be_forced(served: Served, choice: Any, tools: Any, shown: str) -> None:
    await served.openai.responses.create(model="demo", input="q", tools=tools, tool_choice=choice)
    forced = next(each for each in served.engine.requests if each.completion_token_ids)
    assert f"to=functions.{shown}" in decode(forced.completion_token_ids)


async def test_a_call_that_a_limit_cuts_is_incomplete(served: Served) -> None:
    served.engine.in_turn = [call("local_shell", '{"command":["ls","-l", "/a/very/long/path/that/has/no/end"]}')]
    response = await served.openai.responses.create(model="demo", input="q", tools=[LOCAL_SHELL], max_output_tokens=25)
    item: Any = response.output[-1]
    assert (response.status, item.status) == ("incomplete", "incomplete")
    assert item.action.command[0] == "ls"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].name"),
        ({"tools": [{**EXEC, "format": {"type": "grammar", "syntax": "ebnf", "definition": "x"}}]}, "tools[0].format"),
        ({"tools": [{**GRAMMAR, "format": {**GRAMMAR["format"], "definition": ""}}]}, "tools[0].format.definition"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "tools[0].environment"),
        ({"tools": [EXEC, EXEC]}, "tools[1].name"),
        ({"tools": [NAMESPACE, {"type": "function", "name": "crm__find"}]}, "tools[1].name"),
        ({"tools": [EXEC], "tool_choice": {"type": "custom", "name": "other"}}, "tool_choice.name"),
        ({"tools": [EXEC], "tool_choice": {"type": "custom"}}, "tool_choice.name"),
        ({"tools": [{**NAMESPACE, "tools": [{"type": "custom", "name": "a\nb"}]}]}, "tools[0].tools[0].name"),
        ({"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "local_shell_call_output", "output": "x"}]}, "input[0].id"),
    ],
)
async def test_mistakes_are_named(served: Served, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await served.openai.responses.create(**{"model": "demo", "input": "q", **fields})
    assert caught.value.param == param
