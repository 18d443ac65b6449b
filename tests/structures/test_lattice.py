"""Parent lattices: sites, shells and symmetry, against ASE and spglib."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import spglib
from alloysmith.errors import StructureError
from alloysmith.structures.lattice import ParentLattice, parent_lattice
from alloysmith.tests.strategies import lattices, occupied_lattices
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

SHELL_SIZES = {"fcc": [12, 6, 24, 12, 24, 8], "bcc": [8, 6, 12, 24, 8, 6]}


@pytest.mark.parametrize(
    ("phase", "kind", "n_sites", "n_operations"),
    [
        ("fcc", "tetragonal", 54, 54 * 16),
        ("bcc", "tetragonal", 54, 54 * 48),
        ("fcc", "cubic", 108, 108 * 48),
        ("bcc", "cubic", 54, 54 * 48),
        ("fcc", "primitive", 27, 27 * 48),
        ("bcc", "primitive", 27, 27 * 48),
    ],
)
def test_a_3x3x3_cell_has_its_sites_and_all_its_symmetry(phase, kind, n_sites, n_operations):
    lattice = parent_lattice(phase, kind, (3, 3, 3))
    assert lattice.n_sites == n_sites
    assert lattice.permutations.shape == (n_operations, n_sites)
    assert (np.sort(lattice.permutations, axis=1) == np.arange(n_sites)).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:spglib")
@pytest.mark.parametrize("kind", ["tetragonal", "cubic", "primitive"])
@pytest.mark.parametrize("phase", ["fcc", "bcc"])
def test_symmetry_is_that_which_spglib_finds(phase, kind):
    lattice = parent_lattice(phase, kind, (2, 3, 3))
    found = spglib.get_symmetry((lattice.unit_cell, lattice.scaled_positions, [1] * lattice.n_sites))
    images = np.einsum("oab,sb->osa", found["rotations"], lattice.scaled_positions) + found["translations"][:, None]
    difference = images[:, :, None] - lattice.scaled_positions
    sites = np.abs(difference - np.rint(difference)).sum(axis=-1).argmin(axis=-1)
    assert {tuple(row) for row in sites.tolist()} == {tuple(row) for row in lattice.permutations.tolist()}


def test_both_phases_share_the_fractional_sites_of_the_tetragonal_cell():
    fcc, bcc = parent_lattice("fcc"), parent_lattice("bcc")
    np.testing.assert_array_equal(fcc.scaled_positions, bcc.scaled_positions)
    assert fcc.unit_cell[2, 2] / fcc.unit_cell[0, 0] == pytest.approx(np.sqrt(2.0))
    assert bcc.unit_cell[2, 2] / bcc.unit_cell[0, 0] == pytest.approx(1.0)


@given(lattices())
@settings(max_examples=40, deadline=None)
def test_the_cell_has_the_volume_asked_for(lattice):
    atoms = lattice.decorate(["Ni"] * lattice.n_sites, 11.5)
    assert atoms.get_volume() / len(atoms) == pytest.approx(11.5)
    assert atoms.info["phase"] == lattice.phase


@given(lattices(), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_neighbour_tables_are_those_of_ase(lattice, n_shells):
    atoms = lattice.decorate(["Ni"] * lattice.n_sites, 1.0)
    radii = lattice.shell_distances(n_shells)
    i, j, d = neighbor_list("ijd", atoms, radii[-1] + 1e-3)
    for table, radius in zip(lattice.neighbour_table(n_shells), radii, strict=True):
        of_shell = np.abs(d - radius) < 1e-3
        expected = np.zeros((lattice.n_sites, lattice.n_sites), dtype=int)
        np.add.at(expected, (i[of_shell], j[of_shell]), 1)
        got = np.zeros_like(expected)
        np.add.at(got, (np.repeat(np.arange(lattice.n_sites), table.shape[1]), table.ravel()), 1)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("phase", ["fcc", "bcc"])
def test_shells_have_their_numbers_of_neighbours_and_mirrored_columns(phase):
    lattice = parent_lattice(phase)
    tables = lattice.neighbour_table(6)
    assert [table.shape[1] for table in tables] == SHELL_SIZES[phase]
    sites = np.arange(lattice.n_sites)
    for table in tables:
        for m in range(table.shape[1] // 2):  # column m leads along v, its mirror image back along -v
            np.testing.assert_array_equal(table[table[:, m], table.shape[1] - 1 - m], sites)


@given(occupied_lattices(), st.data())
@settings(max_examples=60, deadline=None)
def test_canonical_is_the_same_for_every_image(occupied, data):
    lattice, occupation = occupied
    operation = data.draw(st.integers(0, len(lattice.permutations) - 1))
    assert lattice.canonical(occupation[lattice.permutations[operation]]) == lattice.canonical(occupation)


@given(occupied_lattices(max_repeat=2))
@settings(max_examples=40, deadline=None)
def test_canonical_is_the_smallest_image(occupied):
    lattice, occupation = occupied
    assert lattice.canonical(occupation).endswith(min(occupation[p].tobytes() for p in lattice.permutations))


@given(occupied_lattices(n_elements=2, max_repeat=2), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_canonical_differs_for_what_is_not_an_image(occupied, seed):
    lattice, occupation = occupied
    other = np.random.default_rng(seed).permutation(occupation)
    is_image = (occupation[lattice.permutations] == other).all(axis=1).any()
    assert (lattice.canonical(other) == lattice.canonical(occupation)) == is_image


@pytest.mark.parametrize("fill", [0, 2])
def test_canonical_of_a_pure_element_and_of_one_impurity(fill):
    lattice = parent_lattice("fcc")
    pure = np.full(lattice.n_sites, fill, dtype=np.int8)
    keys = []
    for site in (0, 17, 53):
        impure = pure.copy()
        impure[site] = 1
        keys.append(lattice.canonical(impure))
    assert len({*keys}) == 1
    assert lattice.canonical(pure) != keys[0]


def test_lattices_have_keys_of_their_own():
    occupation = np.zeros(54, dtype=np.int8)
    assert parent_lattice("fcc").canonical(occupation) != parent_lattice("bcc").canonical(occupation)


def test_a_batch_gives_the_keys_of_its_rows():
    lattice = parent_lattice("bcc")
    rows = np.random.default_rng(0).integers(3, size=(40, 54)).astype(np.int8)
    assert lattice.canonical_batch(rows) == [lattice.canonical(row) for row in rows]


def test_a_canonical_form_takes_about_a_millisecond():
    rng = np.random.default_rng(0)
    for phase in ("fcc", "bcc"):
        lattice = parent_lattice(phase)
        rows = rng.integers(3, size=(50, 54)).astype(np.int8)
        lattice.canonical(rows[0])
        started = time.process_time()
        for row in rows:
            lattice.canonical(row)
        assert (time.process_time() - started) / len(rows) < 3e-3


def test_a_lattice_is_shared_and_pickles_to_itself():
    lattice = parent_lattice("fcc", repeat=[3, 3, 3])
    assert lattice is parent_lattice("fcc", "tetragonal", (3, 3, 3))
    assert pickle.loads(pickle.dumps(lattice)) is lattice
    assert lattice == ParentLattice("fcc", "tetragonal", (3, 3, 3))


def test_tables_cannot_be_changed():
    lattice = parent_lattice("fcc")
    for table in (lattice.scaled_positions, lattice.unit_cell, lattice.permutations, *lattice.neighbour_table(2)):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hcp",), "unknown phase 'hcp'"),
        (("fcc", "hexagonal"), "unknown kind of cell"),
        (("fcc", "cubic", (0, 1, 1)), "three positive integers"),
        (("fcc", "cubic", (1, 1)), "three positive integers"),
    ],
)
def test_impossible_lattices_are_refused(arguments, message):
    with pytest.raises(StructureError, match=message):
        parent_lattice(*arguments)


def test_a_wrong_number_of_atoms_is_refused():
    lattice = parent_lattice("fcc")
    with pytest.raises(StructureError, match="54 sites"):
        lattice.decorate(["Ni"] * 53, 11.0)
    with pytest.raises(StructureError, match=r"expected \[n, 54\]"):
        lattice.canonical(np.zeros(53, dtype=np.int8))
