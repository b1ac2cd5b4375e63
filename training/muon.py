"""Muon: momentum whose updates are made orthogonal; it needs about half the steps AdamW does here.

After Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1; from the publication."""


class Muon:
    """For weight matrices, stacks of them included; vocabulary matrices and vectors belong to AdamW.

    `momentum` is Nesterov's; an update's size is that of a matrix with singular values of `rate`, scaled for its
    shape. `dtype` is the type the updates are made orthogonal in.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        rate: float,
        momentum: float = 0.95,
        decay: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rate = rate
        self.momentum = momentum
        self.decay = decay
        self.dtype = dtype
        # Matrices of one shape go through their products together.
        self.kin: dict[tuple[int, int], list[Tensor]] = {}
        for weight in weights:
            self.kin.setdefault((weight.shape[-2], weight.shape[-1]), []).append(weight)
        self.buffers = {shape: torch.zeros_like(stacked(kin)) for shape, kin in self.kin.items()}

    def step(self, pace: float) -> None:
        """One update at `pace` times the rate. Every weight must have its gradient."""
        with torch.no_grad():
            self._step(pace)

    def _step(self, pace: float) -> None:
        rate = self.rate * pace
        for (rows, columns), kin in self.kin.items():
            grad = stacked([weight.grad for weight in kin if weight.grad is not None])
            buffer = self.buffers[rows, columns].lerp_(grad, 1 - self.momentum)
            update = orthogonal(grad.lerp(buffer, self.momentum).to(self.dtype)).float()
            update *= rate * max(1.0, rows / columns) ** 0.5
            for weight, part in zip(kin, update.split([weight[..., 0, 0].numel() for weight in kin]), strict=True):
                weight.mul_(1 - rate * self.decay).sub_(part.view_as(weight))


def stacked(matrices: list[Tensor]) -> Tensor:
    """Matrices and stacks of matrices as one stack."""
    return torch.cat([matrix.detach().view(-1, *matrix.shape[-2:]) for matrix in matrices])


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with all singular values about 1, by five Newton-Schulz steps; works on stacks too."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
