"""Embedded-atom and angular-dependent models: Eqs. 1 to 6 of Chen et al. (2021), with forces in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..potentials.graph import Batch
from ..potentials.model import OutputSlopes, PotentialModel
from .coefficient_slopes import coefficient_slopes
from .functions import Curve
from .radial import AngularFunctions, Embedding, RadialFunctions, type_pairs
from .splines import SplineAngular, SplineEmbedding, SplineRadial


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
        energies, _ = self._central(batch, pairs, distances, is_first_order=False)
        if self.angular is not None:
            dipole, quadrupole = self.angular(distances, pairs.counts)
            terms = _AngularTerms(len(batch.types), pairs, dipole[0], quadrupole[0])
            energies = energies.scatter_add(0, batch.frame_of_atom, terms.energy())
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
        is_first_order = not (distances.requires_grad or self.is_composable)
        energies, slopes = self._central(batch, pairs, distances, is_first_order=is_first_order)
        if self.angular is None:
            by_vector = (slopes / distances)[:, None] * pairs.vectors
        else:
            dipole, quadrupole = self.angular(distances, pairs.counts)
            terms = _AngularTerms(len(batch.types), pairs, dipole[0], quadrupole[0])
            energies = energies.scatter_add(0, batch.frame_of_atom, terms.energy())
            by_vector = terms.slopes(distances, dipole, quadrupole, slopes)
        if pairs.order is not None:
            by_vector = torch.zeros_like(by_vector).index_copy(0, pairs.order, by_vector)
        return energies, by_vector

    def output_slopes(self, batch: Batch, *, with_virials: bool) -> Iterator[OutputSlopes] | None:
        """Derivatives by the coefficients, where all functions are splines; ``None`` where some are not."""
        radial, embedding, angular = self.radial, self.embedding, self.angular
        if not isinstance(radial, SplineRadial) or not isinstance(embedding, SplineEmbedding):
            return None
        if not isinstance(angular, SplineAngular | None):
            return None
        return coefficient_slopes(batch, radial, embedding, angular, with_virials=with_virials)

    def linear_together(self) -> Tensor | None:
        """Pair and embedding functions of splines: while densities stay, energies are linear in them."""
        radial, embedding = self.radial, self.embedding
        if not isinstance(radial, SplineRadial) or not isinstance(embedding, SplineEmbedding):
            return None
        of_radial, of_embedding = radial.splines.coefficients, embedding.splines.coefficients
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        mask = torch.zeros(n_parameters, dtype=torch.bool, device=of_radial.device)
        mask[: len(radial.pairs) * of_radial.shape[1]] = True  # their rows come before those of densities
        mask[of_radial.numel() : of_radial.numel() + of_embedding.numel()] = True
        return mask

    def _central(
        self, batch: Batch, pairs: _Pairs, distances: Tensor, *, is_first_order: bool
    ) -> tuple[Tensor, Tensor]:
        """Energies without angular terms and their derivatives by the distances of pairs."""
        curves = self.radial(distances, pairs.counts, is_first_order=is_first_order)
        (low, low_slope), (high, high_slope), (pair, pair_slope) = curves.density_low, curves.density_high, curves.pair
        densities = _sums(len(batch.types), pairs, low, high)
        embedding, embedding_slope = self.embedding(densities, batch.types)
        # the pairs' energies go to atoms first: sums over few frames are slow
        per_atom = embedding.scatter_add(0, pairs.first, pair)
        energies = torch.zeros(batch.n_frames, dtype=pair.dtype, device=pair.device)
        energies = energies.scatter_add(0, batch.frame_of_atom, per_atom)
        at_low = embedding_slope.index_select(0, pairs.low)
        at_high = embedding_slope.index_select(0, pairs.high)
        if low_slope is high_slope:
            return energies, (at_low + at_high) * low_slope + pair_slope
        return energies, at_low * high_slope + at_high * low_slope + pair_slope

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
    x, y, z = vectors.unbind(1)
    return (x * x + y * y + z * z).sqrt()


def _sums(n_atoms: int, pairs: _Pairs, low: Tensor, high: Tensor) -> Tensor:
    """Densities at atoms: each gets what its neighbour's species makes."""
    densities = torch.zeros(n_atoms, dtype=low.dtype, device=low.device)
    return densities.scatter_add(0, pairs.low, high).scatter_add(0, pairs.high, low)


class _AngularTerms:
    """The angular part of Eq. 3 with its derivative; tensors of one component each are contiguous, which is faster.

    Attributes:
        mu: the components of Eq. 4 at each atom, three of ``[n_atoms]``.
        quadrupole: the components xx, yy, zz, yz, xz, xy of Eq. 5, six of ``[n_atoms]``.
    """

    def __init__(self, n_atoms: int, pairs: _Pairs, u: Tensor, w: Tensor) -> None:
        self._pairs = pairs
        x, y, z = self._vector = pairs.vectors.T.contiguous().unbind(0)
        wx, wy, wz = w * x, w * y, w * z

        def at(atoms: Tensor, values: Tensor) -> Tensor:
            return torch.zeros(n_atoms, dtype=values.dtype, device=values.device).scatter_add(0, atoms, values)

        self.mu = [at(pairs.first, m) - at(pairs.second, m) for m in (u * x, u * y, u * z)]
        products = (wx * x, wy * y, wz * z, wy * z, wx * z, wx * y)
        self.quadrupole = [at(pairs.first, q) + at(pairs.second, q) for q in products]

    def energy(self) -> Tensor:
        """Energy of each atom, ``[n_atoms]``, eV."""
        xx, yy, zz, yz, xz, xy = self.quadrupole
        trace = xx + yy + zz
        squares = sum((c * c for c in (*self.mu, xx, yy, zz)), start=torch.zeros_like(xx))
        return 0.5 * squares + yz * yz + xz * xz + xy * xy - trace * trace / 6.0

    def slopes(self, distances: Tensor, dipole: Curve, quadrupole: Curve, central: Tensor) -> Tensor:
        """Derivative of the energy by each pair vector v, ``[n_pairs, 3]``, eV/Å.

        With Δμ = μ_i - μ_j and S = Λ_i + Λ_j, where Λ is λ less a third of its trace on the diagonal:
        u Δμ + 2 w S v + (u' Δμ·v + w' v·S·v + central slope) v / r.
        """
        first, second = self._pairs.first, self._pairs.second
        xx, yy, zz, yz, xz, xy = self.quadrupole
        third = (xx + yy + zz) / 3.0
        deviator = (xx - third, yy - third, zz - third, yz, xz, xy)
        m_x, m_y, m_z = (m.index_select(0, first) - m.index_select(0, second) for m in self.mu)
        s_xx, s_yy, s_zz, s_yz, s_xz, s_xy = (s.index_select(0, first) + s.index_select(0, second) for s in deviator)
        x, y, z = self._vector
        t_x = s_xx * x + s_xy * y + s_xz * z
        t_y = s_xy * x + s_yy * y + s_yz * z
        t_z = s_xz * x + s_yz * y + s_zz * z
        (u, u_slope), (w, w_slope) = dipole, quadrupole
        along = u_slope * (m_x * x + m_y * y + m_z * z) + w_slope * (t_x * x + t_y * y + t_z * z) + central
        along = along / distances
        twice = 2.0 * w
        parts = ((m_x, t_x, x), (m_y, t_y, y), (m_z, t_z, z))
        return torch.stack([u * m + twice * t + along * v for m, t, v in parts], 1)
