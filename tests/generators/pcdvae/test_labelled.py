"""What is read from labelled structures, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.generators.pcdvae.labelled import CrystalDataSettings, labelled_crystals
from alloysmith.structures.files import read_structures
from alloysmith.tests.generators.pcdvae.small import alloys
from ase import Atoms

DROPPING = CrystalDataSettings(on_bad_row="drop")


def test_elements_phases_and_values_are_those_of_the_data() -> None:
    rows = alloys()
    data = labelled_crystals(rows, CrystalDataSettings())
    assert data.elements == ("Cr", "Fe", "Ni")
    assert data.phases == ("bcc", "fcc")
    assert [data.phases[c.phase] for c in data.crystals] == [a.info["phase"] for a in rows]
    assert [c.value for c in data.crystals] == [a.info["bulk_modulus_gpa"] for a in rows]
    assert [[data.elements[t] for t in c.types] for c in data.crystals] == [list(a.symbols) for a in rows]


def test_phases_that_nobody_states_are_found() -> None:
    rows = alloys()
    for atoms in rows:
        del atoms.info["phase"]
    data = labelled_crystals(rows, CrystalDataSettings())
    assert [data.phases[c.phase] for c in data.crystals] == ["fcc", "bcc"] * 3


def test_rows_without_the_property_or_with_a_failure_are_left_out() -> None:
    rows = alloys(5)
    rows[1].info.pop("bulk_modulus_gpa")
    rows[2].info["bulk_modulus_gpa"] = float("nan")
    rows[3].info["failure"] = "left_phase"
    data = labelled_crystals(rows, CrystalDataSettings())
    assert (len(data.crystals), data.n_unlabelled) == (2, 3)


def not_a_number(atoms: Atoms) -> None:
    atoms.positions[3, 1] = np.nan


def on_top(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + [0.1, 0.0, 0.0]


def unknown(atoms: Atoms) -> None:
    atoms.symbols[0] = "Xe"


def no_cell(atoms: Atoms) -> None:
    atoms.pbc = False


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (not_a_number, "NaN or infinite"),
        (on_top, "two atoms are 0.1 Å apart"),
        (unknown, "holds Xe, but the model's elements are Ni, Fe, Cr"),
        (no_cell, "periodic cell"),
    ],
)
def test_bad_rows_are_named_or_dropped(spoil, reason: str) -> None:
    rows = alloys()
    spoil(rows[2])
    spoil(rows[5])
    elements = ("Ni", "Fe", "Cr")
    with pytest.raises(StructureError, match=rf"2 of 6 rows cannot be learnt from[\s\S]*row 2: [\s\S]*{reason}"):
        labelled_crystals(rows, CrystalDataSettings(elements=elements))
    data = labelled_crystals(rows, DROPPING.model_copy(update={"elements": elements}))
    assert len(data.crystals) == 4
    assert list(data.unusable) == [2, 5]
    assert reason in data.unusable[5]


def test_an_empty_phase_one_structure_and_an_unknown_property_are_refused() -> None:
    with pytest.raises(StructureError, match="no structure of phase hcp; the data has 3 bcc, 3 fcc"):
        labelled_crystals(alloys(), CrystalDataSettings(phases=("fcc", "bcc", "hcp")))
    with pytest.raises(StructureError, match="its phase is bcc, but the model's phases are fcc"):
        labelled_crystals(alloys(), CrystalDataSettings(phases=("fcc",)))
    with pytest.raises(StructureError, match="one usable structure; at least two"):
        labelled_crystals(alloys(1), CrystalDataSettings())
    with pytest.raises(StructureError, match="no row holds the property hardness_gpa; the rows hold bulk_modulus_gpa"):
        labelled_crystals(alloys(), CrystalDataSettings(property="hardness_gpa"))


def test_compositions_are_held_out_whole() -> None:
    rows = [atoms for atoms in alloys(5) for _ in range(3)]
    data = labelled_crystals(rows, CrystalDataSettings())
    training, held_out = data.split(0.4, seed=1)

    def shares(part) -> set[tuple[int, ...]]:
        return {tuple(np.bincount(c.types, minlength=3).tolist()) for c in part}

    assert len(training) + len(held_out) == 15
    assert len(shares(held_out)) == 2
    assert not shares(training) & shares(held_out)
    assert data.split(0.0, seed=1) == (data.crystals, ())
    large = [atoms * (2, 1, 1) for atoms in rows]
    training, held_out = labelled_crystals([*rows, *large], CrystalDataSettings()).split(0.4, seed=1)
    assert len(held_out) == 12  # both sizes of two compositions
    assert {len(c.types) for c in held_out} == {8, 16}
    with pytest.raises(StructureError, match="would hold out all compositions; the 3 structures have 1 "):
        labelled_crystals(rows[:3], CrystalDataSettings()).split(0.1, seed=1)


def test_published_alloys_are_read_as_they_are(shared_data: Path) -> None:
    rows = read_structures(shared_data / "nifecr" / "localsearch_aug_val.extxyz.gz")
    data = labelled_crystals(rows, CrystalDataSettings(property="bulk_modulus_GPa"))
    assert len(data.crystals) == len(rows)
    assert data.phases == ("bcc", "fcc")
