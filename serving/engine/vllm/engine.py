"""vLLM's AsyncLLM as an Engine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.engine.accelerator import Accelerator, probe
from serving.engine.adapters.loaded import LoadedAdapters
from serving.engine.base import (
    Adapter,
    EngineInfo,
    EngineRequest,
    TokenDelta,
)
from serving.engine.load import EngineLoad
from serving.engine.pulled import pulled
from serving.engine.vllm.adapters import load_adapter
from serving.engine.vllm.grammars import GrammarTrials
from serving.engine.vllm.load import LoadMeter
from serving.engine.vllm.loading import create, import_vllm, own_output, prepare_environment, vllm_version
from serving.engine.vllm.patches.fork_server import make_engines_with_it, start_fork_server
from serving.engine.vllm.patches.pushed_outputs import PushedOutputs
from serving.engine.vllm.patches.start_progress import Steps, step_file
from serving.engine.vllm.sampling import sampling_params
from serving.engine.vllm.warm_up import warm_up_requests
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


class VllmEngine:
    """Engine on vLLM: one AsyncLLM with all its processes.

    `checkpoint` turns a model's source into what vLLM loads: a directory or a hub id. `progress` is called with the
    stage of start(): "model", "engine import", "weights", then each step of vLLM's, "warm-up".
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
        self._load_meter = LoadMeter()
        self._info: EngineInfo | None = None
        lora = model.lora_settings
        self._adapters = LoadedAdapters(lora.max_cpu_loras, self._load_adapter, self._remove_adapter) if lora else None
        self._adapter_numbers = itertools.count(1)
        self._grammars: GrammarTrials | None = None

    async def start(self) -> None:
        """Load, then answer small requests, so that the first user's does not pay for what is made lazily."""
        with step_file() as steps:
            await self._start(Steps(steps, own_output()))

    async def _start(self, steps: Steps) -> None:
        started = time.monotonic()
        prepare_environment(self._model, self._accelerator, self._cache_dir)
        # Workers beside the engine's process, which several GPUs have, were not seen to start from one.
        forked = self._accelerator.device == "cpu" or self._model.devices == 1
        if forked:
            start_fork_server(self._accelerator.device)
        self._progress("model")
        source = str(await asyncio.to_thread(self._checkpoint))
        self._progress("engine import")
        await asyncio.to_thread(import_vllm)
        if forked:
            make_engines_with_it()
        self._progress("weights")
        creating = asyncio.to_thread(create, self._name, source, self._model, self._accelerator, self._load_meter)
        llm = self._llm = await self._told(creating, steps)
        if self._adapters is not None:
            for name, adapter in self._model.adapters.items():
                await self._adapters.load(Adapter(name, adapter.source))
        self._grammars = GrammarTrials(multiprocessing.get_context("forkserver" if forked else "spawn"))
        await self._grammars.start()
        self._progress("warm-up")
        for number, request in enumerate(warm_up_requests(self._accelerator)):
            await self._warm_up(replace(request, request_id=f"warm-up-{number}"))
        self._info = EngineInfo(
            model=self._name,
            max_model_len=llm.model_config.max_model_len,
            max_num_seqs=llm.vllm_config.scheduler_config.max_num_seqs,
            versions={"vllm": vllm_version()},
        )
        logger.info("engine of %s ready after %.1f s", self._name, time.monotonic() - started)

    async def _told(self, creating: Coroutine[Any, Any, AsyncLLM], steps: Steps) -> AsyncLLM:
        """Wait for the engine, and report each of its steps meanwhile."""
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
        async with self._loaded_adapters().use(request.adapter) as lora_request:
            await self._run(request, push, lora_request)

    async def _run(
        self, request: EngineRequest, push: Callable[[TokenDelta], None], lora_request: LoRARequest | None
    ) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        llm = self._running()
        if llm.errored:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is being replaced.", retry_after_s=5)
        if request.constraint is not None and self._grammars is not None:
            await self._grammars.check(request.constraint)
        try:
            collector = await llm.add_request(
                request.request_id,
                {"prompt_token_ids": request.prompt_token_ids + request.completion_token_ids},
                sampling_params(request),
                lora_request=lora_request,
                priority=request.priority,
            )
            outputs = PushedOutputs(push, request.sampling.logprobs)
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
            await self._loaded_adapters().load(adapter)
        except CheckpointError as error:
            raise InvalidValueError(str(error), param="source") from error

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        await self._loaded_adapters().unload(adapter)

    async def _load_adapter(self, adapter: Adapter) -> LoRARequest:
        with self._alive():
            return await load_adapter(
                self._running(), adapter, self._model, self._accelerator, next(self._adapter_numbers)
            )

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

    def load(self) -> EngineLoad | None:
        """See PushingEngine."""
        if self._llm is None:
            return None
        return self._load_meter.load(self._llm, () if self._adapters is None else self._adapters.adapters)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Context of a call that a dead engine refuses; raises EngineNotReadyError."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except EngineDeadError as error:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is dead.", retry_after_s=5) from error

    def _loaded_adapters(self) -> LoadedAdapters[LoRARequest]:
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
        if self._grammars is not None:
            await self._grammars.close()
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineNotReadyError(f"The engine of model '{self._name}' is not running.", retry_after_s=5)
        return self._llm
