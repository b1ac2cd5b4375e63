"""Check of an adapter's matrices against the model that they change: by names and shapes, without reading them.

vLLM leaves out matrices that it finds no place for, and copies what fits of those that are too small or too large
(vllm/lora/layers), so that an adapter for another model is loaded and changes nothing, or anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_PARTS = (".lora_A.weight", ".lora_B.weight")
_QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Base:
    """A model, as far as the engine knows it.

    `modules` are those that adapters may change, by vLLM's names (None: all); `layers` is how many layers there are;
    `widths` has the inputs and outputs of modules, by PEFT's names.
    """

    modules: Sequence[str] | None = None
    layers: int | None = None
    widths: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def misfit(shapes: Mapping[str, tuple[int, ...]], base: Base) -> str | None:
    """The problem of an adapter whose tensors have these shapes, by their names; None if there is none."""
    foreign = next((name for name in shapes if not name.endswith(_PARTS)), None)
    if foreign is not None or not shapes:
        return f"should hold LoRA matrices and nothing else; it has {foreign}"
    paths = {name.removesuffix(part) for name in shapes for part in _PARTS if name.endswith(part)}
    if base.modules is not None and (others := _modules(paths) - _with_parts(base.modules)):
        changed, adapted = ", ".join(sorted(others)), ", ".join(base.modules)
        return f"changes {changed}, and engines adapt {adapted} alone (`lora.target_modules`)"
    for path in sorted(paths):
        if (problem := _pair(path, shapes, base)) is not None:
            return problem
    return None


def _pair(path: str, shapes: Mapping[str, tuple[int, ...]], base: Base) -> str | None:
    """Mistake in one module's two matrices."""
    down, up = (shapes.get(path + part) for part in _PARTS)
    if down is None or up is None:
        return f"has one matrix of two for {path}"
    layer = _layer(path)
    if base.layers is not None and layer is not None and layer >= base.layers:
        return f"is for another model: it changes layer {layer}, and there are {base.layers}"
    widths = base.widths.get(path.rsplit(".", 1)[-1])
    if widths is None:
        return None
    if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
        return f"has matrices of shapes {list(down)} and {list(up)} for {path}, which are no pair"
    if (down[1], up[0]) != widths:
        inputs, outputs = widths
        return f"is for another model: {path} has {down[1]} inputs and {up[0]} outputs, here {inputs} and {outputs}"
    return None


def _layer(path: str) -> int | None:
    parts = path.split(".")
    number = parts[parts.index("layers") + 1] if "layers" in parts[:-1] else ""
    return int(number) if number.isdecimal() else None


def _modules(paths: Iterable[str]) -> set[str]:
    """The modules at these paths; all that experts have is one module to vLLM."""
    split = [path.split(".") for path in paths]
    return {"experts" if "experts" in parts else parts[-1] for parts in split}


def _with_parts(modules: Sequence[str]) -> set[str]:
    """The modules, with PEFT's names for the parts that vLLM joins (GptOssForCausalLM.packed_modules_mapping)."""
    joined = {"qkv_proj", *_QKV} if {"qkv_proj", *_QKV} & set(modules) else set()
    return joined | set(modules)
