"""An engine that plays scripts: for tests, and for measuring the front end without a model.

A script is a file of JSON lines, each an answer as Harmony text (ScriptLine). The engine plays the first line whose
conditions the prompt meets, the same tokens every time, at the line's pace. docs/scripts.md describes the file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.engine.adapters.folder import AdapterFolder
from serving.engine.adapters.folder import find as find_adapter
from serving.engine.adapters.loaded import LoadedAdapters
from serving.engine.base import (
    Adapter,
    EngineInfo,
    EngineRequest,
    FinishReason,
    Sampling,
    TokenDelta,
    TokenLogprobs,
)
from serving.engine.load import EngineLoad, KvCache
from serving.engine.scripted_prompt import ScriptedPrompt
from serving.errors import (
    CheckpointError,
    EngineDiedError,
    EngineNotReadyError,
    InvalidRequestError,
    InvalidValueError,
    SettingsError,
)
from serving.harmony.vocabulary import (
    CHANNEL,
    FIRST_SPECIAL_ID,
    MESSAGE,
    RETURN,
    encode,
    encode_harmony,
)
from serving.settings.models import ModelSettings

logger = logging.getLogger(__name__)

_BLOCK_TOKENS = 16
DEFAULT_MAX_MODEL_LEN = 131072
"""gpt-oss's own context, in tokens."""


class ScriptLine(BaseModel):
    """One answer, for prompts that meet all of its conditions. Without conditions it is the default: for all others.

    Lines with an `adapter` come before all others for requests to it, and never for others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt_contains: str | None = Field(None, min_length=1, description="Text of the last user message to look for.")
    tail_contains: str | None = Field(
        None, min_length=1, description="Text to look for in the messages since the model's last one, such as results."
    )
    turn: int | None = Field(None, ge=1, description="Number of the model's turn in the conversation, from 1.")
    adapter: str | None = Field(None, min_length=1, description="Only requests to the adapter of that name get it.")
    completion: str = Field(min_length=1, description="Harmony text after `<|start|>assistant`, special tokens spelled")
    tokens_per_step: int = Field(1, ge=1, description="Tokens of each choice that come at once.")
    step_ms: float = Field(0.0, ge=0, allow_inf_nan=False, description="Milliseconds between steps; 0: no waiting.")
    finish: FinishReason = Field("stop", description="What a completion without a stop token ends with.")

    @cached_property
    def token_ids(self) -> list[int]:
        """The completion's tokens."""
        return encode_harmony(self.completion)

    @property
    def is_default(self) -> bool:
        """Whether the line has no condition."""
        return self.prompt_contains is None and self.tail_contains is None and self.turn is None

    def fits(self, prompt: ScriptedPrompt) -> bool:
        """Whether the prompt meets each condition."""
        return (
            (self.prompt_contains is None or self.prompt_contains in prompt.user_text)
            and (self.tail_contains is None or self.tail_contains in prompt.tail)
            and (self.turn is None or self.turn == prompt.turn)
        )


_NOTHING_TO_SAY = ScriptLine(completion="<|return|>")


@dataclass(frozen=True, slots=True)
class Script:
    """Answers in the order they are looked through; at most one is a default, and one for each adapter."""

    lines: tuple[ScriptLine, ...]

    def line_for(self, prompt: ScriptedPrompt, adapter: str | None = None) -> ScriptLine | None:
        """The first line whose conditions the prompt meets, or else the default, or else None."""
        if adapter is not None and (line := _fitting(self.lines, prompt, adapter)) is not None:
            return line
        return _fitting(self.lines, prompt, None)


def _fitting(lines: tuple[ScriptLine, ...], prompt: ScriptedPrompt, adapter: str | None) -> ScriptLine | None:
    default = None
    for line in lines:
        if line.adapter != adapter:
            continue
        if line.is_default:
            default = default or line
        elif line.fits(prompt):
            return line
    return default


