"""Environment matrix of DeepPot-SE: ``(s, s x / r, s y / r, s z / r)`` of each neighbour, with ``s = w(r) / r``.

``w`` goes from 1 at the inner cutoff to 0 at the outer one by ``u^3 (-6 u^2 + 15 u - 10) + 1``, with two continuous
derivatives (Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model", NeurIPS 2018, in the
form of DeePMD-kit 2 and 3).
"""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_inverse(distances: Tensor, inner_ang: float, cutoff_ang: float) -> tuple[Tensor, Tensor]:
    """``s = w(r) / r`` and its derivative by the distance, both of the shape of ``distances`` (Å)."""
    u = ((distances - inner_ang) / (cutoff_ang - inner_ang)).clamp(0.0, 1.0)
    weight = u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0
    slope = -30.0 * u**2 * (u - 1.0) ** 2 / (cutoff_ang - inner_ang)
    s = weight / distances
    return s, (slope - s) / distances


def environment(vectors: Tensor, inner_ang: float, cutoff_ang: float) -> Tensor:
    """Rows of the environment matrix, ``[n_pairs, 4]``, of pairs with ``vectors`` ``[n_pairs, 3]``, Å."""
    distances = torch.linalg.vector_norm(vectors, dim=1)
    s, _ = weighted_inverse(distances, inner_ang, cutoff_ang)
    return torch.cat([s[:, None], (s / distances)[:, None] * vectors], 1)


def slopes_by_vector(vectors: Tensor, by_row: Tensor, inner_ang: float, cutoff_ang: float) -> Tensor:
    """Derivatives by the vectors, ``[n_pairs, 3]``, from derivatives by the rows of the matrix, ``[n_pairs, 4]``."""
    distances = torch.linalg.vector_norm(vectors, dim=1)
    s, slope = weighted_inverse(distances, inner_ang, cutoff_ang)
    units = vectors / distances[:, None]
    along = (by_row[:, 1:] * units).sum(1)
    by_distance = by_row[:, 0] * slope + along * (slope - s / distances)
    return by_distance[:, None] * units + (s / distances)[:, None] * by_row[:, 1:]
