"""Layers of GemNet: no biases, orthogonal weights, activations and sums that keep the variance.

Gasteiger, Becker, Günnemann, "GemNet: Universal Directional Graph Neural Networks for Molecules", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

HALF = 0.5**0.5
"""Factor of a sum of two independent terms that keeps the variance."""


class Dense(nn.Module):
    """``x W``, then SiLU / 0.6 where it is asked for, which keeps the variance of normal values.

    Args:
        n_in, n_out: widths.
        is_active: whether the activation follows.
    """

    def __init__(self, n_in: int, n_out: int, *, is_active: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out, bias=False)
        self.is_active = is_active
        nn.init.orthogonal_(self.linear.weight)
        with torch.no_grad():
            self.linear.weight *= (n_in * self.linear.weight.square().mean()) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n_in]`` -> ``[..., n_out]``."""
        x = self.linear(x)
        return silu(x) / 0.6 if self.is_active else x


class Residual(nn.Module):
    """(x + two active layers of x) / √2."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Dense(n_channels, n_channels, is_active=True) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n_channels]``, also returned."""
        result: Tensor = (x + self.layers(x)) * HALF
        return result


def residuals(n_channels: int, n_layers: int) -> nn.Sequential:
    """Residual layers, one after the other."""
    return nn.Sequential(*(Residual(n_channels) for _ in range(n_layers)))


class Scale(nn.Module):
    """A fixed factor that gives values the mean square of others; set once, on real data, by :func:`fitting_scales`.

    GemNet compares variances. Those nearly vanish on lattices, where all atoms are alike, and factors explode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.factor: Tensor
        self.register_buffer("factor", torch.ones(()))
        self.is_fitting = False

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """``x`` times the factor; any shapes."""
        if self.is_fitting:
            square = x.detach().square().mean()
            if square > 0.0:
                self.factor.copy_((reference.detach().square().mean() / square).sqrt())
        return x * self.factor


@contextmanager
def fitting_scales(module: nn.Module) -> Iterator[None]:
    """One forward pass inside the block sets all scales of a module, the first before the next."""
    scales = [part for part in module.modules() if isinstance(part, Scale)]
    for scale in scales:
        scale.is_fitting = True
    try:
        with torch.no_grad():
            yield
    finally:
        for scale in scales:
            scale.is_fitting = False
