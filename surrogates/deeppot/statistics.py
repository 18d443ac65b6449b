"""What a deep potential takes from its training data before the first step, as DeePMD-kit does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..potentials.frame import Frame
from ..potentials.graph import build_graph, type_indices
from .environment import environment

_SMALLEST_DEVIATION = 0.01
_MAX_FRAMES = 500  # enough for means of environments; the largest count of neighbours is of these, too


@dataclass(frozen=True)
class Statistics:
    """Normalization of a descriptor, and energies of the species.

    Attributes:
        means: ``[n_species]``, mean of the radial part of the environment matrix of atoms of each species.
        deviations: ``[n_species, 2]``, standard deviations of its radial and angular parts.
        n_neighbours: ``[n_species]``, room for neighbours of each species: ten per cent above the largest number seen,
            a multiple of four. Empty room counts in means and deviations, as in DeePMD-kit.
        energies_ev: ``[n_species]``, energy per atom of each species by least squares, the smallest solution where the
            compositions do not determine it.
    """

    means: np.ndarray
    deviations: np.ndarray
    n_neighbours: np.ndarray
    energies_ev: np.ndarray


def statistics(
    frames: Sequence[Frame], elements: Sequence[str], inner_ang: float, cutoff_ang: float, *, seed: int
) -> Statistics:
    """Statistics of labelled frames; of a random part of them where there are many.

    Raises:
        SurrogateError: an element that is not listed, or coordinates that are not finite.
    """
    n = len(elements)
    chosen = np.arange(len(frames))
    if len(frames) > _MAX_FRAMES:
        chosen = np.sort(np.random.default_rng([seed, 2]).choice(len(frames), _MAX_FRAMES, replace=False))
    sums = np.zeros((n, 3))  # of the radial part, of its squares, and of the angular part's squares
    n_atoms = np.zeros(n)
    largest = np.zeros(n, dtype=np.int64)
    for k in chosen.tolist():
        graph = build_graph(frames[k].atoms, elements, cutoff_ang)
        rows = environment(torch.from_numpy(graph.vectors), inner_ang, cutoff_ang).numpy()
        terms = np.stack([rows[:, 0], rows[:, 0] ** 2, (rows[:, 1:] ** 2).mean(axis=1)], axis=1)
        counts = np.zeros((len(graph.types), n), dtype=np.int64)
        for centre, other in ((graph.first, graph.second), (graph.second, graph.first)):
            np.add.at(sums, graph.types[centre], terms)
            np.add.at(counts, (centre, graph.types[other]), 1)
        n_atoms += np.bincount(graph.types, minlength=n)
        largest = np.maximum(largest, counts.max(axis=0))
    n_neighbours = np.array([max(4, 4 * math.ceil(1.1 * count / 4)) for count in largest], dtype=float)
    mean, square, angular = (sums / np.maximum(n_atoms * n_neighbours.sum(), 1.0)[:, None]).T
    deviations = np.sqrt(np.stack([np.maximum(square - mean**2, 0.0), angular], axis=1))
    deviations = np.maximum(deviations, _SMALLEST_DEVIATION)
    deviations[n_atoms == 0] = 1.0
    return Statistics(mean, deviations, n_neighbours, _energies(frames, elements))


def _energies(frames: Sequence[Frame], elements: Sequence[str]) -> np.ndarray:
    counts = np.array([np.bincount(type_indices(f.atoms, elements), minlength=len(elements)) for f in frames])
    sizes = counts.sum(axis=1)
    energies = np.array([frame.energy_ev for frame in frames])
    return np.linalg.lstsq(counts / sizes[:, None], energies / sizes, rcond=None)[0]
