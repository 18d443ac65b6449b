"""Sums over triplets without triplets.

Messages along two edges into one atom meet under an angle φ, and both networks see it through Legendre polynomials
P_l(cos φ) alone. By the addition theorem P_l(u·v) is the scalar product of 2l + 1 real harmonics of u and of v, so a
sum over all pairs of edges,

    S_f = Σ_{g ≠ f, into the same atom} P_l(u_f · u_g) x_g,

is a sum over the edges g and a scalar product with the harmonics of f. The cost grows with the number of edges, not
with that of triplets, and the numbers are the same. On ideal lattices nothing is singular, because no angle is taken.
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

from .graph import Edges


def harmonics(directions: Tensor, n_degrees: int) -> Tensor:
    """Real spherical harmonics of unit vectors ``[n, 3]``, ``[n, n_degrees²]``.

    Columns l² to (l + 1)² have the degree l; their scalar product for two vectors is P_l of the angle's cosine.
    """
    x, y, z = directions.unbind(-1)
    columns: list[Tensor] = [x] * n_degrees**2
    real, imaginary = torch.ones_like(z), torch.zeros_like(z)  # of (x + iy)^m
    for m in range(n_degrees):
        # d^m P_l / dz^m, by the three-term recursion in l
        before, now = torch.zeros_like(z), torch.full_like(z, factorial(2 * m) / (2.0**m * factorial(m)))
        for degree in range(m, n_degrees):
            if degree > m:
                before, now = now, ((2 * degree - 1) * z * now - (degree + m - 1) * before) / (degree - m)
            norm = ((1.0 if m == 0 else 2.0) * factorial(degree - m) / factorial(degree + m)) ** 0.5
            middle = degree * (degree + 1)
            columns[middle + m] = norm * real * now
            if m:
                columns[middle - m] = norm * imaginary * now
        real, imaginary = x * real - y * imaginary, x * imaginary + y * real
    return torch.stack(columns, -1)


def angular_sums(x: Tensor, padded_harmonics: Tensor, edges: Edges) -> Tensor:
    """For each edge f and degree l the sum of P_l(u_f · u_g) x_g over the other edges g into the same atom.

    Args:
        x: ``[n_edges, n_channels]``.
        padded_harmonics: ``[n_atoms, width, n_degrees²]``.
        edges: the edges.

    Returns:
        ``[n_edges, n_degrees, n_channels]``.
    """
    n_degrees = round(padded_harmonics.shape[-1] ** 0.5)
    moments = padded_harmonics.transpose(1, 2) @ edges.padded(x)
    of_degree = [
        padded_harmonics[..., degree**2 : (degree + 1) ** 2] @ moments[:, degree**2 : (degree + 1) ** 2]
        for degree in range(n_degrees)
    ]
    return edges.flat(torch.stack(of_degree, 2)) - x.unsqueeze(1)


def angular_sum(x: Tensor, padded_harmonics: Tensor, edges: Edges) -> Tensor:
    """For each edge f the sum of P_l(u_f · u_g) x_gl over degrees l and the other edges g into the same atom.

    Args:
        x: ``[n_edges, n_degrees, n_channels]``.
        padded_harmonics: ``[n_atoms, width, n_degrees²]``.
        edges: the edges.

    Returns:
        ``[n_edges, n_channels]``.
    """
    by_target = edges.padded(x)
    moments = [
        padded_harmonics[..., degree**2 : (degree + 1) ** 2].transpose(1, 2) @ by_target[:, :, degree]
        for degree in range(x.shape[1])
    ]
    return edges.flat(padded_harmonics @ torch.cat(moments, 1)) - x.sum(1)
