"""The network that is trained against transformers' own, and its optimizer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM

from serving.demo.architecture import hf_config
from training.muon import Muon, orthogonal
from training.network import Network

ROWS, OUTPUTS, WIDTH = 301, 200, 200


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(1)
    made = Network.untrained(hf_config(ROWS), OUTPUTS, torch.float32)
    with torch.no_grad():
        for weight in made.weights.values():
            weight.normal_(std=0.3)
    return made


@pytest.fixture(scope="module")
def asked() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids longer than the sliding window, and which of them are wanted."""
    return torch.randint(1, ROWS, (2, WIDTH)), torch.rand(2, WIDTH) < 0.4


def outcome(hidden: torch.Tensor, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Outputs, and gradients of something that depends on all of them."""
    return (hidden, *torch.autograd.grad((hidden * hidden.sin()).sum(), weights))


def names(network: Network) -> list[str]:
    return [name for name in network.weights if name.startswith("model.")]


def test_same_outputs_and_gradients_as_transformers(network: Network, asked: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, wanted = asked
    config = GptOssConfig(**{**hf_config(ROWS), "dtype": "float32", "pad_token_id": None, "eos_token_id": None})
    config._attn_implementation = config._experts_implementation = "eager"
    model = GptOssForCausalLM(config)
    model.lm_head = torch.nn.Linear(config.hidden_size, OUTPUTS, bias=False)
    model.load_state_dict(network.weights)
    named = dict(model.named_parameters())
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[wanted]
    theirs = outcome(hidden, [named[name] for name in names(network)])
    ours = outcome(network.hidden(ids, wanted), [network.weights[name] for name in names(network)])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-3, atol=2e-3 * other.abs().max().item())


def test_bfloat16_products_stay_close(network: Network, asked: tuple[torch.Tensor, torch.Tensor]) -> None:
    weights = [network.weights[name] for name in names(network)]
    exact = outcome(network.hidden(*asked), weights)
    quick = outcome(replace(network, fast=torch.bfloat16).hidden(*asked), weights)
    for mine, other in zip(quick, exact, strict=True):
        assert (mine - other).norm() < 0.15 * other.norm()


def test_what_comes_later_changes_nothing(network: Network, asked: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, wanted = asked
    early = wanted.clone()
    early[:, 150:] = False
    later = ids.clone()
    later[:, 150:] = 0
    torch.testing.assert_close(network.hidden(ids, early), network.hidden(later, early))


@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (4, 128, 128)])
def test_orthogonal_updates_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_muon_updates_each_matrix_by_its_own_gradient() -> None:
    torch.manual_seed(3)
    weights = [torch.randn(64, 128), torch.randn(4, 64, 128), torch.randn(128, 128)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    alone = [weight.clone() for weight in weights]
    for weight, source in zip(alone, weights, strict=True):
        weight.grad = source.grad
        Muon([weight], 0.1).step(1.0)
    together = [weight.clone() for weight in weights]
    for weight, source in zip(together, weights, strict=True):
        weight.grad = source.grad
    Muon(together, 0.1).step(1.0)
    for one, other, before in zip(together, alone, weights, strict=True):
        torch.testing.assert_close(one, other)
        assert (one - before).abs().max() > 1e-3
