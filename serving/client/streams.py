"""Ask for an answer and read it as events, with OpenAI's synchronous or asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from serving.client.events import ChatEvent
from serving.client.reader import ChunkReader

Messages = Sequence[ChatCompletionMessageParam]


@contextmanager
def stream_chat(
    client: OpenAI, messages: Messages, *, model: str, buffer_tokens: int = 0, **fields: Any
) -> Iterator[Generator[ChatEvent, None, None]]:
    """Ask for the answer to `messages` as events, in a `with` block.

    The end of the block closes the connection and so stops the model.

    `fields` are the request's others, whatever the server takes: reasoning_effort, tools, max_reasoning_tokens. Of
    `buffer_tokens` deltas one is made. Raises what the client does (openai.APIStatusError, openai.APIConnectionError),
    and ClientError where the stream breaks off.
    """
    with client.chat.completions.create(**_request(messages, model, fields)) as chunks:
        yield _events(iter(chunks), ChunkReader(buffer_tokens))


@asynccontextmanager
async def astream_chat(
    client: AsyncOpenAI, messages: Messages, *, model: str, buffer_tokens: int = 0, **fields: Any
) -> AsyncIterator[AsyncGenerator[ChatEvent, None]]:
    """Ask as stream_chat does, for `async with` and `async for`."""
    async with await client.chat.completions.create(**_request(messages, model, fields)) as chunks:
        yield _aevents(aiter(chunks), ChunkReader(buffer_tokens))


def _request(messages: Messages, model: str, fields: dict[str, Any]) -> dict[str, Any]:
    # In the body as they are: the client's own signature knows none of the server's extensions.
    body = {"stream_options": {"include_usage": True}, **fields}
    return {"model": model, "messages": messages, "stream": True, "extra_body": body}


def _events(chunks: Iterator[Any], reader: ChunkReader) -> Generator[ChatEvent, None, None]:
    for chunk in chunks:
        yield from reader.feed(chunk)
    yield from reader.finish()


async def _aevents(chunks: AsyncIterator[Any], reader: ChunkReader) -> AsyncGenerator[ChatEvent, None]:
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    for event in reader.finish():
        yield event
