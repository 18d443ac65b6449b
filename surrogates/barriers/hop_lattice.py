"""The lattice sites about a hop, in an order that is the same for every hop, and the symmetry they have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations, product

import numpy as np

from ...structures.base import Phase

_HOP = {"bcc": (1, 1, 1), "fcc": (1, 1, 0)}
"""The hop that all others are turned to, in halves of the cubic vectors, from the vacancy to the moving atom."""


@dataclass(frozen=True, eq=False)
class HopLattice:
    """Sites within a number of neighbour shells of the vacancy or of the moving atom.

    Attributes:
        phase: ``"fcc"`` or ``"bcc"``.
        n_shells: neighbour shells about either end of the hop.
    """

    phase: Phase
    n_shells: int

    @cached_property
    def hop(self) -> np.ndarray:
        """int64 ``[3]``, from the vacancy to the moving atom, halves of the cubic vectors."""
        return np.array(_HOP[self.phase], dtype=np.int64)

    @cached_property
    def sites(self) -> np.ndarray:
        """int64 ``[n_sites, 3]``, seen from the vacancy, nearest to the middle of the hop first; without both ends."""
        reach = 2 + self.n_shells
        steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        is_site = (steps % 2 == steps[:, :1] % 2).all(axis=1) if self.phase == "bcc" else steps.sum(axis=1) % 2 == 0
        steps = steps[is_site]
        squared = (steps**2).sum(axis=1)
        limit = np.unique(squared)[self.n_shells]
        near = (squared <= limit) | (((steps - self.hop) ** 2).sum(axis=1) <= limit)
        near &= (squared > 0) & (steps != self.hop).any(axis=1)
        found = steps[near]
        from_middle = ((2 * found - self.hop) ** 2).sum(axis=1)
        return found[np.lexsort((*found.T[::-1], (found**2).sum(axis=1), from_middle))]

    @cached_property
    def directions(self) -> np.ndarray:
        """int64 ``[8 or 12, 3]``: the hops there are."""
        return np.unique(_cube_rotations() @ self.hop, axis=0)

    @cached_property
    def turns(self) -> np.ndarray:
        """int64 ``[n_directions, 3, 3]``: a rotation (or reflection) that takes the hop to each direction."""
        turned = _cube_rotations() @ self.hop
        first = [np.flatnonzero((turned == direction).all(axis=1))[0] for direction in self.directions]
        return _cube_rotations()[first]

    @cached_property
    def images(self) -> np.ndarray:
        """int64 ``[n_directions, n_sites, 3]``: the sites turned so that the hop goes along each direction."""
        return self.sites @ np.swapaxes(self.turns, 1, 2)

    @cached_property
    def operations(self) -> np.ndarray:
        """int64 ``[6 or 4, n_sites]``: permutations of the sites by the rotations that keep the hop."""
        rotations = _cube_rotations()
        keep = rotations[((rotations @ self.hop) == self.hop).all(axis=1)]
        return self._permutations(self.sites @ np.swapaxes(keep, 1, 2))

    @cached_property
    def saddle_operations(self) -> np.ndarray:
        """int64 ``[12 or 8, n_sites]``: those, and the rotations that exchange the two ends."""
        rotations = _cube_rotations()
        turn = rotations[((rotations @ self.hop) == -self.hop).all(axis=1)]
        exchanged = self._permutations(self.sites @ np.swapaxes(turn, 1, 2) + self.hop)
        return np.concatenate([self.operations, exchanged])

    @cached_property
    def orbits(self) -> np.ndarray:
        """int64 ``[n_sites]``: number of the set of equivalent sites that each belongs to."""
        return _orbits(self.operations)

    @cached_property
    def saddle_orbits(self) -> np.ndarray:
        """int64 ``[n_sites]``: the same at the saddle, where both ends are alike."""
        return _orbits(self.saddle_operations)

    @cached_property
    def shells(self) -> np.ndarray:
        """int64 ``[n_sites]``: neighbour shell about the vacancy from 0; ``n_shells`` for sites further away."""
        squared = (self.sites**2).sum(axis=1)
        limits = np.unique(squared)[: self.n_shells]
        return np.searchsorted(limits, squared)

    def _permutations(self, images: np.ndarray) -> np.ndarray:
        index = {tuple(site): k for k, site in enumerate(self.sites.tolist())}
        return np.array([[index[tuple(site)] for site in image] for image in images.tolist()])


@lru_cache(maxsize=32)
def hop_lattice(phase: Phase, n_shells: int) -> HopLattice:
    """The hop lattice of these settings; the same object each time, so that its tables are made once."""
    return HopLattice(phase, n_shells)


@lru_cache(maxsize=1)
def _cube_rotations() -> np.ndarray:
    """The 48 rotations and reflections of the cube, int64 ``[48, 3, 3]``."""
    signs = np.array(list(product((1, -1), repeat=3)))
    orders = np.eye(3, dtype=np.int64)[np.array(list(permutations(range(3))))]
    return np.asarray((signs[:, None, :, None] * orders[None]).reshape(-1, 3, 3))


def _orbits(operations: np.ndarray) -> np.ndarray:
    """Numbers of the orbits in the order of their first sites."""
    first = operations.min(axis=0)
    return np.unique(first, return_inverse=True)[1]
