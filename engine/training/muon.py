"""Muon (K. Jordan and others, 2024, github.com/KellerJordan/Muon): momentum, made orthogonal by
Newton-Schulz iterations.

Of all that was tried it mattered most for speed: the encoder's CTC loss falls about twice as fast a step as
with AdamW.
"""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of the reference implementation
ITERATIONS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices to [batch, rows, columns], about."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).contiguous()
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class Muon:
    """For the matrices of the blocks; all of one shape are done together."""

    def __init__(self, matrices: list[Tensor], momentum: float = 0.95, decay: float = 0.1) -> None:
        self._groups: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self._groups.setdefault(tuple(matrix.shape), []).append(matrix)
        self._moving = {k: torch.zeros(len(v), *k, device=v[0].device) for k, v in self._groups.items()}
        self._momentum, self._decay = momentum, decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, matrices in self._groups.items():
            gradient = torch.stack([m.grad for m in matrices])
            moving = self._moving[shape].lerp_(gradient, 1 - self._momentum)
            turned = orthogonal(torch.lerp(gradient, moving, self._momentum)).float()
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, update in zip(matrices, turned, strict=True):
                matrix.mul_(1 - rate * self._decay).add_(update, alpha=-scale)
