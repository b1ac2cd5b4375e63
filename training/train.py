"""Train the demo model: `python -m training.train` writes weights.safetensors and weights.json beside this file."""

from __future__ import annotations

import argparse
import ctypes
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

import torch
from safetensors.torch import save_file
from torch import Tensor

from serving import demo
from serving.demo.architecture import VOCABULARY_SIZE, hf_config
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import encode_harmony, token_bytes
from training.corpus import Example, examples
from training.head_start import give_head_start
from training.muon import Muon
from training.network import Network

HERE = Path(__file__).parent
DEMO = Path(demo.__file__).parent
"""Where the package has the model."""
CORPUS_FILES = (
    "activation.py",
    "agent.py",
    "attention.py",
    "corpus.py",
    "head_start.py",
    "knowledge.py",
    "muon.py",
    "network.py",
    "structured.py",
    "toolbox.py",
    "train.py",
    "turns.py",
    "words.py",
)

# malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the outcome, besides the corpus.

    A step learns from `parts` batches of about `tokens_per_part` tokens each: a batch has examples of one width, which
    are of one kind, and one kind alone misleads. The first `single` steps, which find the outlines, do with one.
    `margin` (nats) makes the never-trained ids look more likely in
    training than they are when serving; `sharpness` divides the temperature of the finished model. Both keep sampling
    at temperature 1 on the format.
    """

    steps: int = 1300
    tokens_per_part: int = 2048
    parts: int = 2
    single: int = 200
    width_step: int = 32
    learning_rate: float = 0.01
    matrix_rate: float = 0.02
    warmup: int = 60
    seed: int = 7
    survey: int = 4000
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


def padded(group: list[Sequence], plan: Plan) -> int:
    """The width of a batch."""
    longest = max(len(sequence.ids) for sequence in group) - 1
    return -(-longest // plan.width_step) * plan.width_step


def batches(plan: Plan, rows: Rows, source: Iterator[Example]) -> Iterator[list[Sequence]]:
    """Examples of similar length together, about `tokens_per_part` padded tokens at a time.

    Widths are multiples of `width_step` and batches of one width have one size: matrix products of few shapes, for
    each of which oneDNN makes machine code once.
    """
    index = rows.index()
    written = set(rows.ids[: rows.outputs])
    waiting: dict[int, list[Sequence]] = {}
    for example in source:
        sequence = tokenize(example)
        learned = [flag and i in written for i, flag in zip(sequence.ids, sequence.learned, strict=True)]
        width = padded([sequence], plan)
        group = waiting.setdefault(width, [])
        group.append(Sequence([index.get(i, 0) for i in sequence.ids], learned))
        if (len(group) + 1) * width > plan.tokens_per_part:
            yield waiting.pop(width)


def build(rows: Rows) -> Network:
    """The untrained model over compact rows."""
    network = Network.untrained(hf_config(len(rows.ids) + 1), rows.outputs)
    give_head_start(network, [token_bytes(token).decode(errors="replace") for token in rows.ids])
    return network


def loss_of(network: Network, group: list[Sequence], width: int, rest: float) -> Tensor:
    """Mean cross entropy over the learned tokens, of sequences padded to `width`.

    `rest` is the log of what all other ids weigh together.
    """
    # One more than is read: the last token is only foreseen.
    ids = torch.zeros(len(group), width + 1, dtype=torch.long)
    learned = torch.zeros(len(group), width + 1, dtype=torch.bool)
    for line, sequence in enumerate(group):
        ids[line, : len(sequence.ids)] = torch.tensor(sequence.ids)
        learned[line, : len(sequence.ids)] = torch.tensor(sequence.learned)
    wanted = learned[:, 1:]
    logits = network.hidden(ids[:, :-1], wanted) @ network.weights["lm_head.weight"].T
    logits = torch.cat([logits.new_full((len(logits), 1), rest), logits], dim=1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][wanted])


def optimizers(network: Network, plan: Plan) -> tuple[torch.optim.Optimizer, Muon]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    inner = {
        name: weight
        for name, weight in network.weights.items()
        if name.startswith("model.layers.") and name.endswith(("_proj.weight", "gate_up_proj", "down_proj"))
    }
    others = [weight for name, weight in network.weights.items() if name not in inner]
    adam = torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    return adam, Muon(inner.values(), plan.matrix_rate, dtype=network.fast)


def pace_at(step: int, plan: Plan) -> float:
    """Share of the full rates: up in `warmup` steps, then down to nearly nothing."""
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return min(step / plan.warmup, max(0.01, 1 - done))


def train(plan: Plan, rows: Rows) -> Network:
    """The trained model."""
    keep_memory()
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    network = build(rows)
    weights = list(network.weights.values())
    adam, muon = optimizers(network, plan)
    rest = math.log(VOCABULARY_SIZE - rows.outputs) + plan.margin
    begun = time.monotonic()
    recent: list[float] = []
    groups = batches(plan, rows, examples(plan.seed))
    for step in range(1, plan.steps + 1):
        parts = 1 if step <= plan.single else plan.parts
        for group in islice(groups, parts):
            loss = loss_of(network, group, padded(group, plan), rest) / parts
            loss.backward()
            recent.append(loss.item() * parts)
        # Row 0 stands for every id without a row and must stay zero.
        embedding = network.weights["model.embed_tokens.weight"]
        if embedding.grad is not None:
            embedding.grad[0] = 0.0
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        pace = pace_at(step, plan)
        for settings in adam.param_groups:
            settings["lr"] = plan.learning_rate * pace
        adam.step()
        muon.step(pace)
        for weight in weights:
            weight.grad = None
        if step % 50 == 0 or step == plan.steps:
            mean = sum(recent) / len(recent)
            say(f"step {step}/{plan.steps}  loss {mean:.5f}  worst {max(recent):.4f}  {time.monotonic() - begun:.0f} s")
            recent.clear()
    return network


def keep_memory() -> None:
    """Have glibc keep what is freed: a step frees and takes some hundred megabytes, and each new page costs a fault."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        for option, size in ((_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28), (_MMAP_THRESHOLD, 2**25)):
            mallopt(option, size)


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def save(network: Network, plan: Plan, rows: Rows, directory: Path) -> None:
    """Write the compact weights and what is needed to expand them."""
    finished = {name: weight.detach() for name, weight in network.weights.items()}
    finished["lm_head.weight"] = finished["lm_head.weight"] * plan.sharpness
    finished["model.embed_tokens.weight"] = finished["model.embed_tokens.weight"][1:]
    tensors = {name: weight.to(torch.bfloat16).contiguous() for name, weight in finished.items()}
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
    for path in (*(HERE / name for name in CORPUS_FILES), DEMO / "architecture.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--threads", type=int, default=Plan().threads)
    parser.add_argument("--output", type=Path, default=DEMO)
    arguments = parser.parse_args()
    plan = Plan(steps=arguments.steps, threads=arguments.threads)
    rows = Rows.survey(plan.seed + 1, plan.survey, plan.prompt_rows)
    say(f"{len(rows.ids)} ids, {rows.outputs} of them in answers")
    save(train(plan, rows), plan, rows, arguments.output)


if __name__ == "__main__":
    main()
