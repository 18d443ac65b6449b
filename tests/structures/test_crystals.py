"""Crystals of constraints: named lattices, files, their smallest cell, and wrong input."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.structures.crystals import CrystalSettings
from alloysmith.structures.files import write_structures
from alloysmith.structures.smallest_cell import smallest_cell
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("keys", "n_atoms", "volume_ang3"),
    [
        ({"lattice": "fcc", "formula": "Ni", "a_ang": 3.5}, 1, 3.5**3 / 4),
        ({"lattice": "bcc", "formula": "Mo", "a_ang": 3.16}, 1, 3.16**3 / 2),
        ({"lattice": "hcp", "formula": "Ti", "a_ang": 2.9, "c_ang": 4.6}, 2, 2.9**2 * 4.6 * np.sqrt(0.75)),
        ({"lattice": "diamond", "formula": "Si", "a_ang": 5.4}, 2, 5.4**3 / 4),
        ({"lattice": "cesiumchloride", "formula": "NiAl", "a_ang": 2.9}, 2, 2.9**3),
        ({"lattice": "l12", "formula": "Ni3Al", "a_ang": 3.57}, 4, 3.57**3),
        ({"lattice": "l10", "formula": "CuAu", "a_ang": 3.9, "c_ang": 3.7}, 2, 3.9**2 * 3.7 / 2),
    ],
)
def test_named_lattices(keys: dict, n_atoms: int, volume_ang3: float) -> None:
    crystal = CrystalSettings(**keys)
    atoms = crystal.build()
    assert len(atoms) == n_atoms
    assert atoms.get_volume() == pytest.approx(volume_ang3)
    assert crystal.title == f"{keys['lattice']} {keys['formula']}"
    assert set(atoms.arrays) == {"numbers", "positions"}


def test_ordered_crystals_have_unlike_neighbours() -> None:
    ni3al = CrystalSettings(lattice="l12", formula="Ni3Al", a_ang=3.57).build().repeat(2)
    corner = int(np.flatnonzero(ni3al.symbols == "Al")[0])
    near = ni3al.get_distances(corner, range(len(ni3al)), mic=True) < 2.6
    assert set(ni3al.symbols[near & (np.arange(len(ni3al)) != corner)]) == {"Ni"}
    cuau = CrystalSettings(lattice="l10", formula="CuAu", a_ang=3.9, c_ang=3.7).build()
    assert np.ptp(cuau.positions[:, 2]) == pytest.approx(1.85)


def test_conventional_cell() -> None:
    assert len(CrystalSettings(lattice="fcc", formula="Ni", a_ang=3.5).build(is_conventional=True)) == 4
    assert len(CrystalSettings(lattice="hcp", formula="Ti", a_ang=2.9, c_ang=4.6).build(is_conventional=True)) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "either 'lattice'"),
        ({"lattice": "fcc", "file": "a.cif"}, "either 'lattice'"),
        ({"lattice": "fcc", "formula": "Ni"}, "needs 'formula' and 'a_ang'"),
        ({"lattice": "hcp", "formula": "Ti", "a_ang": 2.9}, "c_ang is needed"),
        ({"lattice": "fcc", "formula": "Ni", "a_ang": 3.5, "c_ang": 3.5}, "c_ang is needed"),
        ({"lattice": "fcc", "formula": "Ni", "a_ang": 3.5, "u": 0.3}, "u belongs to wurtzite"),
        ({"lattice": "fcc", "formula": "Xx", "a_ang": 3.5}, "cannot be put on"),
        ({"lattice": "rocksalt", "formula": "Ni", "a_ang": 3.5}, "cannot be put on"),
        ({"lattice": "l12", "formula": "NiAl", "a_ang": 3.5}, "write it like Ni3Al"),
        ({"lattice": "l10", "formula": "Ni3Al", "a_ang": 3.5, "c_ang": 3.5}, "write it like CuAu"),
        ({"lattice": "l12", "formula": "Xx3Al", "a_ang": 3.5}, "cannot be put on"),
        ({"lattice": "quasi", "formula": "Ni", "a_ang": 3.5}, "Input should be"),
        ({"lattice": "fcc", "formula": "Ni", "a_ang": -3.5}, "greater than 0"),
        ({"file": "a.cif", "formula": "Ni"}, "belongs to a named lattice"),
    ],
)
def test_wrong_keys_are_named(keys: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CrystalSettings(**keys)


def test_a_crystal_of_a_file(tmp_path: Path) -> None:
    atoms = bulk("Ni", "hcp", a=2.5, c=4.0)
    write_structures(tmp_path / "ni.extxyz", [bulk("Ni", "fcc", a=3.5), atoms.repeat((2, 1, 2))])
    crystal = CrystalSettings(file=tmp_path / "ni.extxyz", frame=1)
    assert crystal.title == "ni"
    assert len(crystal.build()) == 2
    assert len(crystal.build(is_conventional=True)) == 8
    with pytest.raises(ConfigError, match="has 2 structures, no 2"):
        CrystalSettings(file=tmp_path / "ni.extxyz", frame=2).build()
    with pytest.raises(ConfigError, match="there is no such file"):
        CrystalSettings(file=tmp_path / "other.extxyz").build()


def test_impossible_structures_are_refused(tmp_path: Path) -> None:
    slab = bulk("Ni", "fcc", a=3.5)
    slab.pbc = (True, True, False)
    write_structures(tmp_path / "slab.extxyz", slab)
    with pytest.raises(ConfigError, match="periodic in three directions"):
        CrystalSettings(file=tmp_path / "slab.extxyz").build()
    with pytest.raises(ConfigError, match=r"0\.247 Å apart"):
        CrystalSettings(lattice="fcc", formula="Ni", a_ang=0.35).build()


@settings(max_examples=25, deadline=None)
@given(
    lattice=st.sampled_from(["fcc", "bcc", "hcp", "diamond"]),
    repeat=st.tuples(*[st.integers(1, 3)] * 3),
    seed=st.integers(0, 2**16),
)
def test_supercells_are_reduced_without_turning(lattice: str, repeat: tuple[int, int, int], seed: int) -> None:
    atoms = bulk("Ni", lattice, a=3.5)
    rng = np.random.default_rng(seed)
    big = atoms.repeat(repeat)
    big.positions += rng.normal(size=3)
    big = big[rng.permutation(len(big))]
    big.wrap()
    small = smallest_cell(big)
    assert len(small) == len(atoms)
    assert np.linalg.det(small.cell.array) == pytest.approx(atoms.get_volume())
    # both lattices are the same, in the same orientation
    steps = small.cell.array @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    # and each atom of the supercell has its image in the small one
    scaled = (big.positions[:, None] - small.positions[None, :]) @ np.linalg.inv(small.cell.array)
    gaps = np.linalg.norm((scaled - np.round(scaled)) @ small.cell.array, axis=-1)
    assert (gaps.min(axis=1) < 1e-6).all()


def test_a_disordered_cell_stays_as_it_is() -> None:
    rattled = bulk("Ni", "fcc", a=3.5, cubic=True).repeat(2)
    rattled.rattle(0.01, seed=0)
    assert len(smallest_cell(rattled)) == 32
    alloy = bulk("Ni", "fcc", a=3.5, cubic=True).repeat(2)
    alloy.symbols[3] = "Mo"
    assert len(smallest_cell(alloy)) == 32


def test_only_what_is_relaxed_first_may_leave_out_its_lattice_constant() -> None:
    class Relaxed(CrystalSettings):
        is_relaxed_first: ClassVar[bool] = True

    for lattice, n_atoms in (("fcc", 4), ("bcc", 2), ("hcp", 2)):
        atoms = Relaxed(lattice=lattice, formula="Cu").build(is_conventional=True)
        assert len(atoms) == n_atoms
        assert atoms.get_volume() / n_atoms == pytest.approx(3.61**3 / 4)
    for keys in ({"lattice": "diamond", "formula": "C"}, {"lattice": "fcc", "formula": "Ni3"}):
        with pytest.raises(ValidationError, match="needs 'formula' and 'a_ang'"):
            Relaxed(**keys)
    with pytest.raises(ValidationError, match="no reference volume is known"):
        Relaxed(lattice="fcc", formula="Og")
    with pytest.raises(ValidationError, match="give both or none"):
        Relaxed(lattice="hcp", formula="Ti", c_ang=4.6)
