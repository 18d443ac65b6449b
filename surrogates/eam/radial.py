"""What the parts of an embedded-atom model are: densities and pair functions, angular functions, embedding functions.

Pairs of atoms come grouped by their pair of species, so that each function is evaluated with its own parameters
on one contiguous piece, and nothing is gathered where there is one species.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .functions import Curve


def type_pairs(n_elements: int) -> list[tuple[int, int]]:
    """All pairs (a, b) of species with a ≤ b, in the order in which pairs of atoms are grouped."""
    return [(a, b) for a in range(n_elements) for b in range(a, n_elements)]


@dataclass(frozen=True)
class PairCurves:
    """Functions of the distance of each pair, ``[n_pairs]``, with derivatives.

    Attributes:
        density_low: density that an atom of the pair's lower species makes at its neighbour, Eq. 2.
        density_high: the same of the higher species; the same object where they are of one.
        pair: pair energy φ, eV.
    """

    density_low: Curve
    density_high: Curve
    pair: Curve

    @staticmethod
    def joined(groups: Sequence[PairCurves]) -> PairCurves:
        """The groups of one batch laid end to end."""
        if len(groups) == 1:
            return groups[0]
        low, high, pair = (
            (torch.cat([c[0] for c in curves]), torch.cat([c[1] for c in curves]))
            for curves in (
                [g.density_low for g in groups],
                [g.density_high for g in groups],
                [g.pair for g in groups],
            )
        )
        return PairCurves(low, high, pair)


class RadialFunctions(nn.Module, ABC):
    """Densities and pair functions of all species."""

    @abstractmethod
    def forward(self, distances: Tensor, counts: Sequence[int], *, is_first_order: bool = False) -> PairCurves:
        """Evaluate at distances ``[n_pairs]``, Å, of which the first ``counts[0]`` are of the first type pair, ….

        ``is_first_order`` promises that the result is differentiated once at most, and by the parameters only.
        Distances are expected to be below the cutoff: there, not beyond, functions may be cut off.
        """


class AngularFunctions(nn.Module, ABC):
    """Dipole and quadrupole functions of all pairs of species."""

    @abstractmethod
    def forward(self, distances: Tensor, counts: Sequence[int]) -> tuple[Curve, Curve]:
        """u, of which Eq. 4 is made, and w of Eq. 5; arguments as in :meth:`RadialFunctions.forward`."""


class Embedding(nn.Module, ABC):
    """Embedding functions of all species."""

    @abstractmethod
    def forward(self, density: Tensor, types: Tensor) -> Curve:
        """F of Eq. 1, eV, and its derivative, at densities ``[n_atoms]`` of atoms of species ``types``."""

    @abstractmethod
    def typical_densities(self) -> list[float]:
        """A density of each species near that of its crystal, which sets the scale of tables."""
