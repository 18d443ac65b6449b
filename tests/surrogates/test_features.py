"""Features see composition and order, and nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from alloysmith.structures.base import PHASES
from alloysmith.structures.lattice import ParentLattice, parent_lattice
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.chain_order import bond_angles, n_terms
from alloysmith.surrogates.features import SHELL_SIZES, OrderFeatures
from alloysmith.tests.strategies import occupied_lattices
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

ELEMENTS = ("Ni", "Fe", "Cr")
NUMBERS = np.array([28, 26, 24])
FEATURES = OrderFeatures(ELEMENTS)
LATTICES = tuple(parent_lattice(phase) for phase in PHASES)


def _atoms(lattice: ParentLattice, occupation: np.ndarray) -> Atoms:
    return lattice.decorate(NUMBERS[occupation], 11.4)


def _of(lattice: ParentLattice, occupation: np.ndarray) -> np.ndarray:
    return FEATURES.from_occupations(lattice, occupation[None])[0]


@settings(max_examples=60, deadline=None)
@given(occupied_lattices(), st.randoms(use_true_random=False))
def test_symmetry_operations_leave_features_alone(occupied, random):
    lattice, occupation = occupied
    operation = lattice.permutations[random.randrange(len(lattice.permutations))]
    np.testing.assert_allclose(_of(lattice, occupation[operation]), _of(lattice, occupation), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(occupied_lattices())
def test_occupations_and_atoms_give_the_same_features(occupied):
    lattice, occupation = occupied
    table = FEATURES.from_atoms([_atoms(lattice, occupation)])
    assert table.phases == (lattice.phase,)
    np.testing.assert_allclose(table.values[0], _of(lattice, occupation), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(occupied_lattices(max_repeat=2), st.tuples(*[st.integers(1, 2)] * 3))
def test_supercells_have_the_features_of_their_cell(occupied, repeat):
    lattice, occupation = occupied
    atoms = _atoms(lattice, occupation)
    supercell = atoms.repeat(repeat)
    supercell.info["phase"] = lattice.phase
    small, large = FEATURES.from_atoms([atoms, supercell]).values
    np.testing.assert_allclose(large, small, atol=1e-12)


@pytest.mark.parametrize("lattice", LATTICES, ids=PHASES)
def test_order_of_sites_origin_and_orientation_do_not_matter(lattice):
    rng = np.random.default_rng(5)
    atoms = _atoms(lattice, rng.integers(3, size=lattice.n_sites).astype(np.int8))
    other = atoms[rng.permutation(len(atoms))]
    other.info["phase"] = lattice.phase
    other.rotate(33.0, (1, 2, 3), rotate_cell=True)
    other.translate((0.3, 1.1, -0.4))
    a, b = OrderFeatures(ELEMENTS, lattices=LATTICES).from_atoms([atoms, other]).values
    np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("lattice", LATTICES, ids=PHASES)
def test_relaxed_structures_keep_their_features(lattice):
    rng = np.random.default_rng(6)
    ideal = _atoms(lattice, rng.integers(3, size=lattice.n_sites).astype(np.int8))
    relaxed = ideal.copy()
    relaxed.set_cell(ideal.cell.array * 1.02, scale_atoms=True)
    relaxed.positions += rng.normal(scale=0.03, size=relaxed.positions.shape)
    relaxed.wrap()
    on_sites = OrderFeatures(ELEMENTS, lattices=LATTICES).from_atoms([ideal, relaxed]).values
    np.testing.assert_array_equal(on_sites[0], on_sites[1])
    by_rank = FEATURES.from_atoms([ideal, relaxed]).values  # some neighbours change shells
    assert np.abs(by_rank[0] - by_rank[1]).max() < 0.02
    np.testing.assert_array_equal(by_rank[0][:3], by_rank[1][:3])


def test_b2_order_has_the_extreme_pair_excess():
    lattice = parent_lattice("bcc", "cubic", (2, 2, 2))
    occupation = np.tile(np.array([0, 1], dtype=np.int8), 8)
    features = OrderFeatures(("Ni", "Al"), 3, has_chains=False).from_occupations(lattice, occupation[None])[0]
    np.testing.assert_allclose(features, [0.5, 0.5, 0.25, -0.25, -0.25])


@pytest.mark.parametrize("phase", PHASES)
def test_chains_equal_their_definition(phase):
    """Third moments over all pairs of bonds, summed one by one."""
    lattice = parent_lattice(phase, "cubic", (2, 2, 2))
    occupation = np.random.default_rng(7).integers(2, size=lattice.n_sites).astype(np.int8)
    found = OrderFeatures(("Ni", "Fe"), 0).from_occupations(lattice, occupation[None])[0, 2:]
    spin = (np.array([1.0, -1.0]) / np.sqrt(2.0))[occupation]
    spin = spin - spin.mean()
    table = lattice.neighbour_table(1)[0]
    reference = parent_lattice(phase, "cubic", (4, 4, 4))
    offset = reference.scaled_positions[reference.neighbour_table(1)[0][0]] - reference.scaled_positions[0]
    bonds = offset - np.rint(offset)
    cosine = np.round(bonds @ bonds.T / (bonds[0] @ bonds[0]), 6)
    for angle, value in enumerate(np.unique(cosine)[-2::-1]):
        chains = [
            spin[site] * spin[table[site, a]] * spin[table[site, b]]
            for site, a, b in product(range(lattice.n_sites), *[range(len(bonds))] * 2)
            if cosine[a, b] == value
        ]
        assert found[angle] == pytest.approx(np.mean(chains), abs=1e-12)


def test_shells_and_angles_are_those_of_the_lattices():
    for lattice in LATTICES:
        assert tuple(t.shape[1] for t in lattice.neighbour_table(6)) == SHELL_SIZES[lattice.phase]
    assert bond_angles("fcc").sizes.tolist() == [48, 24, 48, 12]
    assert bond_angles("bcc").sizes.tolist() == [24, 24, 8]
    assert [n_terms(k) for k in (2, 3, 4)] == [1, 6, 18]


def test_large_cells_use_sparse_products_and_agree():
    small = parent_lattice("fcc", "cubic", (2, 2, 2))
    large = parent_lattice("fcc", "cubic", (6, 6, 4))
    occupation = np.random.default_rng(8).integers(3, size=small.n_sites).astype(np.int8)
    species = {
        tuple(np.round(p * 4).astype(int) % 4): s for p, s in zip(small.scaled_positions, occupation, strict=True)
    }
    steps = np.round(large.scaled_positions * np.array([12, 12, 8])).astype(int) % 4
    repeated = np.array([species[tuple(s)] for s in steps], dtype=np.int8)
    np.testing.assert_allclose(_of(large, repeated), _of(small, occupation), atol=1e-12)


def test_one_element_has_composition_only():
    features = OrderFeatures(("Ni",))
    assert features.n_features == 1
    assert features.from_occupations(LATTICES[0], np.zeros((2, 54), np.int8)).tolist() == [[1.0], [1.0]]


def test_groups_name_every_feature():
    assert FEATURES.groups.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 24
    assert len(FEATURES.groups) == FEATURES.n_features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.info.pop("phase"), "info"),
        (lambda a: a.numbers.__setitem__(0, 13), "holds Al"),
        (lambda a: a.set_pbc(False), "not a periodic crystal"),
        (lambda a: a.positions.__setitem__(0, np.nan), "not a periodic crystal"),
    ],
)
def test_unusable_structures_are_named(change, message):
    atoms = _atoms(LATTICES[0], np.zeros(54, np.int8))
    change(atoms)
    with pytest.raises(SurrogateError, match=message):
        OrderFeatures(ELEMENTS, lattices=LATTICES).from_atoms([atoms])
