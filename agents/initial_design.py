"""The first structures of a campaign: random orderings, spread evenly over phases and compositions."""

from __future__ import annotations

import numpy as np

from ..generators.base import Candidate, History, Lineage
from ..generators.seen import known_keys, make_candidate
from ..structures.lattice import ParentLattice
from ..structures.space import DesignSpace

NAME = "initial_design"
_N_DRAWN = 64  # compositions per chosen one, from which the most remote is taken
_N_TRIES = 20


def initial_design(space: DesignSpace, n: int, history: History, *, seed: int) -> list[Candidate]:
    """``n`` new candidates, phases alternating, compositions of each phase far from each other.

    Each composition is the one farthest from those already taken, out of many drawn uniformly (best-candidate
    sampling); its ordering is random. Fewer come back where the space is exhausted.
    """
    rng = np.random.default_rng(seed)
    seen = known_keys(history, space)
    taken: dict[str, list[np.ndarray]] = {phase: [] for phase in space.phases}
    candidates: list[Candidate] = []
    for attempt in range(_N_TRIES * n):
        if len(candidates) == n:
            break
        lattice = space.lattices[(len(candidates) + attempt // n) % len(space.lattices)]
        counts = _remote_counts(rng, space, lattice, taken[lattice.phase])
        occupation = space.random_occupation(rng, lattice, counts)
        key = seen.take(lattice, occupation)
        if key is not None:
            taken[lattice.phase].append(counts)
            candidates.append(make_candidate(space, lattice, occupation, Lineage(NAME, "space_filling"), key))
    return candidates


def _remote_counts(
    rng: np.random.Generator, space: DesignSpace, lattice: ParentLattice, taken: list[np.ndarray]
) -> np.ndarray:
    drawn = np.array([space.random_counts(rng, lattice) for _ in range(_N_DRAWN)])
    if not taken:
        return drawn[0]
    distance = np.linalg.norm(drawn[:, None] - np.array(taken)[None], axis=2).min(axis=1)
    return drawn[int(distance.argmax())]
