"""Fingerprints by symmetry functions: against plain loops, and what they must not depend on."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from alloysmith.errors import StructureError
from alloysmith.structures.lattice import parent_lattice
from alloysmith.structures.similarity.g_vectors import PUBLISHED, g_distance, g_vectors
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("Cr", "Fe", "Ni")


def _alloy(seed: int = 0, phase: str = "fcc", displacement_ang: float = 0.1) -> Atoms:
    rng = np.random.default_rng(seed)
    lattice = parent_lattice(phase, "tetragonal", (2, 2, 2))
    atoms = lattice.decorate(rng.choice([24, 26, 28], size=lattice.n_sites), 11.4)
    atoms.positions += rng.normal(0.0, displacement_ang, atoms.positions.shape)
    return atoms


def _by_loops(atoms: Atoms, elements: tuple[str, ...]) -> np.ndarray:
    """The definition, image by image and angle by angle."""
    s = PUBLISHED
    n = len(elements)
    pairs = [(a, b) for a in range(n) for b in range(a, n)]
    symbols = [elements.index(x) for x in atoms.get_chemical_symbols()]
    radii = [s.first_center_ang + k * (s.radial_cutoff_ang - s.first_center_ang) / s.n_radial for k in range(8)]
    means = [s.first_center_ang + k * (s.angular_cutoff_ang - s.first_center_ang) / 4 for k in range(4)]
    angles = [(k + 0.5) * np.pi / 8 for k in range(8)]
    vectors = np.zeros((len(atoms), s.size(n)))
    for i in range(len(atoms)):
        near = []
        for j, shift in product(range(len(atoms)), product((-2, -1, 0, 1, 2), repeat=3)):
            bond = atoms.positions[j] + np.array(shift) @ atoms.cell.array - atoms.positions[i]
            r = np.linalg.norm(bond)
            if 1e-8 < r < s.radial_cutoff_ang:
                for k, center in enumerate(radii):
                    cut = 0.5 * (1 + np.cos(np.pi * r / s.radial_cutoff_ang))
                    vectors[i, 8 * symbols[j] + k] += np.exp(-s.radial_width * (r - center) ** 2) * cut
            if 1e-8 < r < s.angular_cutoff_ang:
                near.append((symbols[j], bond, r))
        for a, (ka, va, ra) in enumerate(near):
            for kb, vb, rb in near[a + 1 :]:
                cosine = np.clip(va @ vb / (ra * rb), -1, 1)
                cut = np.prod([0.5 * (1 + np.cos(np.pi * r / s.angular_cutoff_ang)) for r in (ra, rb)])
                start = 8 * n + 32 * pairs.index((min(ka, kb), max(ka, kb)))
                for (p, mean), (q, angle) in product(enumerate(means), enumerate(angles)):
                    soft = 0.01 * np.sin(angle) ** 2
                    turn = 0.5 * (1 + cosine * np.cos(angle) + np.sqrt(1 - cosine**2 + soft) * np.sin(angle))
                    turn = (turn / (0.5 * (1 + np.sqrt(1 + soft)))) ** s.sharpness
                    radial = np.exp(-s.angular_width * (0.5 * (ra + rb) - mean) ** 2)
                    vectors[i, start + 8 * p + q] += 2 * turn * radial * cut
    return vectors


@pytest.mark.parametrize("elements", [ELEMENTS, None])
def test_vectors_equal_plain_loops(elements):
    atoms = _alloy()[:5]  # a vacancy-rich cell: every atom sees another neighbourhood
    blind = Atoms("Zn5", positions=atoms.positions, cell=atoms.cell, pbc=True)
    expected = _by_loops(atoms, ELEMENTS) if elements else _by_loops(blind, ("Zn",))
    assert np.abs(g_vectors(atoms, elements) - expected).max() < 1e-12
    assert expected.max() > 0.1


def test_vectors_have_the_published_length():
    assert g_vectors(_alloy(), ELEMENTS).shape == (16, 3 * 8 + 6 * 32)
    assert g_vectors(_alloy()).shape == (16, 8 + 32)


@pytest.mark.parametrize("displacement", [0.0, 0.1])
def test_rotation_shift_and_order_of_atoms_do_not_matter(displacement):
    atoms = _alloy(1, displacement_ang=displacement)
    rng = np.random.default_rng(5)
    turned = atoms[rng.permutation(len(atoms))]
    turned.rotate(37.0, (1, 2, 3), rotate_cell=True)
    turned.positions += rng.normal(size=3)
    turned.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ turned.cell.array)  # the same lattice
    turned.wrap()
    for is_blind in (False, True):
        assert g_distance(atoms, turned, is_blind=is_blind) < 1e-9


def test_a_supercell_repeats_the_vectors():
    atoms = _alloy(2)
    assert (
        np.abs(g_vectors(atoms.repeat((1, 1, 2)), ELEMENTS) - np.tile(g_vectors(atoms, ELEMENTS), (2, 1))).max() < 1e-10
    )


def test_another_ordering_differs_with_elements_only():
    atoms = _alloy(3)
    other = atoms.copy()
    other.numbers = np.random.default_rng(0).permutation(atoms.numbers)
    assert g_distance(atoms, other) > 0.1
    assert g_distance(atoms, other, is_blind=True) < 1e-12


def test_another_phase_is_far_away_whatever_the_elements():
    fcc = _alloy(4, displacement_ang=0.03)
    near, far = _alloy(5, displacement_ang=0.03), _alloy(4, "bcc", 0.03)
    assert g_distance(fcc, far, is_blind=True) > 5.0 * g_distance(fcc, near, is_blind=True)


def test_pairing_is_the_best_of_all():
    first, second = _alloy(6), _alloy(7)
    vectors = [g_vectors(atoms, ELEMENTS) for atoms in (first, second)]
    costs = np.linalg.norm(vectors[0][:, None] - vectors[1][None], axis=2)
    rng = np.random.default_rng(0)
    tried = min(costs[np.arange(16), rng.permutation(16)].mean() for _ in range(2000))
    assert costs.min(axis=1).mean() <= g_distance(first, second) <= tried
    assert g_distance(first, second) == pytest.approx(g_distance(second, first))


def test_many_triplets_are_summed_in_parts(monkeypatch):
    atoms = _alloy(8)
    whole = g_vectors(atoms, ELEMENTS)
    monkeypatch.setattr("alloysmith.structures.similarity.g_vectors._MAX_TRIPLETS", 7)
    assert np.abs(g_vectors(atoms, ELEMENTS) - whole).max() < 1e-12


def test_a_lone_atom_has_an_empty_neighbourhood():
    assert not g_vectors(Atoms("Ni", cell=np.eye(3) * 20, pbc=True), ("Ni",)).any()


def test_what_cannot_be_compared_is_refused():
    nickel = bulk("Ni", cubic=True)
    with pytest.raises(StructureError, match="4 and 1 atoms"):
        g_distance(nickel, bulk("Ni"))
    with pytest.raises(StructureError, match="holds Ni"):
        g_vectors(nickel, ("Fe",))
    with pytest.raises(StructureError, match="periodic cell"):
        g_vectors(Atoms("Ni"))
    on_top = nickel.copy()
    on_top.positions[1] = on_top.positions[0]
    with pytest.raises(StructureError, match="same place"):
        g_vectors(on_top)
    nowhere = nickel.copy()
    nowhere.positions[0] = np.nan
    with pytest.raises(StructureError, match="finite"):
        g_vectors(nowhere)
