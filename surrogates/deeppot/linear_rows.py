"""What each parameter of the fitting networks' last layers adds to energies and their slopes.

An energy is linear in these parameters, ``E = sum_k w_k h_k + b`` with the last hidden layer h, and so are forces and
virials. The rows of these linear maps are what a least-squares solution needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..potentials.graph import Batch
from ..potentials.model import LinearRows
from .environment import weighted_inverse
from .neighbours import neighbours

if TYPE_CHECKING:
    from .model import DeepPotModel


def linear_parameters(n_species: int) -> tuple[str, ...]:
    """Names of the parameters of the last layers, in the order of the columns."""
    names = ("output_weight", "output_bias")
    return tuple(f"fittings.{a}.{name}" for a in range(n_species) for name in names)


@torch.no_grad()
def linear_rows(model: DeepPotModel, batch: Batch) -> LinearRows:
    """Rows of the species that occur in a batch."""
    n_species, n_pairs, n_frames = len(model.elements), len(batch.first), batch.n_frames
    near = neighbours(batch, n_species)
    edges = model.edges(batch)
    present = [a for a in range(n_species) if len(near.atoms[a])]
    width = model.architecture.fitting[-1] + 1
    energies = batch.vectors.new_zeros(n_frames, len(present), width)
    slopes = batch.vectors.new_zeros(n_pairs, 3, len(present), width)
    spread = _Spread(model, batch)
    for k, a in enumerate(present):
        moments, blocks = model.moments_and_blocks(a, edges, near)
        hidden, by_moments = model.hidden_and_moment_slopes(a, moments)
        frames = batch.frame_of_atom[near.atoms[a]]
        energies[:, k, :-1].index_add_(0, frames, hidden)
        energies[:, k, -1].index_add_(0, frames, torch.ones_like(hidden[:, 0]))
        by_moments = by_moments.permute(0, 3, 1, 2).flatten(2)  # [n_a, n_columns, n_hidden * 4]
        for block, (rows, values, by_s) in zip(near.blocks[a], blocks, strict=True):
            chosen = block.edges
            if not chosen.numel():
                continue
            shape = (*rows.shape[:2], width - 1, 4)
            by_rows = torch.bmm(values, by_moments).reshape(shape)
            through_s = torch.bmm(by_s, by_moments).reshape(shape)
            by_rows[..., 0] += torch.matmul(through_s, rows.unsqueeze(-1)).squeeze(-1)
            pairs, by_vector = spread(chosen.reshape(-1), by_rows.flatten(0, 1) / model.row_deviations(a))
            slopes[:, :, k, :-1].index_add_(0, pairs, by_vector)
    columns = torch.cat([torch.arange(a * width, (a + 1) * width) for a in present])
    return LinearRows(columns, energies.flatten(1), slopes.flatten(2))


class _Spread:
    """From derivatives by rows of the environment matrix, seen from one atom, to derivatives by pair vectors."""

    def __init__(self, model: DeepPotModel, batch: Batch) -> None:
        distances = torch.linalg.vector_norm(batch.vectors, dim=1)
        s, slope = weighted_inverse(distances, model.architecture.switch_ang, model.cutoff_ang)
        self._units = batch.vectors / distances[:, None]
        self._per_distance = s / distances
        self._slope = slope

    def __call__(self, edges: Tensor, by_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs ``[n]`` and derivatives ``[n, 3, n_hidden]`` of edges ``[n_edges]`` that are not empty places.

        Args:
            edges: see :class:`~.neighbours.Neighbours`.
            by_rows: ``[n_edges, n_hidden, 4]``.
        """
        n_pairs = len(self._slope)
        is_real = edges < 2 * n_pairs
        edges, by_rows = edges[is_real], by_rows[is_real]
        pairs = edges % n_pairs
        sign = torch.where(edges >= n_pairs, -1.0, 1.0).to(by_rows.dtype)
        units, per_distance, slope = self._units[pairs], self._per_distance[pairs], self._slope[pairs]
        across = by_rows[..., 1:] * sign[:, None, None]
        along = torch.matmul(across, units.unsqueeze(-1)).squeeze(-1)
        by_distance = by_rows[..., 0] * slope[:, None] + along * (slope - per_distance)[:, None]
        return pairs, by_distance[:, None, :] * units[:, :, None] + per_distance[:, None, None] * across.mT
