"""What the demo model need not find out by itself: which tokens spell the same word, and how to copy.

Copying by pattern (after A came B, so after A comes B again) takes most of a small model's training to appear, because
two heads in two layers are worth nothing without each other. Here both begin in place: a first-layer head that looks
one token back and a second-layer head that looks for what came after the same token. After Olsson et al., "In-context
Learning and Induction Heads" (2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.network import Network

KINSHIP = 0.7
"""Share of a token's first embedding that all spellings of its word have in common."""
POINTERS = 4
"""Pairs of rotary dimensions, fastest first, that find a place at a fixed distance."""
POINTING = 7.0
MATCHING = 1.6
STABLE = slice(8, 16)
"""Pairs of rotary dimensions that hardly turn within a conversation: these can compare tokens at any distance."""


def give_head_start(network: Network, texts: list[str]) -> None:
    """Change untrained weights in place; `texts` are the tokens of the rows, from row 1 on."""
    with torch.no_grad():
        _relate_spellings(network, texts)
        bases = torch.linalg.qr(torch.randn(128, 128))[0].split(32)
        _look_back(network, 0, bases)
        for layer in (1, 3):
            _look_for_the_same(network, layer, bases)


def _relate_spellings(network: Network, texts: list[str]) -> None:
    """ " get", ".get" and "Get" begin as neighbours, in the input and in the output."""
    embedding, output = network.weights["model.embed_tokens.weight"], network.weights["lm_head.weight"]
    words: dict[str, Tensor] = {}
    for row, text in enumerate(texts, start=1):
        word = text.strip(" _.,:;\"'{}[]()").lower()
        if word:
            common = words.setdefault(word, embedding[row].clone())
            own = torch.randn_like(common) * 0.2
            embedding[row] = math.sqrt(KINSHIP) * common + math.sqrt(1 - KINSHIP) * own
    output.copy_(embedding[1 : len(output) + 1])


def _look_back(network: Network, layer: int, bases: tuple[Tensor, ...]) -> None:
    """Head 0 attends one token back, head 1 two; each writes what it finds into a part of the stream of its own.

    Only biases take part, so that the score depends on the distance alone: it is the sum of cos(f * (distance - back))
    over a few rotary frequencies f.
    """
    name, size = f"model.layers.{layer}.self_attn", network.config["head_dim"]
    query, key = network.weights[f"{name}.q_proj.bias"], network.weights[f"{name}.k_proj.bias"]
    # How far each pair turns from one place to the next.
    turn = torch.atan2(network.sine[1], network.cosine[1])[:POINTERS]
    key[:POINTERS] = POINTING
    for head, back in enumerate((1, 2)):
        start = head * size
        query[start : start + POINTERS] = POINTING * torch.cos(turn * back)
        query[start + size // 2 : start + size // 2 + POINTERS] = -POINTING * torch.sin(turn * back)
        network.weights[f"{name}.o_proj.weight"][:, start : start + size] = 0.4 * bases[1 + head].T
    network.weights[f"{name}.v_proj.weight"][:size] = bases[0]


def _look_for_the_same(network: Network, layer: int, bases: tuple[Tensor, ...]) -> None:
    """Head 0 attends to what follows an earlier occurrence of the present token, and writes that token."""
    name, size = f"model.layers.{layer}.self_attn", network.config["head_dim"]
    for half in (0, size // 2):
        kept = slice(STABLE.start + half, STABLE.stop + half)
        network.weights[f"{name}.q_proj.weight"][kept] = MATCHING * bases[0][kept]
        network.weights[f"{name}.k_proj.weight"][kept] = MATCHING * bases[1][kept]
    network.weights[f"{name}.v_proj.weight"][:size] = bases[3]
    network.weights[f"{name}.o_proj.weight"][:, :size] = bases[3].T
