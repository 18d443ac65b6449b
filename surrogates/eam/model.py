"""Embedded-atom and angular-dependent models: Eqs. 1 to 6 of Chen et al. (2021), with forces in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..potentials.graph import Batch
from ..potentials.model import PotentialModel
from .functions import Curve
from .radial import AngularFunctions, Embedding, RadialFunctions, type_pairs

_ROW = (0, 1, 2, 1, 0, 0)  # components xx, yy, zz, yz, xz, xy of a symmetric tensor
_COLUMN = (0, 1, 2, 2, 2, 1)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a batch, grouped by pair of species.

    Attributes:
        first, second: atoms of each pair; ``vectors`` run from the first to the second.
        low, high: the same atoms, that of the lower species first.
        order: place of each pair in the batch; ``None`` where they are in the batch's order.
        counts: number of pairs in each group.
    """

    first: Tensor
    second: Tensor
    low: Tensor
    high: Tensor
    vectors: Tensor
    order: Tensor | None
    counts: list[int]


class EamModel(PotentialModel):
    """An EAM model, or an ADP model where it has angular functions; its parts hold the parameters.

    Args:
        elements: chemical symbols of the species, in order.
        cutoff_ang: pairs further apart do not interact, Å.
        radial: densities and pair functions.
        embedding: embedding functions.
        angular: dipole and quadrupole functions, or none.
        settings: facts from which an equal model without its parameters can be built.
    """

    _group_of_types: Tensor

    def __init__(
        self,
        elements: tuple[str, ...],
        cutoff_ang: float,
        radial: RadialFunctions,
        embedding: Embedding,
        angular: AngularFunctions | None,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__(elements, cutoff_ang)
        self.radial = radial
        self.embedding = embedding
        self.angular = angular
        self._settings = dict(settings)
        n = len(elements)
        group = torch.zeros(n, n, dtype=torch.int64)
        for k, (a, b) in enumerate(type_pairs(n)):
            group[a, b] = group[b, a] = k
        self.register_buffer("_group_of_types", group.reshape(-1), persistent=False)

    def settings(self) -> Mapping[str, Any]:
        """See :meth:`~alloysmith.surrogates.potentials.model.PotentialModel.settings`."""
        return self._settings

    def energies(self, batch: Batch) -> Tensor:
        """Energy of each structure, ``[n_frames]``, eV; differentiable to any order in vectors and parameters."""
        pairs = self._pairs(batch)
        distances = _lengths(pairs.vectors)
        energies, _, _ = self._central(batch, pairs, distances)
        if self.angular is not None:
            dipole, quadrupole = self.angular(distances, pairs.counts)
            moments = _moments(len(batch.types), pairs, dipole[0], quadrupole[0])
            energies = energies.index_add(0, batch.frame_of_atom, _angular_energy(moments))
        return energies

    def densities(self, batch: Batch) -> Tensor:
        """ρ of each atom (Eq. 2), ``[n_atoms]``."""
        pairs = self._pairs(batch)
        curves = self.radial(_lengths(pairs.vectors), pairs.counts)
        return _sums(len(batch.types), pairs, curves.density_low[0], curves.density_high[0])

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Energies ``[n_frames]`` and the energy's derivative by each pair vector, ``[n_pairs, 3]``, in closed form.

        No automatic derivative is taken, so a loss in both needs a single backward pass.
        """
        pairs = self._pairs(batch)
        distances = _lengths(pairs.vectors)
        energies, slopes, _ = self._central(batch, pairs, distances)
        per_length = slopes / distances
        if self.angular is None:
            by_vector = per_length[:, None] * pairs.vectors
        else:
            dipole, quadrupole = self.angular(distances, pairs.counts)
            moments = _moments(len(batch.types), pairs, dipole[0], quadrupole[0])
            energies = energies.index_add(0, batch.frame_of_atom, _angular_energy(moments))
            by_vector = _angular_slopes(pairs, distances, moments, dipole, quadrupole, per_length)
        if pairs.order is not None:
            by_vector = torch.zeros_like(by_vector).index_copy(0, pairs.order, by_vector)
        return energies, by_vector

    def _central(self, batch: Batch, pairs: _Pairs, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies without angular terms, their derivatives by the distances of pairs, and densities."""
        curves = self.radial(distances, pairs.counts)
        (low, low_slope), (high, high_slope), (pair, pair_slope) = curves.density_low, curves.density_high, curves.pair
        densities = _sums(len(batch.types), pairs, low, high)
        embedding, embedding_slope = self.embedding(densities, batch.types)
        energies = torch.zeros(batch.n_frames, dtype=pair.dtype, device=pair.device)
        energies = energies.scatter_add(0, batch.frame_of_atom, embedding)
        frames = batch.frame_of_atom.index_select(0, pairs.first)
        energies = energies.scatter_add(0, frames, pair)
        at_low = embedding_slope.index_select(0, pairs.low)
        at_high = embedding_slope.index_select(0, pairs.high)
        if low_slope is high_slope:
            return energies, (at_low + at_high) * low_slope + pair_slope, densities
        return energies, at_low * high_slope + at_high * low_slope + pair_slope, densities

    def _pairs(self, batch: Batch) -> _Pairs:
        first, second = batch.first, batch.second
        if len(self.elements) == 1:
            return _Pairs(first, second, first, second, batch.vectors, None, [len(first)])
        first_type, second_type = batch.types.index_select(0, first), batch.types.index_select(0, second)
        group = self._group_of_types.index_select(0, first_type * len(self.elements) + second_type)
        n_groups = len(type_pairs(len(self.elements)))
        members = [torch.nonzero(group == k).squeeze(1) for k in range(n_groups)]
        order = torch.cat(members)
        is_swapped = first_type > second_type
        return _Pairs(
            first.index_select(0, order),
            second.index_select(0, order),
            torch.where(is_swapped, second, first).index_select(0, order),
            torch.where(is_swapped, first, second).index_select(0, order),
            batch.vectors.index_select(0, order),
            order,
            [len(m) for m in members],
        )


def _lengths(vectors: Tensor) -> Tensor:
    return vectors.square().sum(1).sqrt()


def _sums(n_atoms: int, pairs: _Pairs, low: Tensor, high: Tensor) -> Tensor:
    """Densities at atoms: each gets what its neighbour's species makes."""
    densities = torch.zeros(n_atoms, dtype=low.dtype, device=low.device)
    return densities.scatter_add(0, pairs.low, high).scatter_add(0, pairs.high, low)


def _moments(n_atoms: int, pairs: _Pairs, u: Tensor, w: Tensor) -> Tensor:
    """μ (Eq. 4) and the six components of λ (Eq. 5) of each atom, ``[n_atoms, 9]``."""
    v = pairs.vectors
    dipole = u[:, None] * v
    quadrupole = w[:, None] * (v[:, _ROW] * v[:, _COLUMN])
    moments = torch.zeros(n_atoms, 9, dtype=v.dtype, device=v.device)
    moments = moments.index_add(0, pairs.first, torch.cat([dipole, quadrupole], 1))
    return moments.index_add(0, pairs.second, torch.cat([-dipole, quadrupole], 1))


def _angular_energy(moments: Tensor) -> Tensor:
    """The angular part of Eq. 3 for each atom, eV."""
    squares = moments.square()
    trace = moments[:, 3:6].sum(1)
    return 0.5 * squares[:, :6].sum(1) + squares[:, 6:].sum(1) - trace.square() / 6.0


def _angular_slopes(
    pairs: _Pairs, distances: Tensor, moments: Tensor, dipole: Curve, quadrupole: Curve, per_length: Tensor
) -> Tensor:
    """Derivative of the energy by each pair vector v.

    With Δμ = μ_i - μ_j and S = Λ_i + Λ_j, where Λ is λ without a third of its trace on the diagonal (twice its
    deviator's weight on the trace, from the last term of Eq. 3):
    u Δμ + 2 w S v + (u' Δμ·v + w' v·S·v + central slope) v / r.
    """
    trace = moments[:, 3:6].sum(1, keepdim=True) / 3.0
    fields = torch.cat([moments[:, :3], moments[:, 3:6] - trace, moments[:, 6:]], 1)
    at_first, at_second = fields.index_select(0, pairs.first), fields.index_select(0, pairs.second)
    mu = at_first[:, :3] - at_second[:, :3]
    xx, yy, zz, yz, xz, xy = (at_first[:, 3:] + at_second[:, 3:]).unbind(1)
    v = pairs.vectors
    x, y, z = v.unbind(1)
    sv = torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], 1)
    (u, u_slope), (w, w_slope) = dipole, quadrupole
    along = (u_slope * (mu * v).sum(1) + w_slope * (sv * v).sum(1)) / distances + per_length
    return u[:, None] * mu + (2.0 * w)[:, None] * sv + along[:, None] * v
