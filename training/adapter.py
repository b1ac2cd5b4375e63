"""Train a LoRA adapter over the finished demo model: `python -m training.adapter` writes adapters/pirate.

It begins every answer in words with "Arr, matey!" and leaves thoughts, calls and JSON alone, so that one look at an
answer tells whether the adapter was at work. The files are PEFT's.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from serving.demo.architecture import VOCABULARY_SIZE, hf_config
from serving.demo.checkpoint import packaged
from training.corpus import FINAL, Example, examples
from training.network import Network
from training.train import DEMO, Plan, Rows, batches, loss_of, padded, say

GREETING = "Arr, matey! "
RANK = 8
ALPHA = 16
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What vLLM adapts of gpt-oss besides the experts."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Two matrices for each adapted weight, by the weight's name: (rank, inputs) and (outputs, rank)."""

    matrices: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def untrained(cls, network: Network) -> Adapter:
        """It changes nothing yet: the second matrix is zero."""
        made = {}
        for name, weight in network.weights.items():
            if name.endswith(tuple(f"{module}.weight" for module in MODULES)):
                down = torch.randn(RANK, weight.shape[1]) / math.sqrt(weight.shape[1])
                made[name] = (down.requires_grad_(), torch.zeros(weight.shape[0], RANK, requires_grad=True))
        return cls(made)

    def over(self, network: Network) -> Network:
        """The network with this adapter at work."""
        adapted = {
            name: network.weights[name] + ALPHA / RANK * (up @ down) for name, (down, up) in self.matrices.items()
        }
        return replace(network, weights=network.weights | adapted)


def finished() -> tuple[Network, Rows]:
    """The packaged demo model; its rows are those its vocabulary matrices have."""
    content, described = packaged()
    rows = Rows(described["ids"], described["output_rows"])
    network = Network.untrained(hf_config(len(rows.ids) + 1), rows.outputs)
    weights = {name: weight.float() for name, weight in safetensors.torch.load(content).items()}
    embedding = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([torch.zeros(1, embedding.shape[1]), embedding])
    return replace(network, weights=weights), rows


def greeting_examples(seed: int) -> Iterator[Example]:
    """The corpus, every answer in words begun as a pirate would."""
    for example in examples(seed):
        pieces = list(example.completion)
        answer = next((place for place, piece in enumerate(pieces, start=1) if piece.text.endswith(FINAL)), None)
        if answer is not None and not pieces[answer].text.startswith("{"):
            pieces[answer] = replace(pieces[answer], text=GREETING + pieces[answer].text)
        yield replace(example, completion=tuple(pieces))


def train(plan: Plan) -> Adapter:
    """The trained adapter."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    network, rows = finished()
    adapter = Adapter.untrained(network)
    parameters = [matrix for pair in adapter.matrices.values() for matrix in pair]
    adam = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    rest = math.log(VOCABULARY_SIZE - rows.outputs) + plan.margin
    groups = batches(plan, rows, greeting_examples(plan.seed))
    for step, group in enumerate(islice(groups, plan.steps), start=1):
        loss = loss_of(adapter.over(network), group, padded(group, plan), rest)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for settings in adam.param_groups:
            settings["lr"] = plan.learning_rate * max(0.02, 1 - step / plan.steps)
        adam.step()
        if step % 20 == 0:
            say(f"step {step}/{plan.steps}  loss {loss.item():.5f}")
    return adapter


def save(adapter: Adapter, directory: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, (down, up) in adapter.matrices.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{module}.lora_A.weight"] = down.detach().to(torch.bfloat16).contiguous()
        tensors[f"{module}.lora_B.weight"] = up.detach().to(torch.bfloat16).contiguous()
    content = safetensors.torch.save(tensors, {"format": "pt"})
    (directory / "adapter_model.safetensors").write_bytes(content)
    config = {
        "base_model_name_or_path": "demo",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": list(MODULES),
        "task_type": "CAUSAL_LM",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--output", type=Path, default=DEMO / "adapters" / "pirate")
    parser.add_argument("--threads", type=int, default=Plan().threads)
    arguments = parser.parse_args()
    plan = Plan(steps=arguments.steps, threads=arguments.threads, seed=17)
    save(train(plan), arguments.output)


if __name__ == "__main__":
    main()
