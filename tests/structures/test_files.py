"""Structure files: round trips in every format, and damaged files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.base import structure_id
from alloysmith.structures.files import file_format, read_structures, write_structures
from alloysmith.structures.pymatgen_json import from_pymatgen, to_pymatgen
from alloysmith.structures.settings import SystemSettings
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Structure

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr")).space()
MANY = ("a.extxyz", "a.xyz", "a.extxyz.gz", "a.cif", "a.db", "a.json")
SINGLE = ("a.vasp", "POSCAR", "CONTCAR_7", "a.lmp", "a.data")


def _structures(n: int = 2) -> list[Atoms]:
    rng = np.random.default_rng(0)
    frames = []
    for k in range(n):
        lattice = SPACE.lattices[k % 2]
        atoms = SPACE.atoms(lattice, SPACE.random_occupation(rng, lattice))
        atoms.rattle(0.05, seed=k)
        atoms.info |= {
            "bulk_modulus_gpa": 190.0 + rng.random(),
            "elastic_tensor_gpa": rng.random((6, 6)),
            "failure": 'left_phase: fcc = 0.1, "bcc" isn\'t',
            "converged": True,
            "n_steps": 7,
        }
        atoms.arrays["forces_ev_per_ang"] = rng.normal(size=(54, 3))
        atoms.arrays["tag"] = np.arange(54)
        atoms.arrays["is_fixed"] = rng.random(54) < 0.5
        frames.append(atoms)
    return frames


def _same_value(a: object, b: object) -> bool:
    return bool(np.array_equal(a, b)) and isinstance(a, str) == isinstance(b, str)


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.extxyz.gz", "a.db", "a.json"])
def test_structures_and_values_come_back_to_the_last_bit(tmp_path, name):
    frames = _structures(3)
    write_structures(tmp_path / name, frames)
    again = read_structures(tmp_path / name)
    assert len(again) == 3
    for before, after in zip(frames, again, strict=True):
        assert structure_id(after) == structure_id(before)
        assert {*after.info} == {*before.info}
        assert all(_same_value(after.info[k], v) for k, v in before.info.items())
        assert {*after.arrays} == {*before.arrays}
        for array_name in ("forces_ev_per_ang", "tag", "is_fixed"):
            np.testing.assert_array_equal(after.arrays[array_name], before.arrays[array_name])
            assert after.arrays[array_name].dtype.kind == before.arrays[array_name].dtype.kind


@pytest.mark.parametrize("name", MANY + SINGLE)
def test_the_crystal_survives_every_format(tmp_path, name):
    frames = _structures(2 if name in MANY else 1)
    write_structures(tmp_path / name, frames)
    for before, after in zip(frames, read_structures(tmp_path / name), strict=True):
        lattice, occupation = SPACE.locate(before)
        found, again = SPACE.locate(after, lattice.phase)
        assert lattice.canonical(again) == found.canonical(occupation)
        assert after.get_volume() == pytest.approx(before.get_volume(), rel=1e-6)
        assert after.pbc.all()


def test_what_ase_computed_is_among_the_values(tmp_path):
    atoms = bulk("Ni", cubic=True)
    forces, stress = np.random.default_rng(0).normal(size=(4, 3)), np.arange(6.0)
    atoms.calc = SinglePointCalculator(atoms, energy=-17.25, forces=forces, stress=stress)
    ase.io.write(tmp_path / "dft.extxyz", atoms)
    read = read_structures(tmp_path / "dft.extxyz")[0]
    assert read.calc is None
    assert read.info["energy"] == -17.25
    np.testing.assert_allclose(read.info["stress"], stress)
    np.testing.assert_allclose(read.arrays["forces"], forces, atol=1e-8)
    write_structures(tmp_path / "again.extxyz", read)
    again = read_structures(tmp_path / "again.extxyz")[0]
    np.testing.assert_array_equal(again.info["stress"], read.info["stress"])
    np.testing.assert_array_equal(again.arrays["forces"], read.arrays["forces"])


def test_ase_reads_what_is_written(tmp_path):
    frames = _structures(2)
    write_structures(tmp_path / "a.extxyz", frames)
    again = ase.io.read(tmp_path / "a.extxyz", ":")
    assert [structure_id(a) for a in again] == [structure_id(a) for a in frames]
    write_structures(tmp_path / "a.db", frames)
    with ase.db.connect(tmp_path / "a.db") as database:
        best = list(database.select("n_steps=7,bulk_modulus_gpa>190", sort="-bulk_modulus_gpa"))
    assert best[0].bulk_modulus_gpa == max(atoms.info["bulk_modulus_gpa"] for atoms in frames)


def test_a_cluster_stays_without_a_cell(tmp_path):
    molecule = Atoms("Ni2", positions=[[0, 0, 0], [0, 0, 2.3]])
    write_structures(tmp_path / "a.xyz", molecule)
    assert not read_structures(tmp_path / "a.xyz")[0].pbc.any()
    with pytest.raises(StructureError, match="periodic in three directions"):
        write_structures(tmp_path / "a.json", molecule)


def test_the_order_of_types_in_a_data_file_is_the_users(tmp_path):
    atoms = _structures(1)[0]
    write_structures(tmp_path / "a.lmp", atoms, elements=("Cr", "Co", "Ni", "Fe"))
    assert "4 atom types" in (tmp_path / "a.lmp").read_text()
    read = read_structures(tmp_path / "a.lmp")[0]
    assert read.get_chemical_symbols() == atoms.get_chemical_symbols()
    with pytest.raises(StructureError, match="the structure holds Cr"):
        write_structures(tmp_path / "b.lmp", atoms, elements=("Ni", "Fe"))
    assert not (tmp_path / "b.lmp").exists()


DATA = """written by hand

