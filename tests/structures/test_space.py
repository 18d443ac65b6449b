"""The design space: allowed compositions, random structures, and finding structures on lattices again."""

from __future__ import annotations

import gzip
import io
from collections import Counter

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.settings import SystemSettings
from alloysmith.structures.space import DesignSpace, elemental_volume
from alloysmith.tests.strategies import design_spaces
from ase.build import bulk
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

NIFECR = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()


@given(design_spaces(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_structures_are_allowed_and_found_again(space, seed):
    rng = np.random.default_rng(seed)
    for lattice in space.lattices:
        occupation = space.random_occupation(rng, lattice)
        assert space.is_allowed(space.counts(occupation))
        atoms = space.atoms(lattice, occupation)
        assert atoms.get_volume() / len(atoms) == pytest.approx(space.volume(space.counts(occupation)))
        found, again = space.locate(atoms)
        assert found is lattice
        np.testing.assert_array_equal(again, occupation)


@given(
    st.sampled_from(("tetragonal", "cubic", "primitive")), st.sampled_from(("fcc", "bcc")), st.integers(0, 2**32 - 1)
)
@settings(max_examples=40, deadline=None)
def test_relaxed_turned_shifted_and_reordered_structures_are_found(kind, phase, seed):
    cell = {"kind": kind, "repeat": (2, 3, 4)}
    space = SystemSettings(elements=("Ni", "Fe", "Cr"), cell=cell).space()
    rng = np.random.default_rng(seed)
    lattice = space.lattice(phase)
    occupation = space.random_occupation(rng, lattice)
    atoms = space.atoms(lattice, occupation)
    atoms.rattle(0.1, rng=rng)
    strain = np.eye(3) + rng.uniform(-0.02, 0.02, (3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.uniform(-5.0, 5.0, 3)
    atoms.wrap()
    atoms.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.info.clear()
    found, again = space.locate(atoms)
    assert found is lattice
    assert lattice.canonical(again) == lattice.canonical(occupation)


def test_cell_vectors_may_be_named_in_another_order():
    lattice = NIFECR.lattice("fcc")
    occupation = NIFECR.random_occupation(np.random.default_rng(3), lattice)
    atoms = NIFECR.atoms(lattice, occupation)
    atoms.cell = atoms.cell[[2, 0, 1]]
    found, again = NIFECR.locate(atoms)
    assert found is lattice
    assert lattice.canonical(again) == lattice.canonical(occupation)


def test_the_phase_is_read_from_the_cell_where_nothing_says_it():
    for lattice in NIFECR.lattices:
        atoms = NIFECR.atoms(lattice, NIFECR.random_occupation(np.random.default_rng(0), lattice))
        atoms.info.clear()
        assert NIFECR.locate(atoms)[0] is lattice


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Ni", cubic=True).repeat((3, 3, 1)), "36 atoms do not fit the lattices, which have 54 sites"),
        (bulk("Cu", "fcc", a=3.6).repeat((6, 9, 1)), "Cu not in the design space"),
        (bulk("Ni", "fcc", a=3.5).repeat((6, 9, 1)), "not on the sites"),
    ],
)
def test_what_is_not_on_the_lattices_is_refused(atoms, message):
    with pytest.raises(StructureError, match=message):
        NIFECR.locate(atoms)


def test_a_structure_of_another_phase_or_without_order_is_refused():
    lattice = NIFECR.lattice("fcc")
    atoms = NIFECR.atoms(lattice, NIFECR.random_occupation(np.random.default_rng(0), lattice))
    with pytest.raises(StructureError, match="not on the sites"):
        NIFECR.locate(atoms, "bcc")
    scattered = atoms.copy()
    scattered.set_scaled_positions(np.random.default_rng(1).random((54, 3)))
    with pytest.raises(StructureError, match="not on the sites"):
        NIFECR.locate(scattered)
    atoms.positions[0, 0] = np.nan
    with pytest.raises(StructureError, match="not finite"):
        NIFECR.locate(atoms)


def test_published_structures_are_found_in_their_phase(shared_data):
    text = gzip.decompress((shared_data / "nifecr" / "localsearch_aug_val.extxyz.gz").read_bytes()).decode()
    frames = read(io.StringIO(text), ":", format="extxyz")
    for atoms in frames:
        phase = atoms.info.pop("phase")
        assert NIFECR.locate(atoms)[0].phase == phase


def test_compositions_are_drawn_uniformly():
    space = DesignSpace(
        ("Ni", "Fe", "Cr"), (parent_lattice("fcc", repeat=(2, 2, 1)),), (0.0, 0.25, 0.0), (0.5, 1.0, 1.0)
    )
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(space.random_counts(rng, space.lattices[0]).tolist()) for _ in range(22_000))
    allowed = [
        (a, b, 8 - a - b) for a in range(5) for b in range(2, 9 - a) if space.is_allowed(np.array([a, b, 8 - a - b]))
    ]
    assert sorted(drawn) == sorted(allowed)
    expected = 22_000 / len(allowed)
    chi_squared = sum((drawn[c] - expected) ** 2 / expected for c in allowed)
    assert chi_squared < len(allowed) - 1 + 5 * np.sqrt(2 * (len(allowed) - 1))


def test_volumes_follow_vegard_and_ase():
    assert elemental_volume("Ni") == pytest.approx(3.52**3 / 4)
    assert elemental_volume("Cr") == pytest.approx(2.88**3 / 2)
    assert elemental_volume("Ti") == pytest.approx(bulk("Ti").get_volume() / 2)
    assert elemental_volume("Mn") == pytest.approx(8.89**3 / 58)
    counts = np.array([27, 27, 0])
    mean = 0.5 * (elemental_volume("Ni") + elemental_volume("Fe"))
    assert NIFECR.volume(counts) == pytest.approx(mean)
    assert NIFECR.volume(np.repeat([0, 1], 27).astype(np.int8)) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"elements": ("Ni", "Ni")}, "distinct"),
        ({"elements": ("Ni", "Xx")}, "unknown element 'Xx'"),
        ({"elements": ("Ni", "Ga")}, "no reference volume is known for Ga"),
        ({"elements": ("Ni", "Fe"), "max_fraction": 0.4}, "no composition of 54 sites"),
        ({"elements": ("Ni", "Fe"), "min_fraction": 0.6}, "no composition of 54 sites"),
        ({"elements": ("Ni", "Fe"), "min_fraction": {"Ni": 0.501}, "max_fraction": {"Ni": 0.502}}, "larger cell"),
        ({"elements": ("Ni", "Fe"), "min_fraction": {"Cr": 0.1}}, "min_fraction names Cr"),
        ({"elements": ("Ni", "Fe"), "min_fraction": 0.5, "max_fraction": 0.4}, "0 ≤ min_fraction ≤ max_fraction"),
        ({"elements": ("Ni", "Fe"), "volumes": {"Ni": -1.0}}, "positive"),
        ({"elements": ("Ni", "Fe"), "phases": ("fcc", "fcc")}, "one lattice for each phase"),
        ({"elements": ("Ni", "Fe"), "cell": {"repeat": (3, 3, 0)}}, "positive integers"),
        ({"elements": ("Ni", "Fe"), "cells": {}}, "cells"),
    ],
)
def test_impossible_systems_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SystemSettings(**settings)


def test_volumes_and_bounds_of_the_settings_reach_the_space():
    space = SystemSettings(
        elements=("Ni", "Ga"), phases=("bcc",), max_fraction={"Ga": 0.25}, volumes={"Ga": 19.6}
    ).space()
    assert space.volumes == (pytest.approx(3.52**3 / 4), 19.6)
    assert space.max_fraction == (1.0, 0.25)
    assert space.min_fraction == (0.0, 0.0)
    assert space.phases == ("bcc",)


def test_counts_that_do_not_fill_the_cell_are_refused():
    with pytest.raises(StructureError, match="do not fill 54 sites"):
        NIFECR.random_occupation(np.random.default_rng(0), NIFECR.lattices[0], np.array([10, 10, 10]))
    with pytest.raises(StructureError, match="not in the design space"):
        SystemSettings(elements=("Ni",), phases=("fcc",)).space().lattice("bcc")
