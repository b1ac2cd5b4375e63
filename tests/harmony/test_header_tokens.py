from __future__ import annotations

import pytest

from serving.harmony.events import ChannelOpened, ToolCallOpened
from serving.harmony.header_tokens import call_header, call_header_prefix, final_header, message_header
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import decode, encode, encode_harmony


def test_an_answer_begins() -> None:
    assert final_header() == encode_harmony("<|start|>assistant<|channel|>final<|message|>")


@pytest.mark.parametrize("name", ["get_weather", "web-browsing.open", "get weather", "天気"])
def test_a_call_begins(name: str) -> None:
    header = call_header(name)
    assert decode(header) == (
        f"<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
    )
    assert header == encode_harmony(decode(header))


def test_what_comes_before_a_functions_name_ends_in_the_dot_or_before_it() -> None:
    text = "<|start|>assistant<|channel|>commentary to=functions"
    assert call_header_prefix() == encode_harmony(text + ".")
    assert call_header_prefix(dot=False) == encode_harmony(text)


def test_the_model_may_write_the_dot_with_the_name() -> None:
    prefix = call_header_prefix(dot=False)
    assert call_header("get_weather")[: len(prefix)] == prefix
    assert call_header("get_weather")[len(prefix)] == encode(".get")[0]


def test_a_header_without_a_channel() -> None:
    assert message_header("user") == encode_harmony("<|start|>user<|message|>")


def test_a_completion_may_go_on_with_these_headers() -> None:
    analysis = encode_harmony("<|channel|>analysis<|message|>Hm.<|end|>")
    assert HarmonyParser().feed([*analysis, *final_header()])[-1] == ChannelOpened("final")
    assert HarmonyParser().feed([*analysis, *call_header("f")])[-1] == ToolCallOpened(0, "f")