2 atoms
2 atom types
0.0 3.0 xlo xhi
0.0 3.0 ylo yhi
0.0 3.0 zlo zhi
{sections}
Atoms # atomic

2 {b} 1.5 1.5 1.5
1 {a} 0.0 0.0 0.0
"""


@pytest.mark.parametrize(
    ("sections", "types", "elements", "expected"),
    [
        ("\nMasses\n\n1 58.6934 # Ni\n2 51.9961 # Cr\n", (1, 2), None, ["Ni", "Cr"]),
        ("\nMasses\n\n1 58.6934\n2 51.9961\n", (1, 2), None, ["Ni", "Cr"]),
        ("\nAtom Type Labels\n\n1 Fe\n2 Al\n\nMasses\n\n1 1.0\n2 2.0\n", (1, 2), None, ["Fe", "Al"]),
        ("", (1, 2), ["Mo", "W"], ["Mo", "W"]),
        ("\nMasses\n\n1 58.6934 # Ni\n2 51.9961 # Cr\n", (1, 2), ["Fe", "Co"], ["Fe", "Co"]),
    ],
)
def test_types_of_a_data_file_get_their_elements(tmp_path, sections, types, elements, expected):
    path = tmp_path / "hand.data"
    path.write_text(DATA.format(sections=sections, a=types[0], b=types[1]))
    assert read_structures(path, elements)[0].get_chemical_symbols() == expected


@pytest.mark.parametrize(
    ("sections", "elements", "message"),
    [
        ("", None, "the element of atom type 1 is unknown"),
        ("\nMasses\n\n1 57.3\n2 51.9961\n", None, r"atom type 1 is unknown \(label none, mass 57.3\)"),
        ("", ["Ni"], "has 2 atom types"),
        ("", ["Ni", "Zz"], "Zz is not an element"),
    ],
)
def test_types_without_an_element_are_refused(tmp_path, sections, elements, message):
    path = tmp_path / "hand.data"
    path.write_text(DATA.format(sections=sections, a=1, b=2))
    with pytest.raises(StructureError, match=message):
        read_structures(path, elements)


def test_pymatgen_structures_are_read_as_pymatgen_writes_them(tmp_path):
    structure = Structure(Lattice.cubic(2.88), ["Ni2+", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / "a.json").write_text(json.dumps(structure.as_dict()))
    read = read_structures(tmp_path / "a.json")[0]
    assert read.get_chemical_symbols() == ["Ni", "Al"]
    assert to_pymatgen(read).matches(from_and_to(structure))
    disordered = Structure(Lattice.cubic(2.88), [{"Ni": 0.5, "Al": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="ordered"):
        from_pymatgen(disordered)


def from_and_to(structure: Structure) -> Structure:
    return to_pymatgen(from_pymatgen(structure))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.97])
@pytest.mark.parametrize("name", [*MANY, "a.vasp", "a.lmp"])
def test_a_file_cut_short_is_an_error(tmp_path, name, share):
    path = tmp_path / name
    write_structures(path, _structures(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StructureError, match=r"cut short|holds no structure|is this a LAMMPS data file"):
        read_structures(path)


@pytest.mark.parametrize("name", [*MANY, *SINGLE])
def test_a_file_of_something_else_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"# this is\nnot a structure at all\n\x00\x01\n")
    with pytest.raises(StructureError, match=name):
        read_structures(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pdf", "structure", "a.cif.gz", "notes.txt"])
def test_unknown_formats_are_refused(tmp_path, name):
    with pytest.raises(StructureError, match="stands for no structure format"):
        file_format(tmp_path / name)
    with pytest.raises(StructureError, match="stands for no structure format"):
        write_structures(tmp_path / name, bulk("Ni"))


def test_bad_requests_say_what_to_do(tmp_path):
    with pytest.raises(StructureError, match="no such file"):
        read_structures(tmp_path / "missing.extxyz")
    with pytest.raises(StructureError, match="no structures to write"):
        write_structures(tmp_path / "a.extxyz", [])
    with pytest.raises(StructureError, match=r"holds one structure, got 2; use \.extxyz"):
        write_structures(tmp_path / "POSCAR", _structures(2))
    with pytest.raises(StructureError, match="choose a folder"):
        write_structures(tmp_path / "missing" / "a.extxyz", bulk("Ni"))


def test_disordered_cif_sites_are_refused(tmp_path):
    (tmp_path / "a.cif").write_text(
        "data_x\n_cell_length_a 3\n_cell_length_b 3\n_cell_length_c 3\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\n"
        "Ni1 Ni 0 0 0 0.5\nFe1 Fe 0 0 0 0.5\n"
    )
    with pytest.raises(StructureError, match="ordered structure"):
        read_structures(tmp_path / "a.cif")


def test_coordinates_that_are_not_numbers_are_refused(tmp_path):
    atoms = bulk("Ni", cubic=True)
    atoms.positions[0, 0] = np.nan
    write_structures(tmp_path / "a.extxyz", atoms)
    with pytest.raises(StructureError, match="not finite"):
        read_structures(tmp_path / "a.extxyz")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.extxyz"
    write_structures(path, _structures(1))
    before = path.read_bytes()
    bad = bulk("Ni")
    bad.arrays["what"] = np.array([object()], dtype=object)
    with pytest.raises(StructureError, match="'what'"):
        write_structures(path, [bulk("Ni"), bad])
    assert path.read_bytes() == before
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.extxyz"]


def test_thousands_of_structures_are_written_quickly(tmp_path):
    frames = _structures(2) * 250
    started = time.process_time()
    write_structures(tmp_path / "a.extxyz", frames)
    assert time.process_time() - started < 5.0
    assert len((tmp_path / "a.extxyz").read_text().splitlines()) == 500 * 56
