"""Functions of distances that edges enter the networks with.

All of them vanish at the cutoff with their first two derivatives, by the polynomial envelope of Gasteiger, Groß,
Günnemann (ICLR 2020), Eq. 8.
"""

from __future__ import annotations

from itertools import pairwise
from math import pi

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor, nn


def envelope(x: Tensor, exponent: int = 6) -> Tensor:
    """1 at x = 0 and 0 from x = 1 on, twice continuously differentiable; any shape (Eq. 8 of DimeNet)."""
    p = exponent
    polynomial = (
        1.0
        - (p + 1) * (p + 2) / 2.0 * x**p
        + p * (p + 2) * x ** (p + 1)
        - p * (p + 1) / 2.0 * x ** (p + 2)
    )  # fmt: skip
    return torch.where(x < 1.0, polynomial, torch.zeros_like(x))


class BesselBasis(nn.Module):
    """u(x) sin(k_n x) / x of x = d / cutoff, with trained wave numbers that start at n π (DimeNet, Eq. 7).

    Args:
        n_radial: number of functions.
        cutoff_ang: distance at which they vanish, Å.
    """

    def __init__(self, n_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        self.wave_numbers = nn.Parameter(pi * torch.arange(1, n_radial + 1))

    def forward(self, distances: Tensor) -> Tensor:
        """``[n]``, Å -> ``[n, n_radial]``."""
        x = distances.unsqueeze(-1) / self.cutoff_ang
        return envelope(x) * torch.sin(self.wave_numbers * x) / x


class GaussianBasis(nn.Module):
    """u(x) exp(-(x - x_n)² / 2 δ²) with centres x_n from 0 to 1, δ apart: the published GemNet-dT of CDVAE.

    Args:
        n_radial: number of functions, at least 2.
        cutoff_ang: distance at which they vanish, Å.
    """

    def __init__(self, n_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(0.0, 1.0, n_radial))

    def forward(self, distances: Tensor) -> Tensor:
        """``[n]``, Å -> ``[n, n_radial]``."""
        x = distances.unsqueeze(-1) / self.cutoff_ang
        steps = (x - self.centres) * (len(self.centres) - 1)
        return envelope(x, exponent=5) * torch.exp(-0.5 * steps * steps)


class SphericalBesselBasis(nn.Module):
    """u(x) sqrt(2) j_l(z_ln x) / |j_l+1(z_ln)|, z_ln the n-th root of j_l: the radial part of DimeNet's Eq. 6.

    They depend on data only and are evaluated by SciPy in float64: the recursion in l that network codes use loses
    all digits at short distances.

    Args:
        n_degrees: degrees l = 0, 1, ….
        n_radial: number of functions of each degree.
        cutoff_ang: distance at which they vanish, Å.
    """

    def __init__(self, n_degrees: int, n_radial: int, cutoff_ang: float) -> None:
        super().__init__()
        self.cutoff_ang = cutoff_ang
        self._roots = spherical_bessel_roots(n_degrees, n_radial)
        degrees = np.arange(n_degrees)[:, None]
        self._norms = np.sqrt(2.0) / np.abs(spherical_jn(degrees + 1, self._roots))

    def forward(self, distances: Tensor) -> Tensor:
        """``[n]``, Å -> ``[n, n_degrees, n_radial]``."""
        x = distances.detach().double().cpu().numpy() / self.cutoff_ang
        degrees = np.arange(len(self._roots))[:, None]
        values = torch.from_numpy(self._norms * spherical_jn(degrees, self._roots * x[:, None, None]))
        return values.to(distances) * envelope(distances / self.cutoff_ang)[:, None, None]


def spherical_bessel_roots(n_degrees: int, n_roots: int) -> np.ndarray:
    """The first positive roots of the spherical Bessel functions of degree 0, 1, …, ``[n_degrees, n_roots]``."""
    roots = pi * np.arange(1, n_roots + n_degrees)
    found = [roots[:n_roots]]
    for degree in range(1, n_degrees):  # the roots of degree l lie between those of l - 1
        between = pairwise(roots)
        roots = np.array([brentq(lambda z, n=degree: float(spherical_jn(n, z)), low, high) for low, high in between])
        found.append(roots[:n_roots])
    return np.array(found)
