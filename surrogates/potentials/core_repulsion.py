"""Atoms that come closer than in any label repel each other as their nuclei do.

A potential knows nothing of distances shorter than those that it learnt from, and may let atoms fall into each other
there. Below these distances the screened repulsion of the nuclei is added, the universal potential of Ziegler, Biersack
and Littmark (The Stopping and Range of Ions in Solids, Pergamon 1985), which a smooth step brings in. On all that was
learnt it is exactly zero, so it takes no part in the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from .graph import Graph, build_graph

REACH_SHARE = 0.7
"""Of the sum of two covalent radii: from there on labels are not needed to know that atoms are too close."""
_FULL_SHARE = 0.6
"""Of the distance at which the repulsion sets in: below it acts in full."""
_COULOMB_EV_ANG = 14.399645
_SCREENING_ANG = 0.46850
_SCREENING_POWER = 0.23
_TERMS = np.array([[0.18175, 3.19980], [0.50986, 0.94229], [0.28022, 0.40290], [0.02817, 0.20162]])
"""Weights and decays of the universal screening function."""


def core_radii(structures: Sequence[Atoms], elements: Sequence[str]) -> dict[str, float]:
    """Distance, Å, below which pairs of elements repel each other beyond what was learnt.

    Args:
        structures: what was learnt from.
        elements: of the potential, in order.

    Returns:
        ``A-B`` -> the shortest distance of such a pair in the structures, 0.7 times the sum of the covalent radii
        at most.

    Raises:
        SurrogateError: an element that the potential lacks.
    """
    radii = covalent_radii[[atomic_numbers[symbol] for symbol in elements]]
    shortest = REACH_SHARE * (radii[:, None] + radii)
    for atoms in structures:
        graph = build_graph(atoms, elements, float(shortest.max()))
        a, b = np.sort([graph.types[graph.first], graph.types[graph.second]], axis=0)
        np.minimum.at(shortest, (a, b), np.linalg.norm(graph.vectors, axis=1))
    n = len(elements)
    return {f"{elements[a]}-{elements[b]}": float(shortest[a, b]) for a in range(n) for b in range(a, n)}


class CoreRepulsion:
    """The repulsion of the nuclei of a potential's elements.

    Args:
        radii_ang: ``A-B`` -> distance at which it sets in, as :func:`core_radii` gives it.
        elements: of the potential, in order.
    """

    def __init__(self, radii_ang: Mapping[str, float], elements: Sequence[str]) -> None:
        n = len(elements)
        charges = np.array([float(atomic_numbers[symbol]) for symbol in elements])
        self._outer = np.zeros((n, n))
        for a in range(n):
            for b in range(a, n):
                self._outer[a, b] = self._outer[b, a] = radii_ang.get(f"{elements[a]}-{elements[b]}", 0.0)
        self._strengths = _COULOMB_EV_ANG * charges[:, None] * charges
        self._lengths = _SCREENING_ANG / (charges[:, None] ** _SCREENING_POWER + charges**_SCREENING_POWER)

    def evaluate(self, graph: Graph) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and virial ``[3, 3]`` (eV, volume times stress); ``None`` where
        no pair is close enough."""
        squares = np.einsum("ij,ij->i", graph.vectors, graph.vectors)
        near = np.flatnonzero(squares < self._outer.max() ** 2)
        a, b = graph.types[graph.first[near]], graph.types[graph.second[near]]
        is_in = squares[near] < self._outer[a, b] ** 2
        if not is_in.any():
            return None
        near, pairs = near[is_in], (a[is_in], b[is_in])
        r, vectors = np.sqrt(squares[near]), graph.vectors[near]
        energies, slopes = self._pair(r, pairs)
        pulls = (slopes / r)[:, None] * vectors
        forces = np.zeros((len(graph.types), 3))
        np.add.at(forces, graph.first[near], pulls)
        np.add.at(forces, graph.second[near], -pulls)
        return float(energies.sum()), forces, vectors.T @ pulls

    def _pair(self, r: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Energies ``[n]`` and their derivatives by the distance."""
        outer, length = self._outer[pairs], self._lengths[pairs]
        weights, decays = _TERMS[:, :1], _TERMS[:, 1:]
        parts = weights * np.exp(-decays * r / length)
        coulomb = self._strengths[pairs] / r
        full = coulomb * parts.sum(axis=0)
        full_slope = -full / r - coulomb * (parts * decays).sum(axis=0) / length
        width = (1.0 - _FULL_SHARE) * outer
        u = np.clip((r - _FULL_SHARE * outer) / width, 0.0, 1.0)
        step = 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u**2)  # two continuous derivatives
        step_slope = -30.0 * u**2 * (1.0 - u) ** 2 / width
        return full * step, full_slope * step + full * step_slope
