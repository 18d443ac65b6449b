"""Evolution of orderings on a surrogate: many cheap steps of mutation, crossover and selection, in whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..structures.lattice import ParentLattice
from ..structures.space import DesignSpace

_MORE_STEPS = 0.3  # chance of each further swap or transmutation in the same child
_MAX_STEPS = 8


@dataclass(frozen=True)
class Scored:
    """Occupations with what the surrogate says about them.

    Attributes:
        occupations: int8 ``[n, n_sites]``.
        scores: ``[n_levels, n]``, one row for each level of optimism; larger is better.
        prints: ``[n]``, numbers that are equal for occupations the surrogate cannot tell apart.
    """

    occupations: np.ndarray
    scores: np.ndarray
    prints: np.ndarray

    def __len__(self) -> int:
        return len(self.occupations)

    def take(self, rows: np.ndarray) -> Scored:
        """The rows of these indices."""
        return Scored(self.occupations[rows], self.scores[:, rows], self.prints[rows])

    def joined(self, other: Scored) -> Scored:
        """These and the others."""
        return Scored(
            np.concatenate([self.occupations, other.occupations]),
            np.concatenate([self.scores, other.scores], axis=1),
            np.concatenate([self.prints, other.prints]),
        )

    def survivors(self, n_each: int) -> Scored:
        """The ``n_each`` best by every level of optimism, without those that look alike."""
        _, first = np.unique(self.prints, return_index=True)
        best = [first[np.argsort(-level[first], kind="stable")[:n_each]] for level in self.scores]
        return self.take(np.unique(np.concatenate(best)))


@dataclass(frozen=True)
class OrderingSearch:
    """Searches the occupations of one lattice, compositions included.

    Attributes:
        space: bounds of the composition.
        lattice: the sites.
        score: scores a batch of occupations.
        n_survivors: occupations kept by each level of optimism.
        n_steps: generations.
    """

    space: DesignSpace
    lattice: ParentLattice
    score: Callable[[np.ndarray], Scored]
    n_survivors: int
    n_steps: int

    def run(self, starts: np.ndarray, rng: np.random.Generator) -> Scored:
        """Evolve from ``starts`` ``[n, n_sites]``; returns the last survivors."""
        population = self.score(starts).survivors(self.n_survivors)
        for _ in range(self.n_steps):
            children = self._children(population.occupations, rng)
            if len(children):
                population = population.joined(self.score(children)).survivors(self.n_survivors)
        return population

    def _children(self, parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One child a parent by each kind of move, those outside the bounds of the composition left out."""
        moved = [
            swapped_batch(rng, parents),
            transmuted_batch(rng, parents, len(self.space.elements)),
            crossed_batch(rng, parents, self.lattice),
        ]
        children = np.concatenate(moved)
        low, high = self.space.count_bounds(self.lattice.n_sites)
        counts = self.space.counts(children)
        return children[((counts >= low) & (counts <= high)).all(axis=1)]


def by_turns(found: Sequence[Scored]) -> Iterator[tuple[int, int, int]]:
    """(which search, row, level of optimism) so that each level gives its best remaining one in turn."""
    if not found:
        return
    owners = np.concatenate([np.full(len(f), i) for i, f in enumerate(found)])
    rows = np.concatenate([np.arange(len(f)) for f in found])
    orders = [
        np.argsort(-np.concatenate([f.scores[level] for f in found]), kind="stable")
        for level in range(len(found[0].scores))
    ]
    given: set[int] = set()
    for rank in range(len(rows)):
        for level, order in enumerate(orders):
            i = int(order[rank])
            if i not in given:
                given.add(i)
                yield int(owners[i]), int(rows[i]), level


def _n_steps(rng: np.random.Generator, n: int) -> np.ndarray:
    """How many elementary steps each of ``n`` children takes: mostly one."""
    return np.minimum(rng.geometric(1.0 - _MORE_STEPS, size=n), _MAX_STEPS)


def swapped_batch(rng: np.random.Generator, parents: np.ndarray) -> np.ndarray:
    """Children ``[n, n_sites]`` with a few pairs of unlike atoms exchanged."""
    children = parents.copy()
    steps = _n_steps(rng, len(children))
    for step in range(int(steps.max(initial=0))):
        rows = np.flatnonzero(steps > step)
        first = rng.integers(children.shape[1], size=len(rows))
        here = children[rows, first]
        # The partner is drawn from the unlike sites: the largest of random numbers, zero at like sites.
        lots = rng.random((len(rows), children.shape[1])) * (children[rows] != here[:, None])
        second = lots.argmax(axis=1)
        children[rows, first] = children[rows, second]
        children[rows, second] = here
    return children


def transmuted_batch(rng: np.random.Generator, parents: np.ndarray, n_elements: int) -> np.ndarray:
    """Children ``[n, n_sites]`` with a few atoms changed into other elements."""
    children = parents.copy()
    if n_elements < 2:
        return children
    steps = _n_steps(rng, len(children))
    for step in range(int(steps.max(initial=0))):
        rows = np.flatnonzero(steps > step)
        site = rng.integers(children.shape[1], size=len(rows))
        other = rng.integers(1, n_elements, size=len(rows))
        children[rows, site] = (children[rows, site] + other) % n_elements
    return children


def crossed_batch(rng: np.random.Generator, parents: np.ndarray, lattice: ParentLattice) -> np.ndarray:
    """Children ``[n, n_sites]`` that take the sites of a slab of random direction and width from another parent."""
    n = len(parents)
    others = parents[rng.integers(n, size=n)]
    directions = rng.integers(-1, 2, size=(n, 3))
    height = (directions @ lattice.scaled_positions.T + rng.random((n, 1))) % 1.0
    return np.where(height < rng.uniform(0.1, 0.6, size=(n, 1)), others, parents).astype(parents.dtype)
