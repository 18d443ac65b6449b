"""Moves between occupations. All keep to the compositions that the design space allows.

A move takes an occupation int8 ``[n_sites]`` and returns a new one, or ``None`` where it has nothing to do (a swap in a
pure element, a transmutation that every bound forbids).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..structures.composition import nearest_counts
from ..structures.lattice import ParentLattice
from ..structures.space import DesignSpace

_MAX_IMAGES = 256  # symmetry images of a partner that a crossover chooses from


def unlike_swaps(
    rng: np.random.Generator, occupation: np.ndarray, n: int, exclude: Iterable[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Up to ``n`` different pairs of sites with unlike atoms, drawn uniformly; smaller site first.

    Args:
        exclude: pairs not to draw.
    """
    first, second = np.nonzero(np.triu(occupation[:, None] != occupation[None, :]))
    codes = first * len(occupation) + second
    codes = np.setdiff1d(codes, [a * len(occupation) + b for a, b in exclude], assume_unique=True)
    drawn = rng.choice(codes, size=min(n, len(codes)), replace=False)
    return [divmod(int(code), len(occupation)) for code in drawn]


def swapped(occupation: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """The occupation with the atoms of two sites exchanged."""
    changed = occupation.copy()
    changed[list(pair)] = occupation[list(pair[::-1])]
    return changed


def swap(rng: np.random.Generator, occupation: np.ndarray) -> np.ndarray | None:
    """Exchange two unlike atoms."""
    if (occupation == occupation[0]).all():
        return None
    while True:  # at least a 2 / n_sites chance each time
        a, b = rng.integers(len(occupation), size=2).tolist()
        if occupation[a] != occupation[b]:
            return swapped(occupation, (a, b))


def transmute(
    rng: np.random.Generator, space: DesignSpace, occupation: np.ndarray, n_sites: int = 1
) -> np.ndarray | None:
    """Change ``n_sites`` atoms, one after the other, each to another element."""
    changed = occupation.copy()
    low, high = space.count_bounds(len(occupation))
    for _ in range(n_sites):
        counts = space.counts(changed)
        is_possible = (counts > low)[:, None] & (counts < high)[None, :]
        np.fill_diagonal(is_possible, False)
        weights = (is_possible * counts[:, None]).ravel()
        if weights.sum() == 0:
            return None
        old, new = divmod(int(rng.choice(len(weights), p=weights / weights.sum())), len(counts))
        changed[rng.choice(np.flatnonzero(changed == old))] = new
    return changed


def shift_composition(
    rng: np.random.Generator, space: DesignSpace, occupation: np.ndarray, n_sites: int
) -> np.ndarray | None:
    """Replace up to ``n_sites`` atoms of one element by another: a step along an edge direction of the simplex."""
    low, high = space.count_bounds(len(occupation))
    counts = space.counts(occupation)
    room = np.minimum((counts - low)[:, None], (high - counts)[None, :])
    np.fill_diagonal(room, 0)
    directions = np.argwhere(room > 0)
    if len(directions) == 0:
        return None
    old, new = directions[rng.integers(len(directions))]
    changed = occupation.copy()
    sites = rng.choice(np.flatnonzero(occupation == old), size=min(n_sites, int(room[old, new])), replace=False)
    changed[sites] = new
    return changed


def change_phase(
    rng: np.random.Generator, space: DesignSpace, lattice: ParentLattice, occupation: np.ndarray
) -> tuple[ParentLattice, np.ndarray] | None:
    """Put the atoms on the lattice of another phase: site by site where both have the same number of sites, else at
    random at the nearest composition."""
    others = [other for other in space.lattices if other.phase != lattice.phase]
    if not others:
        return None
    other = others[rng.integers(len(others))]
    if other.n_sites == lattice.n_sites:
        return other, occupation.copy()
    counts = nearest_counts(space, space.counts(occupation) / lattice.n_sites, other.n_sites)
    return other, space.random_occupation(rng, other, counts)


def align(
    rng: np.random.Generator, lattice: ParentLattice, occupation: np.ndarray, reference: np.ndarray
) -> np.ndarray:
    """The symmetry image of ``occupation`` that agrees with ``reference`` on most sites (of a sample of images).

    Two copies of one arrangement that are shifted or turned against each other would otherwise mix like strangers.
    """
    operations = lattice.permutations
    if len(operations) > _MAX_IMAGES:
        operations = operations[rng.choice(len(operations), size=_MAX_IMAGES, replace=False)]
    images = np.concatenate([occupation[None], occupation[operations]])
    return images[(images == reference).sum(axis=1).argmax()]


def cut_and_splice(
    rng: np.random.Generator, space: DesignSpace, lattice: ParentLattice, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """A slab of one parent in the other: along one cell axis, from a random offset, a quarter to half of the cell."""
    height = lattice.scaled_positions[:, rng.integers(3)]
    is_second = (height - rng.random()) % 1.0 < rng.uniform(0.25, 0.5)
    return repair(rng, space, np.where(is_second, second, first).astype(np.int8))


def mix_sites(rng: np.random.Generator, space: DesignSpace, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Each site from one of the parents, a quarter to half of them from the second."""
    is_second = rng.random(len(first)) < rng.uniform(0.25, 0.5)
    return repair(rng, space, np.where(is_second, second, first).astype(np.int8))


def repair(rng: np.random.Generator, space: DesignSpace, occupation: np.ndarray) -> np.ndarray:
    """Change as few random atoms as it takes to reach the nearest allowed composition."""
    counts = space.counts(occupation)
    if space.is_allowed(counts):
        return occupation
    excess = counts - nearest_counts(space, counts / len(occupation), len(occupation))
    changed = occupation.copy()
    surplus = [
        rng.choice(np.flatnonzero(occupation == k), size=e, replace=False) for k, e in enumerate(excess) if e > 0
    ]
    missing = np.repeat(np.arange(len(counts)), np.maximum(-excess, 0))
    changed[np.concatenate(surplus)] = rng.permutation(missing)
    return changed
