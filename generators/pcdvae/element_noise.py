"""Elements of atoms under noise that leaves the composition as it is.

In training an atom keeps its element with the weight 1 and takes one drawn from the composition with the weight
σ_type. Here the number of atoms of each element is fixed: those that would take another one permute theirs among
themselves, and the decoder's opinion is turned into an assignment of the given elements to the atoms.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def whole_counts(fractions: np.ndarray, n_atoms: int) -> np.ndarray:
    """The whole numbers of atoms ``[n_elements]`` that add up to ``n_atoms`` and are nearest to fractions."""
    wanted = fractions / fractions.sum() * n_atoms
    counts = np.floor(wanted).astype(np.int64)
    rest = np.argsort(counts - wanted, kind="stable")
    counts[rest[: n_atoms - counts.sum()]] += 1
    return counts


def assigned(log_probabilities: np.ndarray, counts: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Elements of atoms with given counts: the likeliest ones, or likely ones at random.

    Args:
        log_probabilities: of each atom's elements, ``[n_atoms, n_elements]``.
        counts: atoms of each element, ``[n_elements]``, ``n_atoms`` in all.
        rng: adds Gumbel noise, which draws each atom's element by its probability where the counts do not bind; none
            for the likeliest assignment.

    Returns:
        int64 ``[n_atoms]``.
    """
    scores = log_probabilities if rng is None else log_probabilities + rng.gumbel(size=log_probabilities.shape)
    places = np.repeat(np.arange(len(counts)), counts)
    rows, columns = linear_sum_assignment(scores[:, places], maximize=True)
    types = np.empty(len(scores), dtype=np.int64)
    types[rows] = places[columns]
    return types


def with_counts(types: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Elements ``[n_atoms]`` brought to given counts by changing as few atoms as possible, which ones at random."""
    surplus = np.bincount(types, minlength=len(counts)) - counts
    types = types.copy()
    free = [rng.choice(np.flatnonzero(types == k), size=n, replace=False) for k, n in enumerate(surplus) if n > 0]
    if free:
        types[np.concatenate(free)] = rng.permutation(np.repeat(np.arange(len(counts)), np.maximum(-surplus, 0)))
    return types


def shuffled(types: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Elements ``[n_atoms]`` of which each takes part in a permutation with the probability σ / (1 + σ)."""
    moves = np.flatnonzero(rng.random(len(types)) < sigma / (1.0 + sigma))
    types = types.copy()
    types[moves] = types[rng.permutation(moves)]
    return types