def load_script(path: str | Path) -> Script:
    """Read a script; blank lines are skipped.

    Raises SettingsError with one problem for each mistake, its field being "FILE:LINE: FIELD".
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([("script", f"cannot read {path}: {error}")]) from error
    lines: list[ScriptLine] = []
    problems: list[tuple[str, str]] = []
    defaults: dict[str | None, int] = {}
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    for number, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            line = ScriptLine.model_validate_json(raw)
        except ValidationError as error:
            problems += _problems(f"{path}:{number}", error)
            continue
        if line.is_default:
            if line.adapter in defaults:
                problem = (
                    f"is missing, which makes this a default, but line {defaults[line.adapter]} is the default already"
                )
                problems.append((f"{path}:{number}: prompt_contains", problem))
            defaults.setdefault(line.adapter, number)
        lines.append(line)
    if not lines and not problems:
        problems.append((str(path), "has no lines; write one JSON object a line with at least a completion"))
    if problems:
        raise SettingsError(problems)
    return Script(tuple(lines))


def _problems(place: str, error: ValidationError) -> list[tuple[str, str]]:
    problems = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(map(str, detail["loc"]))
        problems.append((f"{place}: {field}" if field else place, detail["msg"]))
    return problems


class ScriptedEngine:
    """Plays a script. `running` is the number of generations under way, those waiting for their next step included.

    Sampling is ignored but for max_tokens, logprobs and stop_token_ids. A completion that has begun goes on where the
    script has what it ends with (see continuation()); of constraints only a choice is kept to. `kv_blocks` is the size
    of the KV cache that its load reports; there is none, so that one too small changes nothing else.
    """

    def __init__(
        self,
        script: Script,
        *,
        model: str = "scripted",
        max_model_len: int = DEFAULT_MAX_MODEL_LEN,
        settings: ModelSettings | None = None,
    ) -> None:
        self.running = 0
        self.kv_blocks: int | None = None
        self._kv_tokens = 0
        self._id = uuid.uuid4().hex
        self.asleep = False
        self.script = script
        self._settings = settings or ModelSettings()
        room = self._settings.lora_settings
        self._adapters = LoadedAdapters(room.max_cpu_loras if room else 1, self._read_adapter, _forget_adapter)
        self._info = EngineInfo(model=model, max_model_len=max_model_len)
        self._started = False
        self._closed = False
        self._sleepers: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """See Engine. Encodes the script, so that the first request costs what the others do."""
        for line in self.script.lines:
            _ = line.token_ids
        for name, adapter in self._settings.adapters.items():
            await self._adapters.load(Adapter(name, adapter.source))
        self._started, self._closed, self.asleep = True, False, False

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        self._require_ready()
        return self._info

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Raises InvalidRequestError where no line fits the prompt."""
        self._require_ready()
        if self.asleep:
            raise EngineNotReadyError("The scripted engine sleeps.", retry_after_s=1)
        adapter = request.adapter
        line = self._line_for(request)
        token_ids, finish = _cut(continuation(line, request), line.finish, request.sampling)
        step = line.tokens_per_step
        steps = math.ceil(len(token_ids) / step)
        if not request.stream:
            step, steps, first_step = len(token_ids), 1, steps
        else:
            first_step = 1
        async with nullcontext() if adapter is None else self._adapters.use(adapter):
            loop = asyncio.get_running_loop()
            begun = loop.time()
            self.running += 1
            held = len(request.prompt_token_ids) + len(request.completion_token_ids)
            self._kv_tokens += held
            try:
                for number in range(steps):
                    # Due times are reckoned from the beginning: waiting late once does not slow the pace.
                    due = begun + (number + first_step) * line.step_ms / 1000
                    await self._sleep(due - loop.time())
                    tokens = token_ids[number * step : (number + 1) * step]
                    held += len(tokens)
                    self._kv_tokens += len(tokens)
                    ended = finish if number == steps - 1 else None
                    logprobs = _logprobs(tokens, request.sampling.logprobs)
                    yield TokenDelta(tokens, ended, logprobs)
            finally:
                self.running -= 1
                self._kv_tokens -= held

    async def run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        """See PushingEngine."""
        async with aclosing(self.generate(request)) as deltas:
            async for delta in deltas:
                push(delta)

    @property
    def adapters(self) -> list[Adapter]:
        """The adapters that are loaded."""
        return self._adapters.adapters

    async def load_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost. The folder is read and checked; what it changes is what the script says."""
        self._require_ready()
        try:
            await self._adapters.load(adapter)
        except CheckpointError as error:
            raise InvalidValueError(str(error), param="source") from error

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        self._require_ready()
        await self._adapters.unload(adapter)

    async def sleep(self) -> None:
        """See PushingEngine. There is nothing to give back, so that what comes of it can be tested anywhere."""
        self._require_ready()
        self.asleep = True

    async def wake(self) -> None:
        """See PushingEngine."""
        self._require_ready()
        self.asleep = False

    async def used_device_memory(self) -> int | None:
        """See PushingEngine."""
        return None

    def load(self) -> EngineLoad | None:
        """See PushingEngine. Whatever comes runs at once, so that nothing waits."""
        cache = None
        if self.kv_blocks is not None:
            cache = KvCache(self.kv_blocks, math.ceil(self._kv_tokens / _BLOCK_TOKENS), _BLOCK_TOKENS)
        adapters = tuple((each.name, each.version) for each in self._adapters.adapters)
        return EngineLoad(self._id, self.running, 0, 0, None, cache, adapters)

    async def check_health(self) -> None:
        """See Engine."""
        self._require_ready()

    async def close(self) -> None:
        """See Engine. Generations under way raise EngineDiedError at once."""
        self._closed = True
        for sleeper in self._sleepers:
            _wake(sleeper)
        await self._adapters.close()

    async def _read_adapter(self, adapter: Adapter) -> AdapterFolder:
        return await asyncio.to_thread(find_adapter, adapter, self._settings)

    def _line_for(self, request: EngineRequest) -> ScriptLine:
        prompt = ScriptedPrompt(request.prompt_token_ids)
        line = self.script.line_for(prompt, request.adapter.name if request.adapter else None)
        if line is None and not prompt.is_conversation:
            return _NOTHING_TO_SAY
        if line is None:
            lines = len(self.script.lines)
            # A prompt's text is for its client alone.
            logger.warning("request %s: none of %d lines fits turn %d", request.request_id, lines, prompt.turn)
            raise InvalidRequestError(
                f"The script has no line for this prompt and no default line. Lines: {lines}. Prompt: {prompt}.",
                param="messages",
            )
        return line

    def _require_ready(self) -> None:
        if self._closed:
            raise EngineNotReadyError("The scripted engine is closed.", retry_after_s=1)
        if not self._started:
            raise EngineNotReadyError("The scripted engine has not started.", retry_after_s=1)

    async def _sleep(self, seconds: float) -> None:
        """Wait, or yield to the loop once where there is nothing to wait for; EngineDiedError once closed."""
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            # asyncio.sleep cannot be woken by close(), and an Event with a timeout makes a task for each wait.
            loop = asyncio.get_running_loop()
            sleeper: asyncio.Future[None] = loop.create_future()
            alarm = loop.call_later(seconds, _wake, sleeper)
            self._sleepers.add(sleeper)
            try:
                await sleeper
            finally:
                alarm.cancel()
                self._sleepers.discard(sleeper)
        if self._closed:
            raise EngineDiedError("The scripted engine was closed while it worked on this request.")


def continuation(line: ScriptLine, request: EngineRequest) -> list[int]:
    """The rest of the line after the completion so far.

    One that left the script (a header was forced on it) goes on behind the same header in the script, where there is
    one, and behind the next one where it has written that header before; otherwise there is nothing more to say.
    Under a choice, the first of its texts that the script has is said.
    """
    script, written = line.token_ids, request.completion_token_ids
    if request.constraint is not None and request.constraint.kind == "choice":
        texts: list[str] = json.loads(request.constraint.value)
        return [*encode(next((text for text in texts if text in line.completion), texts[0])), RETURN]
    if script[: len(written)] == written:
        return script[len(written) :] or [RETURN]
    message = len(written) - written[::-1].index(MESSAGE) if MESSAGE in written else 0
    channel = message - written[:message][::-1].index(CHANNEL) - 1 if CHANNEL in written[:message] else message
    header, body = written[channel:message], written[message:]
    if not header:
        return [RETURN]
    rests = [
        script[after + len(body) :] for after in _ends(header, script) if script[after : after + len(body)] == body
    ]
    if not rests:
        return [RETURN]
    return rests[min(len(_ends(header, written[:channel])), len(rests) - 1)] or [RETURN]


def _ends(part: list[int], tokens: list[int]) -> list[int]:
    """Positions after each occurrence of `part` in `tokens`."""
    return [end for end in range(len(part), len(tokens) + 1) if tokens[end - len(part) : end] == part]


def _cut(token_ids: list[int], finish: FinishReason, sampling: Sampling) -> tuple[list[int], FinishReason]:
    """The tokens up to a stop token, which is the last one, or up to max_tokens."""
    for position, token_id in enumerate(token_ids[: sampling.max_tokens]):
        if token_id in sampling.stop_token_ids:
            return token_ids[: position + 1], "stop"
    if len(token_ids) > sampling.max_tokens:
        return token_ids[: sampling.max_tokens], "length"
    return token_ids, finish


def _logprobs(token_ids: list[int], count: int | None) -> list[TokenLogprobs] | None:
    """Made up, yet a distribution: 1/2 for the sampled token, 1/4, 1/8, ... for the text tokens after it."""
    if count is None:
        return None
    return [
        TokenLogprobs(
            token_id,
            -math.log(2),
            tuple(
                (token_id if rank == 0 else (token_id + rank) % FIRST_SPECIAL_ID, -math.log(2) * (rank + 1))
                for rank in range(count)
            ),
        )
        for token_id in token_ids
    ]


async def _forget_adapter(folder: AdapterFolder) -> None:
    """There is nothing to free."""


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
