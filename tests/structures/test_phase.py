"""Which lattice atoms are on: hot, strained, collapsed and foreign structures."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.phase import classify_phase
from ase import Atoms
from ase.build import bulk
from ase.io import read


def _crystal(name: str) -> Atoms:
    """54 atoms at 11.5 Å^3 each."""
    if name != "hcp":
        return parent_lattice(name).decorate(["Ni"] * 54, 11.5)
    a = (11.5 * 4.0 / np.sqrt(8.0)) ** (1.0 / 3.0)
    return bulk("Ni", "hcp", a=a, c=np.sqrt(8.0 / 3.0) * a).repeat((3, 3, 3))


@pytest.mark.parametrize("name", ["fcc", "hcp", "bcc"])
@pytest.mark.parametrize(("displacement", "least"), [(0.0, 1.0), (0.1, 1.0), (0.15, 0.95)])
def test_crystals_are_recognized_through_displacements(name, displacement, least):
    for seed in range(5):
        atoms = _crystal(name)
        atoms.rattle(displacement, seed=seed)  # standard deviation of each component, Å
        report = classify_phase(atoms)
        assert report.majority == name
        assert report.fractions[name] >= least
        assert sum(report.fractions.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "coordination"), [("fcc", 12.0), ("hcp", 12.0), ("bcc", 14.0)])
def test_coordination_is_that_of_the_lattice(name, coordination):
    assert classify_phase(_crystal(name)).coordination == coordination


@pytest.mark.parametrize(("c_over_a", "expected"), [(0.95, "bcc"), (1.08, "bcc"), (1.32, "fcc"), (1.45, "fcc")])
def test_the_bain_path_changes_sides_in_its_middle(c_over_a, expected):
    edge = 3.0 * (11.5 * 2.0 / c_over_a) ** (1.0 / 3.0)
    atoms = _crystal("bcc")
    atoms.set_cell(np.diag([edge, edge, edge * c_over_a]), scale_atoms=True)
    assert classify_phase(atoms).majority == expected


def test_a_bcc_cell_whose_planes_shuffled_to_hcp_is_not_bcc():
    atoms = _crystal("bcc")  # the Burgers path: (110) planes slide alternately along [1-10] while the cell distorts
    a = atoms.cell.array[0, 0] / 3.0
    cell = np.array([[a, -a, 0.0], [0.0, 0.0, a], [a, a, 0.0]])
    orthorhombic = Atoms(
        "Ni4", positions=np.array([[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]) @ cell, cell=cell, pbc=True
    )
    assert classify_phase(orthorhombic.repeat((2, 3, 2))).majority == "bcc"
    scaled = orthorhombic.get_scaled_positions()
    scaled[2:, 0] += 1.0 / 6.0
    length = (4.0 * 11.5 / np.sqrt(8.0)) ** (1.0 / 3.0)
    hexagonal = Atoms(
        "Ni4",
        scaled_positions=scaled,
        cell=np.diag([np.sqrt(3.0), 1.0, np.sqrt(8.0 / 3.0)]) * length,
        pbc=True,
    )
    assert classify_phase(hexagonal.repeat((2, 3, 2))).majority == "hcp"


@pytest.mark.parametrize("atoms", [bulk("Si"), bulk("Po", "sc", a=3.3), bulk("NaCl", "rocksalt", a=5.6)])
def test_other_lattices_are_other(atoms):
    assert classify_phase(atoms).majority == "other"


def test_a_disordered_structure_is_other():
    atoms = _crystal("fcc")
    atoms.set_scaled_positions(np.random.default_rng(0).random((54, 3)))
    assert classify_phase(atoms).majority == "other"


def test_cells_of_one_atom_and_with_a_vacancy():
    assert classify_phase(bulk("Al")).majority == "fcc"
    assert classify_phase(bulk("Fe")).majority == "bcc"
    assert classify_phase(bulk("Ti")).majority == "hcp"
    vacancy = bulk("Al", cubic=True).repeat(3)
    del vacancy[0]
    assert classify_phase(vacancy).fractions["fcc"] > 0.85


def test_each_atom_is_judged_by_its_own_neighbourhood():
    slab = bulk("Fe", cubic=True).repeat((4, 4, 8))
    report = classify_phase(slab)
    assert report.per_atom.shape == (len(slab),)
    melted = slab.copy()
    upper = melted.positions[:, 2] > 0.5 * melted.cell[2, 2]
    melted.positions[upper] += np.random.default_rng(0).normal(scale=0.6, size=(int(upper.sum()), 3))
    mixed = classify_phase(melted)
    assert 0.25 < mixed.fractions["bcc"] < 0.55
    assert mixed.fractions["other"] > 0.3


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "periodic cell"),
        (Atoms("Ni2", positions=[[0, 0, 0], [0, 0, 2.5]]), "periodic cell"),
        (Atoms("Ni", positions=[[np.nan, 0, 0]], cell=np.eye(3) * 3, pbc=True), "not finite"),
    ],
)
def test_what_has_no_phase_is_refused(atoms, message):
    with pytest.raises(StructureError, match=message):
        classify_phase(atoms)


def test_published_phases_are_reproduced(shared_data):
    text = gzip.decompress((shared_data / "nifecr" / "elastic_final_val.extxyz.gz").read_bytes()).decode()
    frames = read(io.StringIO(text), ":", format="extxyz")
    assert len(frames) == 345
    assert [classify_phase(atoms).majority for atoms in frames] == [atoms.info["phase"] for atoms in frames]
