"""Muon: momentum whose updates are made orthogonal; it needs about half the steps AdamW does here.

After Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1; from the publication."""


class Muon:
    """For weight matrices, stacks of them included; vocabulary matrices and vectors belong to AdamW.

    `momentum` is Nesterov's; an update's size is that of a matrix with singular values of `rate`, scaled for its
    shape.
    """

    def __init__(self, parameters: Iterable[Any], rate: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        self.parameters = list(parameters)
        self.rate = rate
        self.momentum = momentum
        self.decay = decay
        self.buffers = [parameter.detach().clone().zero_() for parameter in self.parameters]

    def step(self, pace: float) -> None:
        """One update at `pace` times the rate."""
        import torch

        rate = self.rate * pace
        with torch.no_grad():
            for parameter, buffer in zip(self.parameters, self.buffers, strict=True):
                buffer.lerp_(parameter.grad, 1 - self.momentum)
                update = orthogonal(parameter.grad.lerp(buffer, self.momentum))
                shape = max(1.0, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
                parameter.mul_(1 - rate * self.decay).sub_(update, alpha=rate * shape)


def orthogonal(matrix: Any) -> Any:
    """The nearest matrix with all singular values about 1, by five Newton-Schulz steps; works on stacks too."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
