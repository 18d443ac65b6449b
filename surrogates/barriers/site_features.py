"""Numbers that describe the species on the sites about hops: one-hot sites, counts, counts of pairs.

One-hot sites are the description of Fan, Xing and Cao's baselines (2022, "length scale of local
configurations"). Counts take the symmetry of the hop out: sites that a rotation about the hop carries into each
other count together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

from .hop_lattice import HopLattice
from .hops import Occupations

FeatureKind = Literal["sites", "counts", "pairs"]
"""What describes a hop: each site by itself (`sites`), counts of species on equivalent sites (`counts`), or those and
counts of neighbouring pairs of species on equivalent pairs of sites (`pairs`)."""


def site_features(kind: FeatureKind, found: Occupations, lattice: HopLattice, n_elements: int) -> np.ndarray:
    """Float32 ``[n_hops, n_features]``; the moving species, one-hot, stands first.

    Counts and pairs come with the composition of the crystal, which tells of what is further away: its mean, and the
    lattice constant.
    """
    describe: Callable[[np.ndarray, HopLattice, int], np.ndarray]
    describe = {"sites": _one_hot, "counts": _counts, "pairs": _counts_and_pairs}[kind]
    moving = np.eye(n_elements, dtype=np.float32)[np.maximum(found.moving, 0)] * (found.moving >= 0)[:, None]
    far = [] if kind == "sites" else [found.composition]
    return np.concatenate([moving, *far, describe(found.sites, lattice, n_elements)], axis=1)


def _one_hot(sites: np.ndarray, lattice: HopLattice, n_elements: int) -> np.ndarray:
    """``[n_hops, n_sites × n_elements]``."""
    return (
        (sites[:, :, None] == np.arange(n_elements)).reshape(len(sites), sites.shape[1] * n_elements).astype(np.float32)
    )


def _counts(sites: np.ndarray, lattice: HopLattice, n_elements: int) -> np.ndarray:
    """``[n_hops, n_orbits × n_elements]``."""
    from .site_kernels import count_species

    counts = np.zeros((len(sites), (int(lattice.orbits.max()) + 1) * n_elements), dtype=np.float32)
    count_species(sites, lattice.orbits, n_elements, counts)
    return counts


def _counts_and_pairs(sites: np.ndarray, lattice: HopLattice, n_elements: int) -> np.ndarray:
    """Counts, and ``[n_hops, n_pair_orbits × n_elements (n_elements + 1) / 2]`` counts of pairs."""
    from .site_kernels import count_pairs

    first, second, orbits = pair_orbits(lattice)
    n_orbits = int(orbits.max()) + 1
    columns = np.zeros((n_elements, n_elements), dtype=np.int64)
    a, b = np.triu_indices(n_elements)
    columns[a, b] = columns[b, a] = n_orbits * np.arange(len(a))
    pairs = np.zeros((len(sites), n_orbits * len(a)), dtype=np.float32)
    count_pairs(sites, first, second, orbits, columns, pairs)
    return np.concatenate([_counts(sites, lattice, n_elements), pairs], axis=1)


@lru_cache(maxsize=32)
def pair_orbits(lattice: HopLattice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of first or second neighbours among the sites: their sites, and the number of their set of equivalents."""
    first, second = neighbour_pairs(lattice)
    turned = np.sort(np.stack([lattice.operations[:, first], lattice.operations[:, second]]), axis=0)
    keys = (turned[0] * len(lattice.sites) + turned[1]).min(axis=0)
    return first, second, np.unique(keys, return_inverse=True)[1]


def neighbour_pairs(lattice: HopLattice) -> tuple[np.ndarray, np.ndarray]:
    """Sites of each pair of first or second neighbours, first below second."""
    squared = ((lattice.sites[:, None] - lattice.sites[None]) ** 2).sum(axis=2)
    limit = 4  # in halves of the cubic vectors: the second shell of both lattices
    first, second = np.nonzero((squared <= limit) & (squared > 0))
    keep = first < second
    return first[keep], second[keep]
