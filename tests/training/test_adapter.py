"""The demo's adapter: fits the demo, says what it was taught, and can be trained again."""

from __future__ import annotations

from datetime import date
from itertools import islice
from pathlib import Path

import pytest
import safetensors.torch
import torch

from serving.engine.adapters.folder import read
from serving.engine.adapters.weights import Base
from serving.harmony.conversation import Conversation, UserMessage
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import decode, encode_harmony
from serving.settings.adapters import LoraSettings
from training.adapter import GREETING, MODULES, Adapter, finished, greeting_examples, save
from training.corpus import FINAL, examples
from training.network import Network
from training.train import Rows

FOLDER = Path(__file__).parents[2] / "serving" / "demo" / "adapters" / "pirate"


@pytest.fixture(scope="module")
def demo() -> tuple[Network, Rows]:
    return finished()


def loaded(folder: Path) -> Adapter:
    """An adapter from its files."""
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return Adapter(
        {
            f"{name.removeprefix('base_model.model.')}.weight": (
                tensors[f"{name}.lora_A.weight"].float(),
                tensors[f"{name}.lora_B.weight"].float(),
            )
            for name in names
        }
    )


def said(network: Network, rows: Rows, question: str, tokens: int) -> str:
    """The likeliest answer's beginning, after a thought that was left out."""
    conversation = Conversation((UserMessage(question),), effort="low", current_date=date(2037, 3, 1))
    index = rows.index()
    ids = [index.get(token, 0) for token in (*render_prompt(conversation), *encode_harmony(FINAL))]
    answer = []
    with torch.no_grad():
        for _ in range(tokens):
            wanted = torch.zeros(1, len(ids), dtype=torch.bool)
            wanted[0, -1] = True
            logits = network.hidden(torch.tensor([ids]), wanted) @ network.weights["lm_head.weight"].T
            ids.append(int(logits.argmax()) + 1)
            answer.append(rows.ids[ids[-1] - 1])
    return decode(answer)


def test_the_packaged_one_fits_the_demo_and_is_small(demo: tuple[Network, Rows]) -> None:
    adapter = loaded(FOLDER)
    adapted = adapter.over(demo[0])
    assert len(adapter.matrices) == len(MODULES) * demo[0].config["num_hidden_layers"]
    for name, weight in demo[0].weights.items():
        assert adapted.weights[name].shape == weight.shape
        assert torch.equal(adapted.weights[name], weight) == (name not in adapter.matrices)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300 * 1024
    assert read(FOLDER, LoraSettings(), Base(MODULES)).rank == 8


@pytest.mark.parametrize("question", ["What is the capital of France?", "Tell me something about wombats."])
def test_one_look_at_an_answer_tells_whether_it_was_at_work(demo: tuple[Network, Rows], question: str) -> None:
    network, rows = demo
    assert said(loaded(FOLDER).over(network), rows, question, 6).startswith("Arr, matey!")
    assert "Arr" not in said(network, rows, question, 6)


def test_before_training_it_changes_nothing_and_its_files_are_pefts(demo: tuple[Network, Rows], tmp_path: Path) -> None:
    untrained = Adapter.untrained(demo[0])
    adapted = untrained.over(demo[0])
    assert all(torch.equal(adapted.weights[name], weight) for name, weight in demo[0].weights.items())
    save(untrained, tmp_path)
    assert read(tmp_path, LoraSettings(), Base(MODULES)).rank == 8
    assert loaded(tmp_path).matrices.keys() == untrained.matrices.keys()


def test_it_is_taught_to_greet_in_words_alone() -> None:
    plain, greeting = (list(islice(corpus(3), 300)) for corpus in (examples, greeting_examples))
    changed = 0
    for before, after in zip(plain, greeting, strict=True):
        old, new = ("".join(piece.text for piece in each.completion) for each in (before, after))
        changed += old != new
        assert new in (old, old.replace(FINAL, FINAL + GREETING, 1))
        assert f"{FINAL}{{" not in old or old == new
    assert changed > 100
