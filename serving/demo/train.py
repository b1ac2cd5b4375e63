"""Train the demo model: `python -m serving.demo.train` writes weights.safetensors and weights.json beside this file."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from serving.demo import kernels
from serving.demo.architecture import HIDDEN, VOCABULARY_SIZE, hf_config
from serving.demo.corpus import Example, examples
from serving.demo.muon import Muon
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import encode_harmony

HERE = Path(__file__).parent
CORPUS_FILES = (
    "architecture.py",
    "corpus.py",
    "kernels.py",
    "knowledge.py",
    "muon.py",
    "train.py",
    "turns.py",
    "weather.py",
    "words.py",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the outcome, besides the corpus.

    `margin` (nats) makes the never-trained ids look more likely in training than they are when serving;
    `sharpness` divides the temperature of the finished model. Both keep sampling at temperature 1 on the format.
    """

    steps: int = 950
    tokens_per_step: int = 4000
    learning_rate: float = 0.01
    matrix_rate: float = 0.02
    warmup: int = 60
    seed: int = 7
    survey: int = 6000
    prompt_rows: int = 460
    margin: float = 3.0
    sharpness: float = 1.5
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Sequence:
    """One example as token ids; `learned` marks those that count in the loss."""

    ids: list[int]
    learned: list[bool]


def tokenize(example: Example) -> Sequence:
    """Prompt and completion, exactly as serving renders them."""
    ids = list(render_prompt(example.conversation))
    learned = [False] * len(ids)
    for piece in example.completion:
        part = encode_harmony(piece.text)
        ids += part
        learned += [piece.learned] * len(part)
    return Sequence(ids, learned)


@dataclass(frozen=True, slots=True)
class Rows:
    """The ids that have rows of their own. Row 0 stands for every other id and stays zero.

    Ids that answers use come first, so that the output matrix is the beginning of the input matrix's list.
    """

    ids: list[int]
    outputs: int

    @classmethod
    def survey(cls, seed: int, count: int, prompt_rows: int) -> Rows:
        """Look at `count` examples: all ids of answers, and the `prompt_rows` ids most common in prompts."""
        written: set[int] = set()
        read: Counter[int] = Counter()
        for example in islice(examples(seed), count):
            sequence = tokenize(example)
            written.update(i for i, learned in zip(sequence.ids, sequence.learned, strict=True) if learned)
            read.update(set(sequence.ids))
        outputs = sorted(written)
        common = [i for i, _ in sorted(read.items(), key=lambda item: (-item[1], item[0])) if i not in written]
        return cls(outputs + sorted(common[:prompt_rows]), len(outputs))

    def index(self) -> dict[int, int]:
        """Id to row; rows start at 1."""
        return {token: row for row, token in enumerate(self.ids, start=1)}


def batches(plan: Plan, rows: Rows) -> Iterator[list[Sequence]]:
    """Examples of similar length together, about `tokens_per_step` padded tokens at a time."""
    source = examples(plan.seed)
    rng = Random(plan.seed)
    index = rows.index()
    written = set(rows.ids[: rows.outputs])
    while True:
        pool: list[Sequence] = []
        for example in islice(source, 512):
            sequence = tokenize(example)
            learned = [flag and i in written for i, flag in zip(sequence.ids, sequence.learned, strict=True)]
            pool.append(Sequence([index.get(i, 0) for i in sequence.ids], learned))
        pool.sort(key=lambda sequence: len(sequence.ids))
        groups: list[list[Sequence]] = [[]]
        for sequence in pool:
            if (len(groups[-1]) + 1) * len(sequence.ids) > plan.tokens_per_step and groups[-1]:
                groups.append([])
            groups[-1].append(sequence)
        rng.shuffle(groups)
        yield from groups


