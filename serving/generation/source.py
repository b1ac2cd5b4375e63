"""What answers conversations by other means than an engine's tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.errors import UnsupportedParameterError
from serving.generation.choice import OnRecovered
from serving.generation.ids import MintId
from serving.generation.types import ChatEvent, ChatGeneration

if TYPE_CHECKING:
    from serving.generation.completions import CompletionGeneration


class AnswerSource:
    """Stands where an Engine does, and gives the events of chat.stream by itself.

    As an engine it has no tokens to give: APIs that speak of tokens refuse its model.
    """

    def answer(
        self,
        request: ChatGeneration,
        mint_call_id: MintId,
        on_recovered: OnRecovered | None,
        *,
        streaming: bool,
    ) -> AsyncGenerator[ChatEvent, None]:
        """As chat.stream, or chat.at_once where nobody watches (`streaming` is false)."""
        raise NotImplementedError

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """As completions.stream. Raises UnsupportedParameterError where there are no tokens to give."""
        raise _no_tokens()

    async def prepare(self) -> EngineInfo:
        """See Engine. Raises UnsupportedParameterError."""
        raise _no_tokens()

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Raises UnsupportedParameterError."""
        raise _no_tokens()

    def check_first(self, check: Callable[[Engine], Awaitable[None]]) -> None:
        """Where an engine is asked after all: `check` is to be awaited with it before it is."""


def _no_tokens() -> UnsupportedParameterError:
    return UnsupportedParameterError(
        "This model is at another server, which takes conversations and no tokens. Use /v1/chat/completions.",
        param="model",
    )
