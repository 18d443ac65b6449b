"""Structures labelled by ASE's effective-medium theory, which has energies of sensible size for Ni and Cu."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

Labelled = Callable[..., list[Atoms]]


@pytest.fixture(scope="session")
def labelled() -> Labelled:
    """``labelled(n, seed, share)``: distorted crystals of Cu with a share of Ni; labels as extended XYZ has them."""

    def make(n: int, seed: int = 0, share: float = 0.0, group: str = "") -> list[Atoms]:
        rng = np.random.default_rng(seed)
        frames = []
        for _ in range(n):
            atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat((2, 1, 1))
            atoms.symbols[rng.permutation(8)[: round(8 * share)]] = "Ni"
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.03, (3, 3))), scale_atoms=True)
            atoms.positions += rng.normal(0.0, 0.08, (8, 3))
            atoms.calc = EMT()
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
            atoms.calc = None
            atoms.info |= {"energy": energy, "stress": stress} | ({"group": group} if group else {})
            atoms.arrays["forces"] = forces
            frames.append(atoms)
        return frames

    return make
