"""What a structure's atoms see, in a few numbers: for telling structures apart and spreading a choice over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from .graph import build_graph

_N_RADII = 12


def environment_features(structures: Sequence[Atoms], elements: Sequence[str], cutoff_ang: float) -> np.ndarray:
    """Mean and spread over a structure's atoms of smeared neighbour counts, by element of both and distance.

    Independent of rotation, of the order of atoms and of the cell that repeats a structure.

    Returns:
        ``[n_structures, 2 × n_elements² × 12]``.
    """
    n_elements = len(elements)
    centres = np.linspace(0.25, 1.0, _N_RADII) * cutoff_ang
    width = centres[1] - centres[0]
    rows = []
    for atoms in structures:
        graph = build_graph(atoms, elements, cutoff_ang)
        distances = np.linalg.norm(graph.vectors, axis=1)
        taper = 0.5 * (1.0 + np.cos(np.pi * distances / cutoff_ang))
        smeared = taper[:, None] * np.exp(-0.5 * ((distances[:, None] - centres) / width) ** 2)
        counts = np.zeros((len(atoms) * n_elements, _N_RADII))
        np.add.at(counts, graph.first.astype(np.int64) * n_elements + graph.types[graph.second], smeared)
        np.add.at(counts, graph.second.astype(np.int64) * n_elements + graph.types[graph.first], smeared)
        by_atom = counts.reshape(len(atoms), -1)
        parts = []
        for element in range(n_elements):
            own = by_atom[graph.types == element]
            share = len(own) / len(atoms)
            mean = own.mean(axis=0) if len(own) else np.zeros(by_atom.shape[1])
            spread = own.std(axis=0) if len(own) else np.zeros(by_atom.shape[1])
            parts += [share * mean, share * spread]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def farthest_points(features: np.ndarray, n: int, known: np.ndarray | None = None, first: int = 0) -> list[int]:
    """Choose up to ``n`` rows, each the one farthest from all known and chosen ones.

    Args:
        features: ``[n_rows, n_features]``.
        known: ``[n_known, n_features]``, rows that count as chosen before.
        first: row to begin with where nothing is known.
    """
    if len(features) == 0 or n < 1:
        return []
    scale = features.std(axis=0) if len(features) > 1 else np.ones(features.shape[1])
    scaled = features / np.where(scale > 1e-12, scale, np.inf)
    nearest = np.full(len(features), np.inf)
    if known is not None and len(known):
        for row in known / np.where(scale > 1e-12, scale, np.inf):
            nearest = np.minimum(nearest, ((scaled - row) ** 2).sum(axis=1))
    chosen: list[int] = []
    while len(chosen) < min(n, len(features)):
        best = first if not chosen and np.isinf(nearest).all() else int(np.argmax(nearest))
        if chosen and nearest[best] <= 1e-20:
            break  # what is left equals what is chosen
        chosen.append(best)
        nearest = np.minimum(nearest, ((scaled - scaled[best]) ** 2).sum(axis=1))
        nearest[best] = -1.0
    return chosen
