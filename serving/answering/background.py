"""Background requests: lines of batches, on engines that are idle otherwise."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from serving.answering.policy import restricted_info
from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.engine.continuation import continued
from serving.settings.teams import PRIORITIES
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.background_permit import BackgroundPermit

BACKGROUND_KEY = "background"
"""Key of a BackgroundRequest in the `state` of its ASGI scope, which clients do not write."""
_NORMAL = PRIORITIES.index("normal")


class TokenCheckpoint:
    """Tokens of a request that its engines have made so far, to go on from after an interruption or a restart.

    One answer may take several engine requests. Each has a key: the hash of its tokens and maximum, and its number
    among those with the same hash.
    """

    def __init__(self, tokens: Mapping[str, list[int]] | None = None) -> None:
        self._tokens = {key: list(made) for key, made in (tokens or {}).items()}
        self._asked: dict[str, int] = {}

    @property
    def tokens(self) -> Mapping[str, list[int]]:
        """Tokens by engine request."""
        return self._tokens

    @property
    def total(self) -> int:
        """Number of tokens."""
        return sum(map(len, self._tokens.values()))

    def begin(self) -> None:
        """Begin the request again."""
        self._asked.clear()

    def made_for(self, request: EngineRequest) -> list[int]:
        """Tokens of `request`, which the caller adds to as they come.

        None are kept of a request for log probabilities, which belong to the tokens, nor of one that has as many
        tokens as it asks for: its end is not kept.
        """
        if request.sampling.logprobs is not None:
            return []
        digest = hashlib.blake2b(digest_size=16)
        for ids in (request.prompt_token_ids, request.completion_token_ids):
            digest.update(array("q", ids).tobytes() + b"|")
        digest.update(str(request.sampling.max_tokens).encode())
        number = self._asked[digest.hexdigest()] = self._asked.get(digest.hexdigest(), -1) + 1
        key = f"{digest.hexdigest()}-{number}"
        made = self._tokens.setdefault(key, [])
        if len(made) >= request.sampling.max_tokens or _stopped(made, request):
            made.pop()
        return made


@dataclass(frozen=True, slots=True)
class BackgroundRequest:
    """Background request of a team, which this process asks of its own application."""

    identity: Identity
    checkpoint: TokenCheckpoint = field(default_factory=TokenCheckpoint)


class BackgroundEngine:
    """An engine behind a background request's permit: gives way to other requests, and goes on from its tokens."""

    def __init__(self, engine: Engine, permit: BackgroundPermit, checkpoint: TokenCheckpoint) -> None:
        self._engine = engine
        self._permit = permit
        self._checkpoint = checkpoint

    async def prepare(self) -> EngineInfo:
        """See Engine; no more than the team may have."""
        return restricted_info(await self._engine.prepare(), self._permit.identity.policy)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Raises as AdmissionPermit.acquire does."""
        permit = self._permit
        made = self._checkpoint.made_for(request)
        # Only tokens that are seen as they come can be gone on from.
        request = replace(request, stream=True, priority=request.priority + permit.rank - _NORMAL)
        if made:
            yield TokenDelta(list(made))
        parts = 0
        while True:
            rest = replace(continued(request, made), request_id=f"{request.request_id}{f'-part{parts}' * bool(parts)}")
            parts += 1
            await permit.acquire(request)
            interrupted = False
            try:
                async with aclosing(self._engine.generate(rest)) as deltas:
                    while (delta := await permit.next(deltas)) is not None:
                        made += delta.token_ids
                        permit.spent.add(request, len(delta.token_ids), delta.cached_tokens)
                        yield delta
                    interrupted = permit.interrupted
            finally:
                if not interrupted:
                    permit.release()
            if not interrupted:
                return
            await permit.give_way()


def _stopped(made: list[int], request: EngineRequest) -> bool:
    return bool(made) and made[-1] in request.sampling.stop_token_ids
