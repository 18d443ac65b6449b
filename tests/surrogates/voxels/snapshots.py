"""Snapshots of a small alloy whose forces a formula gives."""

from __future__ import annotations

import numpy as np
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import build_graph
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Mo", "Nb", "Ta")


def snapshot(seed: int, repeat: int = 2, spread_ang: float = 0.15) -> Atoms:
    """A BCC alloy of ``2 × repeat³`` atoms shaken about its sites."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Nb", "bcc", a=3.25, cubic=True).repeat(repeat)
    atoms.symbols = rng.choice(ELEMENTS, size=len(atoms))
    atoms.positions += rng.normal(scale=spread_ang, size=(len(atoms), 3))
    return atoms


def toy_forces(atoms: Atoms) -> np.ndarray:
    """Springs between atoms closer than 3.9 Å, ``[n_atoms, 3]``, eV/Å."""
    graph = build_graph(atoms, ELEMENTS, 3.9)
    distances = np.linalg.norm(graph.vectors, axis=1)
    pulls = (graph.vectors / distances[:, None]) * (2.0 * (distances - 3.0))[:, None]
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, graph.first, pulls)
    np.add.at(forces, graph.second, -pulls)
    return forces


def toy_frames(n: int, *, seed: int = 0, repeat: int = 2) -> list[Frame]:
    """Labelled snapshots in two groups."""
    structures = [snapshot(seed + k, repeat) for k in range(n)]
    return [
        Frame(atoms, -1.0 * len(atoms), toy_forces(atoms), group=str(300.0 + 300.0 * (k % 2)), source=f"row {k}")
        for k, atoms in enumerate(structures)
    ]
