"""Small alloys with barriers that a formula gives, and tables of their hops."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import Hops, all_hops, occupations
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Mo", "Nb", "Ta")


def random_crystal(seed: int, phase: str = "bcc", repeat: int = 3, share: Sequence[float] = (0.4, 0.3, 0.3)) -> Atoms:
    """A random solid solution on ideal sites."""
    atoms = bulk("Nb", phase, a=3.25 if phase == "bcc" else 4.1, cubic=True).repeat(repeat)
    rng = np.random.default_rng(seed)
    atoms.symbols = rng.choice(ELEMENTS, size=len(atoms), p=np.array(share))
    return atoms


def toy_barriers(hops: Hops, phase: str = "bcc") -> np.ndarray:
    """Barriers that depend on the moving species, on its neighbours, and on the product of two counts, eV."""
    found = occupations(hops, hop_lattice(phase, 2), ELEMENTS)
    near_saddle = np.flatnonzero(hop_lattice(phase, 2).saddle_orbits == 0)
    near_vacancy = np.flatnonzero(hop_lattice(phase, 2).shells == 0)
    heavy = (found.sites[:, near_saddle] == 2).mean(axis=1)
    light = (found.sites[:, near_vacancy] == 0).mean(axis=1)
    return 0.8 + 0.2 * found.moving + 0.4 * heavy - 0.3 * light + 0.5 * heavy * light


def toy_hops(n_crystals: int, n_hops: int, phase: str = "bcc", seed: int = 0) -> Hops:
    """Hops of several compositions."""
    rng = np.random.default_rng(seed)
    crystals = [random_crystal(seed + k, phase, share=rng.dirichlet([2.0, 2.0, 2.0])) for k in range(n_crystals)]
    hops = all_hops(crystals)
    hops = hops.take(np.sort(rng.permutation(len(hops))[:n_hops]))
    hops.barriers_ev[:] = toy_barriers(hops, phase)
    return hops


def write_table(hops: Hops, folder: Path, name: str = "barriers.csv") -> Path:
    """The hops as a table with structure files beside it."""
    (folder / "structures").mkdir(exist_ok=True)
    for k, atoms in enumerate(hops.crystals):
        ase.io.write(folder / "structures" / f"{k}.extxyz", atoms)
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["structure", "vacancy_site", "neighbour", "barrier_ev", "remark"])
        for k, v, n, b in zip(hops.crystal, hops.vacancy, hops.neighbour, hops.barriers_ev, strict=True):
            writer.writerow([f"structures/{k}.extxyz", v, n, repr(float(b)), "made up"])
    return folder / name
