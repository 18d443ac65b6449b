"""Finding the lattice beneath relaxed atoms."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.surrogates.barriers.crystal_lattice import CrystalLattice
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import all_hops
from alloysmith.tests.surrogates.barriers.hop_tables import random_crystal
from ase import Atoms
from ase.build import bulk, make_supercell
from scipy.spatial.transform import Rotation


def strange_cell(phase: str) -> Atoms:
    """A relaxed alloy in a skewed cell, turned, shuffled and moved out of its box."""
    rng = np.random.default_rng(4)
    atoms = bulk("Nb", phase, a=3.3 if phase == "bcc" else 4.2)
    atoms = make_supercell(atoms, [[4, 0, 1], [0, 5, 0], [-1, 1, 4]])
    atoms = atoms[rng.permutation(len(atoms))]
    turn = Rotation.random(random_state=2).as_matrix()
    atoms.set_cell(atoms.cell.array @ turn @ np.diag([1.01, 1.0, 0.99]), scale_atoms=True)
    atoms.positions += rng.normal(loc=[3.0, -20.0, 7.0], scale=0.08, size=(len(atoms), 3))
    return atoms


@pytest.mark.parametrize(("phase", "n_neighbours"), [("bcc", 8), ("fcc", 12)])
def test_nearest_neighbours_are_those_of_the_distances(phase: str, n_neighbours: int) -> None:
    atoms = strange_cell(phase)
    lattice = CrystalLattice.of(atoms)
    assert lattice.phase == phase
    reached = lattice.atoms_at(lattice.sites[:, None] + hop_lattice(lattice.phase, 1).directions)
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    for row, found in zip(distances, reached, strict=True):
        if phase == "fcc":
            assert set(found) == set(np.argsort(row)[:n_neighbours])
        else:  # the second shell is near, and relaxation mixes both
            assert set(found) <= set(np.argsort(row)[:14])
    np.testing.assert_allclose(lattice.cell @ lattice.axes / 2.0, atoms.cell.array, atol=1e-9)


def test_what_is_no_crystal_is_refused() -> None:
    rng = np.random.default_rng(0)
    hcp = bulk("Ti", "hcp", a=2.95, c=4.68).repeat((4, 4, 3))
    gas = Atoms("Ni40", positions=rng.uniform(0, 10, (40, 3)), cell=[10, 10, 10], pbc=True)
    open_ended = random_crystal(0)
    open_ended.pbc = False
    vacant = random_crystal(0)
    del vacant[5]
    for atoms in (hcp, gas, open_ended, vacant):
        with pytest.raises(StructureError):
            CrystalLattice.of(atoms)


@pytest.mark.parametrize(("phase", "n"), [("bcc", 8), ("fcc", 12)])
def test_every_atom_hops_to_all_its_neighbours(phase: str, n: int) -> None:
    atoms = random_crystal(1, phase)
    hops = all_hops([atoms])
    assert len(hops) == n * len(atoms)
    nearest = hop_lattice(CrystalLattice.of(atoms).phase, 1)
    length = np.linalg.norm(nearest.hop) * (3.25 if phase == "bcc" else 4.1) / 2.0
    vectors = atoms.positions[hops.neighbour] - atoms.positions[hops.vacancy]
    scaled = vectors @ np.linalg.inv(atoms.cell.array)
    vectors = (scaled - np.rint(scaled)) @ atoms.cell.array
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), length, atol=1e-6)
