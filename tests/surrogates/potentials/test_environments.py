"""Features of environments, and choices spread over them."""

from __future__ import annotations

import numpy as np
from alloysmith.surrogates.potentials.environments import environment_features, farthest_points
from ase import Atoms
from ase.build import bulk

ELEMENTS, CUTOFF = ("Ni", "Mo"), 5.0


def _alloy(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Ni", cubic=True).repeat(2)
    atoms.symbols[rng.permutation(len(atoms))[:8]] = "Mo"
    atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
    return atoms


def test_features_do_not_depend_on_how_a_structure_is_written() -> None:
    atoms = _alloy(0)
    turned = atoms.copy()
    turned.rotate(37.0, (1.0, 2.0, 3.0), rotate_cell=True)
    others = [turned, atoms[np.random.default_rng(1).permutation(len(atoms))], atoms.repeat((2, 1, 1))]
    (expected,) = environment_features([atoms], ELEMENTS, CUTOFF)
    assert np.abs(expected).max() > 1.0
    for row in environment_features(others, ELEMENTS, CUTOFF):
        np.testing.assert_allclose(row, expected, rtol=1e-10, atol=1e-12)


def test_features_tell_order_and_strain_apart() -> None:
    strained = _alloy(0)
    strained.set_cell(strained.cell.array * 1.02, scale_atoms=True)
    rows = environment_features([_alloy(0), _alloy(3), strained], ELEMENTS, CUTOFF)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert distances[np.triu_indices(3, 1)].min() > 0.05


def test_each_choice_is_the_farthest_from_what_is_known() -> None:
    line = np.array([[0.0], [1.0], [2.0], [5.0], [10.0]])
    assert farthest_points(line, 3, known=np.array([[0.0]])) == [4, 3, 2]
    assert farthest_points(line, 2) == [0, 4]


def test_equal_structures_are_chosen_once() -> None:
    assert farthest_points(np.array([[0.0], [1.0], [1.0], [0.0]]), 4) == [0, 1]
    assert farthest_points(np.zeros((0, 3)), 2) == []
