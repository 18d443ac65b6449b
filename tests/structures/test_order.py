"""Short-range order: known crystals, random alloys, relaxed structures."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.order import pair_probabilities, pairs, warren_cowley, warren_cowley_of_atoms
from alloysmith.tests.strategies import occupied_lattices
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st


def test_l12_has_its_known_order():
    lattice = parent_lattice("fcc", "cubic", (2, 2, 2))
    occupation = np.tile([1, 0, 0, 0], 8).astype(
        np.int8
    )  # Ni3Al: every neighbour of an Al is a Ni, and its second an Al
    expected = [[1 / 9, -1 / 3, 1.0], [-1 / 3, 1.0, -3.0]]
    np.testing.assert_allclose(warren_cowley(lattice, occupation, 2, 2)[0], expected, atol=1e-12)


def test_b2_has_its_known_order():
    lattice = parent_lattice("bcc", "tetragonal", (2, 3, 2))
    occupation = np.tile([0, 1], 12).astype(np.int8)
    expected = [[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]]
    np.testing.assert_allclose(warren_cowley(lattice, occupation, 2, 2)[0], expected, atol=1e-12)


def test_a_random_alloy_has_none():
    lattice = parent_lattice("fcc", "cubic", (8, 8, 8))
    occupation = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [1024, 512, 512])).astype(np.int8)
    assert np.abs(warren_cowley(lattice, occupation, 3, 4)).max() < 0.08


def test_an_absent_element_has_no_order():
    lattice = parent_lattice("fcc")
    occupation = np.tile([0, 2], 27).astype(np.int8)
    parameters = warren_cowley(lattice, occupation, 3, 2)
    is_with_absent = [1 in pair for pair in pairs(3)]
    assert (parameters[..., is_with_absent] == 0.0).all()
    assert np.isfinite(parameters).all()


@given(occupied_lattices(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_pair_probabilities_are_shares_of_the_bonds_counted_one_by_one(occupied, n_shells):
    lattice, occupation = occupied
    got = pair_probabilities(lattice, occupation[None], 3, n_shells)[0]
    for shell, table in zip(got, lattice.neighbour_table(n_shells), strict=True):
        counts = dict.fromkeys(pairs(3), 0)
        for site, neighbours in enumerate(table.tolist()):
            for other in neighbours:
                a, b = sorted((int(occupation[site]), int(occupation[other])))
                counts[a, b] += 1
        np.testing.assert_allclose(shell, np.array([*counts.values()]) / table.size)


@given(occupied_lattices(), st.data())
@settings(max_examples=40, deadline=None)
def test_order_is_the_same_for_every_symmetry_image(occupied, data):
    lattice, occupation = occupied
    image = occupation[lattice.permutations[data.draw(st.integers(0, len(lattice.permutations) - 1))]]
    of_both = warren_cowley(lattice, np.stack([occupation, image]), 3, 2)
    np.testing.assert_allclose(of_both[0], of_both[1], atol=1e-12)


@pytest.mark.parametrize("shells", ["rank", "distance"])
@pytest.mark.parametrize("phase", ["fcc", "bcc"])
def test_a_relaxed_structure_has_the_order_of_its_sites(phase, shells):
    lattice = parent_lattice(phase, "cubic", (3, 3, 3))
    occupation = np.random.default_rng(1).integers(3, size=lattice.n_sites).astype(np.int8)
    atoms = lattice.decorate(np.array(["Ni", "Fe", "Cr"])[occupation], 11.5)
    atoms.rattle(0.04, seed=2)
    atoms = atoms[np.random.default_rng(3).permutation(len(atoms))]
    got = warren_cowley_of_atoms(atoms, phase, 3, ["Ni", "Fe", "Cr"], shells=shells)
    np.testing.assert_allclose(got, warren_cowley(lattice, occupation, 3, 3)[0], atol=1e-12)


def test_ranks_follow_a_strain_that_distances_do_not():
    lattice = parent_lattice("bcc", "cubic", (4, 4, 4))
    occupation = np.random.default_rng(1).integers(2, size=lattice.n_sites).astype(np.int8)
    atoms = lattice.decorate(np.array(["Fe", "Al"])[occupation], 12.0)
    exact = warren_cowley(lattice, occupation, 2, 2)[0]
    atoms.set_cell(atoms.cell.array @ np.diag([1.04, 1.04, 0.96]), scale_atoms=True)
    np.testing.assert_allclose(warren_cowley_of_atoms(atoms, "bcc", 2, ["Fe", "Al"]), exact, atol=1e-12)


def test_elements_default_to_those_present_in_alphabetical_order():
    atoms = bulk("NiAl", "cesiumchloride", a=2.88)
    np.testing.assert_allclose(warren_cowley_of_atoms(atoms, "bcc", 1), [[1.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    ("atoms", "elements", "message"),
    [
        (bulk("Ni"), ["Fe"], "the structure holds Ni"),
        (bulk("Ni")[:0], None, "periodic cell"),
    ],
)
def test_what_has_no_order_is_refused(atoms, elements, message):
    with pytest.raises(StructureError, match=message):
        warren_cowley_of_atoms(atoms, "fcc", 1, elements)


def test_no_shell_is_asked_for():
    with pytest.raises(StructureError, match="at least 1"):
        parent_lattice("fcc").neighbour_table(0)
