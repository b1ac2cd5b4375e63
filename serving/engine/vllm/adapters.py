"""LoRA adapters as vLLM loads them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serving.engine.accelerator import Accelerator
from serving.engine.adapters.folder import find as find_adapter
from serving.engine.adapters.weights import Base
from serving.engine.base import Adapter
from serving.engine.vllm.plan import adapted_modules
from serving.errors import CheckpointError
from serving.settings.models import ModelSettings

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM


async def load_adapter(
    llm: AsyncLLM, adapter: Adapter, model: ModelSettings, accelerator: Accelerator, number: int
) -> LoRARequest:
    """Check the adapter's files and have vLLM load them as its adapter `number`, one that no other has had.

    Raises CheckpointError, and vLLM's EngineDeadError.
    """
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.exceptions import EngineDeadError

    base = _base_of(llm.model_config.hf_config, adapted_modules(model, accelerator))
    folder = await asyncio.to_thread(find_adapter, adapter, model, base)
    # The prefix cache goes by name and path (vllm/v1/core/kv_cache_utils.py): other content, another name.
    name = f"{adapter.name}@{folder.fingerprint}"
    lora_request = LoRARequest(name, number, str(folder.path))
    try:
        await llm.add_lora(lora_request)
    except EngineDeadError:
        raise
    except Exception as error:
        raise CheckpointError(f"vLLM cannot load {folder.path}: {error}") from error
    return lora_request


def _base_of(config: Any, modules: Sequence[str] | None) -> Base:
    """The shapes that adapters have to fit, from a checkpoint's config (transformers' GptOssConfig)."""
    hidden = config.hidden_size
    queries, keys = (count * config.head_dim for count in (config.num_attention_heads, config.num_key_value_heads))
    widths = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
    }
    return Base(modules, config.num_hidden_layers, widths)
