from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.base import FinishReason, Sampling, TokenDelta, TokenLogprobs
from serving.engine.scripted import ScriptedEngine
from serving.generation import chat
from serving.generation.choice import ChoiceReader
from serving.generation.logprobs import logprob_entry
from serving.generation.types import ChatGeneration, TextDelta
from serving.harmony.conversation import Conversation, UserMessage
from serving.harmony.vocabulary import RETURN, encode, encode_harmony, token_bytes

COMPLETION = (
    "<|channel|>analysis<|message|>Easy enough.<|end|><|start|>assistant"
    "<|channel|>commentary<|message|>Listen.<|end|><|start|>assistant"
    "<|channel|>final<|message|>Zürich 🦥 it is.<|return|>"
)

StartEngine = Callable[..., Awaitable[ScriptedEngine]]
MakeRequest = Callable[..., ChatGeneration]


@pytest.fixture(params=[1, 3, 1000])
async def engine(request: pytest.FixtureRequest, start_engine: StartEngine) -> ScriptedEngine:
    return await start_engine(COMPLETION, request.param)


def test_entry_keeps_the_bytes_of_part_of_a_character() -> None:
    first, second = encode("🦥")[:2]
    entry = logprob_entry(TokenLogprobs(first, -0.5, ((first, -0.5), (second, -1.5))))
    assert entry.utf8 == token_bytes(first)
    assert "\ufffd" in entry.token
    assert entry.logprob == -0.5
    assert [(logprob, utf8) for _, logprob, utf8 in entry.top] == [
        (-0.5, token_bytes(first)),
        (-1.5, token_bytes(second)),
    ]


def test_entry_spells_special_tokens() -> None:
    assert logprob_entry(TokenLogprobs(RETURN, -1.0)).token == "<|return|>"


async def test_every_body_token_of_final_and_analysis_has_one(
    engine: ScriptedEngine, make_request: MakeRequest
) -> None:
    answer = await chat.complete(engine, make_request(logprobs=2))
    choice = answer.choices[0]
    assert choice.content_logprobs is not None
    assert choice.reasoning_logprobs is not None
    assert [entry.utf8 for entry in choice.content_logprobs] == [token_bytes(t) for t in encode("Zürich 🦥 it is.")]
    assert [entry.utf8 for entry in choice.reasoning_logprobs] == [token_bytes(t) for t in encode("Easy enough.")]
    assert all(len(entry.top) == 2 for entry in choice.content_logprobs)
    assert answer.usage.reasoning_tokens == len(choice.reasoning_logprobs)


async def test_streamed_deltas_carry_those_of_their_text(engine: ScriptedEngine, make_request: MakeRequest) -> None:
    whole = (await chat.complete(engine, make_request(logprobs=1))).choices[0]
    deltas = [e async for e in chat.answer(engine, make_request(logprobs=1)) if isinstance(e, TextDelta)]
    text = utf8 = b""
    for delta in deltas:
        if delta.channel == "commentary":
            assert delta.logprobs is None
        else:
            assert delta.logprobs
            text += delta.text.encode()
            utf8 += b"".join(entry.utf8 for entry in delta.logprobs)
            # Part of a character at a token's end comes with that token, the character with the next one.
            assert utf8.startswith(text)
            assert len(utf8) - len(text) < 4
    assert utf8 == text
    streamed = [entry for delta in deltas if delta.channel == "final" for entry in delta.logprobs or ()]
    assert streamed == whole.content_logprobs


async def test_hidden_reasoning_hides_its_log_probabilities(engine: ScriptedEngine, make_request: MakeRequest) -> None:
    request = make_request(logprobs=0, include_reasoning=False)
    answer = await chat.complete(engine, request)
    assert answer.choices[0].reasoning_logprobs is None
    assert answer.choices[0].content_logprobs
    assert answer.usage.reasoning_tokens == len(encode("Easy enough."))
    async for event in chat.answer(engine, request):
        assert not (isinstance(event, TextDelta) and event.channel == "analysis")


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("end", [[], [RETURN]])
def test_a_character_that_was_never_completed_keeps_its_tokens(size: int, end: list[int]) -> None:
    parts = encode("🦥")[:2]
    ids = [*encode_harmony("<|channel|>final<|message|>x"), *parts, *end]
    reader = ChoiceReader(0, ChatGeneration("r", Conversation(()), Sampling(9, logprobs=0)), lambda: "", None)
    deltas: list[TextDelta] = []
    for begin in range(0, len(ids), size):
        part = ids[begin : begin + size]
        ended: FinishReason | None = "length" if begin + size >= len(ids) else None
        logprobs = [TokenLogprobs(token_id, 0.0) for token_id in part]
        deltas += [e for e in reader.read(TokenDelta(part, ended, logprobs)) if isinstance(e, TextDelta)]
    assert "".join(delta.text for delta in deltas) == "x\ufffd"
    entries = [entry.utf8 for delta in deltas for entry in delta.logprobs or ()]
    assert entries == [b"x", *map(token_bytes, parts)]


async def test_not_asked_for_not_given(engine: ScriptedEngine, make_request: MakeRequest) -> None:
    choice = (await chat.complete(engine, make_request())).choices[0]
    assert choice.content_logprobs is None
    assert choice.reasoning_logprobs is None


async def test_asked_for_but_nothing_said_is_an_empty_list(
    start_engine: StartEngine, make_request: MakeRequest
) -> None:
    engine = await start_engine("<|channel|>final<|message|><|return|>")
    assert (await chat.complete(engine, make_request(logprobs=0))).choices[0].content_logprobs == []


@pytest.mark.property
@given(
    text=st.text("ab é🦥\n", max_size=30),
    stops=st.lists(st.text("ab é🦥\n", min_size=1, max_size=3), max_size=2),
    size=st.integers(1, 7),
)
def test_entries_cover_exactly_the_text_that_is_delivered(text: str, stops: list[str], size: int) -> None:
    ids = encode_harmony("<|channel|>final<|message|>") + encode(text) + [RETURN]
    request = ChatGeneration(
        "r", Conversation((UserMessage("x"),)), Sampling(max_tokens=1000, logprobs=0), stop=tuple(stops)
    )
    reader = ChoiceReader(0, request, lambda: "", None)
    deltas: list[TextDelta] = []
    for begin in range(0, len(ids), size):
        part = ids[begin : begin + size]
        ended: FinishReason | None = "stop" if begin + size >= len(ids) else None
        logprobs = [TokenLogprobs(token_id, 0.0) for token_id in part]
        deltas += [e for e in reader.read(TokenDelta(part, ended, logprobs)) if isinstance(e, TextDelta)]
    delivered = "".join(delta.text for delta in deltas).encode()
    entries = b"".join(entry.utf8 for delta in deltas for entry in delta.logprobs or ())
    # The last token may go on into the stop string, but no entry lies wholly beyond the text.
    assert entries.startswith(delivered)
    assert text.encode().startswith(entries)
    last = [entry for delta in deltas for entry in delta.logprobs or ()][-1:]
    assert len(entries) - len(delivered) < max([1, *(len(entry.utf8) for entry in last)])


def test_an_engine_that_sends_too_few_is_found_out() -> None:
    request = ChatGeneration("r", Conversation(()), Sampling(max_tokens=9, logprobs=0))
    with pytest.raises(ValueError, match="log probabilities"):
        ChoiceReader(0, request, lambda: "", None).read(TokenDelta([1, 2], None, [TokenLogprobs(1, 0.0)]))