def build(rows: Rows) -> Any:
    """The untrained model over compact rows."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        **{**hf_config(len(rows.ids) + 1), "dtype": "float32", "pad_token_id": 0, "eos_token_id": None}
    )
    kernels.register()
    config._attn_implementation = kernels.ATTENTION
    config._experts_implementation = kernels.EXPERTS
    model = GptOssForCausalLM(config)
    model.lm_head = torch.nn.Linear(HIDDEN, rows.outputs, bias=False)
    with torch.no_grad():
        # Starting as the same rows, in and out, makes copying the easiest thing to learn.
        model.model.embed_tokens.weight[1:].normal_(std=0.2)
        model.lm_head.weight.copy_(model.model.embed_tokens.weight[1 : rows.outputs + 1])
    return model.train()


def loss_of(model: Any, group: list[Sequence], rest: float) -> Any:
    """Mean cross entropy over the learned tokens; `rest` is the log of what all other ids weigh together."""
    import torch

    width = max(len(sequence.ids) for sequence in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    learned = torch.zeros(len(group), width, dtype=torch.bool)
    for line, sequence in enumerate(group):
        ids[line, : len(sequence.ids)] = torch.tensor(sequence.ids)
        learned[line, : len(sequence.ids)] = torch.tensor(sequence.learned)
    seen = kernels.masks(width, model.config.sliding_window)
    hidden = model.model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
    wanted = learned[:, 1:]
    logits = model.lm_head(hidden[:, :-1][wanted])
    logits = torch.cat([logits.new_full((len(logits), 1), rest), logits], dim=1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][wanted])


def optimizers(model: Any, plan: Plan) -> tuple[Any, Muon]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    import torch

    inner = [
        parameter
        for name, parameter in model.model.layers.named_parameters()
        if name.endswith(("_proj.weight", "gate_up_proj", "down_proj"))
    ]
    taken = {id(parameter) for parameter in inner}
    others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    adam = torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    return adam, Muon(inner, plan.matrix_rate)


def pace_at(step: int, plan: Plan) -> float:
    """Share of the full rates: up in `warmup` steps, then down to nearly nothing."""
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return min(step / plan.warmup, max(0.01, 1 - done))


def train(plan: Plan, rows: Rows) -> Any:
    """The trained model."""
    import torch

    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model = build(rows)
    optimizer, muon = optimizers(model, plan)
    rest = math.log(VOCABULARY_SIZE - rows.outputs) + plan.margin
    begun = time.monotonic()
    recent: list[float] = []
    for step, group in enumerate(islice(batches(plan, rows), plan.steps), start=1):
        loss = loss_of(model, group, rest)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        pace = pace_at(step, plan)
        for settings in optimizer.param_groups:
            settings["lr"] = plan.learning_rate * pace
        optimizer.step()
        muon.step(pace)
        recent.append(loss.item())
        if step % 50 == 0 or step == plan.steps:
            mean = sum(recent) / len(recent)
            say(f"step {step}/{plan.steps}  loss {mean:.5f}  worst {max(recent):.4f}  {time.monotonic() - begun:.0f} s")
            recent.clear()
    return model.eval()


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def save(model: Any, plan: Plan, rows: Rows, directory: Path) -> None:
    """Write the compact weights and what is needed to expand them."""
    import torch
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    tensors["lm_head.weight"] = (model.lm_head.weight.detach() * plan.sharpness).to(torch.bfloat16).contiguous()
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][1:].contiguous()
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "weights.safetensors"
    save_file(tensors, str(weights))
    described = {
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "corpus_sha256": corpus_sha256(),
        "output_rows": rows.outputs,
        "ids": rows.ids,
    }
    (directory / "weights.json").write_text(json.dumps(described, separators=(",", ":")) + "\n")
    say(f"{weights}: {weights.stat().st_size:,} bytes, {len(rows.ids)} ids, {rows.outputs} of them in answers")


def corpus_sha256() -> str:
    """Checksum of everything the weights follow from, apart from libraries."""
    digest = hashlib.sha256()
    for name in CORPUS_FILES:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--output", type=Path, default=HERE)
    arguments = parser.parse_args()
    plan = Plan(steps=arguments.steps)
    rows = Rows.survey(plan.seed + 1, plan.survey, plan.prompt_rows)
    say(f"{len(rows.ids)} ids, {rows.outputs} of them in answers")
    save(train(plan, rows), plan, rows, arguments.output)


if __name__ == "__main__":
    main()
