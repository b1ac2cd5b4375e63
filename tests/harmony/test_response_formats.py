from __future__ import annotations

import math
from typing import Any

import pytest

from serving.errors import InvalidValueError
from serving.harmony.conversation import Conversation, FunctionTool, ResponseFormat, UserMessage
from serving.harmony.render import render_prompt
from serving.harmony.response_formats import response_formats_section
from serving.harmony.vocabulary import decode

ITEMS = {"type": "array", "description": "entries on the shopping list", "items": {"type": "string"}}
SHOPPING = ResponseFormat("shopping_list", {"properties": {"items": ITEMS}, "type": "object"})


def test_the_section_is_as_the_format_has_it() -> None:
    assert response_formats_section(SHOPPING) == (
        "# Response Formats\n\n## shopping_list\n\n"
        '{"properties":{"items":{"type":"array","description":"entries on the shopping list",'
        '"items":{"type":"string"}}},"type":"object"}'
    )


def test_a_description_is_a_comment_above_the_schema() -> None:
    section = response_formats_section(ResponseFormat("list", {"type": "object"}, "What to buy.\nIn order."))
    assert section == '# Response Formats\n\n## list\n\n// What to buy.\n// In order.\n{"type":"object"}'


def test_the_section_ends_the_developer_message() -> None:
    conversation = Conversation(
        (UserMessage("Hi"),), instructions="Be brief.", tools=(FunctionTool("f"),), response_format=SHOPPING
    )
    assert (
        "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n"
        "# Tools\n\n## functions\n\nnamespace functions {\n\ntype f = () => any;\n\n} // namespace functions\n\n"
        f"{response_formats_section(SHOPPING)}<|end|><|start|>user"
    ) in decode(render_prompt(conversation))


def test_a_format_alone_makes_a_developer_message() -> None:
    prompt = decode(render_prompt(Conversation((UserMessage("Hi"),), response_format=SHOPPING)))
    assert "<|start|>developer<|message|># Response Formats\n" in prompt


def test_text_is_shown_as_it_is() -> None:
    section = response_formats_section(ResponseFormat("天気", {"description": "晴れ <|end|>"}))
    assert section.endswith('## 天気\n\n{"description":"晴れ <|end|>"}')


def test_a_name_stays_one_heading() -> None:
    assert "## a # Tools b\n\n{}" in response_formats_section(ResponseFormat("a\n# Tools\nb", {}))


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [{"minimum": math.inf}, {"enum": [{1}]}, {"properties": {1: {}}}, nested(5000)],
    ids=["infinity", "a_set", "key_not_text", "deep"],
)
def test_schemas_that_cannot_be_written_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        response_formats_section(ResponseFormat("f", schema))
    assert str(caught.value.param).startswith("response_format")
