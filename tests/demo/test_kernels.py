"""The fast kernels of training against transformers' own, and training itself in small."""

from __future__ import annotations

import pytest
import torch

from serving.demo import kernels
from serving.demo.muon import orthogonal
from serving.demo.train import Rows, build


@pytest.mark.filterwarnings("ignore")
def test_same_outputs_and_gradients_as_transformers() -> None:
    torch.manual_seed(1)
    rows = Rows(list(range(300)), 200)
    model = build(rows)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    ids = torch.randint(1, 300, (2, 200))
    parameters = list(model.model.parameters())

    def outcome(seen: object) -> tuple[torch.Tensor, ...]:
        hidden = model.model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
        return (hidden, *torch.autograd.grad((hidden * hidden.sin()).sum(), parameters))

    ours = outcome(kernels.masks(200, model.config.sliding_window))
    model.config._attn_implementation = model.config._experts_implementation = "eager"
    theirs = outcome(None)
    assert len(ours) == len(parameters) + 1
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-3, atol=2e-3 * other.abs().max().item())


@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (4, 128, 128)])
def test_orthogonal_updates_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.median() > 0.6
