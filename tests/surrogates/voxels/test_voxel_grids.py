"""Voxels against Eqs. 2 and 3 in plain NumPy, and what they do not depend on."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.voxels.descriptors import formula_values
from alloysmith.surrogates.voxels.environments import Environments, environments
from alloysmith.surrogates.voxels.voxel_grids import VoxelGrids, VoxelGridSettings, voxel_grids
from alloysmith.tests.surrogates.voxels.snapshots import ELEMENTS, snapshot
from ase import Atoms
from pydantic import ValidationError

KINDS = list(product(("outer", "inner"), ("environment", "voxel")))


def grids_of(structures: list[Atoms], **settings: Any) -> VoxelGrids:
    chosen = VoxelGridSettings.model_validate(settings)
    return voxel_grids(environments(structures, ELEMENTS, chosen.cutoff_ang), chosen)


def is_inside(point: np.ndarray, corner: np.ndarray, edges: np.ndarray) -> bool:
    """Eq. 2: 0 < k·u ≤ u·u for the three edges u ``[3, 3]`` of a voxel."""
    k = point - corner
    return all(0.0 < float(k @ u) <= float(u @ u) for u in edges)


def reference(grids: VoxelGrids, row: int) -> np.ndarray:
    """The grid of one atom, voxel by voxel and atom by atom."""
    settings, n = grids.settings, grids.settings.n_voxels
    low, edge = (part[0] for part in grids.boxes(np.array([row])))
    own = range(grids.found.starts[row], grids.found.starts[row + 1])
    voxel = edge / n
    drawn = np.zeros((grids.weights.shape[1], n, n, n))
    for place in product(range(n), repeat=3):
        corner = low + np.array(place) * voxel
        centre = corner + 0.5 * voxel
        for pair in own:
            point = grids.found.vectors[pair]
            counts = is_inside(point, low, np.diag(edge))
            if settings.sum_over == "voxel":
                counts = is_inside(point, corner, np.diag(voxel))
            if counts:
                squared = (((point - centre) / (0.5 * voxel)) ** 2).sum()  # in half edges of a voxel
                drawn[(slice(None), *place)] += grids.weights[pair] * np.exp(-squared / (2.0 * settings.gamma**2))
    return drawn


@pytest.mark.parametrize(("box", "sum_over"), KINDS)
def test_grids_are_those_of_the_equations(box: str, sum_over: str) -> None:
    grids = grids_of(
        [snapshot(1)], box=box, sum_over=sum_over, n_voxels=5, descriptors=["Z", "exp(-r) * (Z == 73)"], gamma=1.7
    )
    rows = np.array([7, 0, 12])
    drawn = grids.draw(rows)
    assert drawn.dtype == np.float32
    for k, row in enumerate(rows):
        expected = reference(grids, int(row))
        assert expected.max() > 1.0
        np.testing.assert_allclose(drawn[k], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_voxels", [4, 8, 16])
def test_each_atom_is_in_the_voxel_that_eq_2_finds(n_voxels: int) -> None:
    grids = grids_of([snapshot(3)], sum_over="voxel", n_voxels=n_voxels, gamma=1e9, descriptors=["1"])
    counts = grids.draw(np.arange(16)).sum(axis=(1, 2, 3, 4))
    np.testing.assert_array_equal(counts, np.diff(grids.found.starts))  # no atom is lost or counted twice


def test_faces_belong_to_the_voxel_below() -> None:
    points = np.array([[0.0, 0.0, 0.0], [2.0, 0.5, 0.5], [4.0, 4.0, 4.0], [0.0, 1.0, 1.0], [-4.0, 1.0, 1.0]])
    found = Environments(points, np.full(5, 73), np.array([0, 5]))
    settings = VoxelGridSettings(n_voxels=4, sum_over="voxel", gamma=1e9, descriptors=("1",))
    grids = VoxelGrids(settings, found, np.ones((5, 1)), 4.0 / (1.0 + 2e-6))
    low, edge = (part[0] for part in grids.boxes(np.array([0])))
    drawn = grids.draw(np.array([0]))[0, 0]
    for place in product(range(4), repeat=3):
        corner = low + np.array(place) * edge / 4
        expected = sum(is_inside(p, corner, np.diag(edge / 4)) for p in points)
        assert drawn[place] == expected, place
    assert drawn[1, 1, 1] == 1.0  # the origin is on the faces of eight voxels, and in the lowest one


def test_atoms_outside_the_outer_box_are_left_out() -> None:
    wide = grids_of([snapshot(5)], descriptors=["1"], sum_over="voxel", gamma=1e9)
    narrow = VoxelGrids(wide.settings, wide.found, wide.weights, 3.0)
    rows = np.arange(16)
    lost = np.add.reduceat((np.abs(wide.found.vectors) > 3.0 * (1 + 2e-6)).any(axis=1), wide.found.starts[:-1])
    assert lost.sum() > 0
    np.testing.assert_array_equal(narrow.draw(rows).sum(axis=(1, 2, 3, 4)), np.diff(wide.found.starts) - lost)


@pytest.mark.parametrize(("box", "sum_over"), KINDS)
def test_neither_place_nor_order_nor_cell_matters(box: str, sum_over: str) -> None:
    atoms = snapshot(2)
    settings = {"box": box, "sum_over": sum_over, "n_voxels": 6}
    rows = np.arange(16)
    plain = grids_of([atoms], **settings)
    expected = plain.draw(rows)
    moved = atoms.copy()
    moved.positions += [1.234, -7.7, 0.4]
    moved.wrap()
    order = np.random.default_rng(0).permutation(16)
    permuted = atoms[order]
    double = atoms.repeat((2, 1, 1))
    for other, of_other in ((moved, rows), (permuted, np.argsort(order)), (double, rows)):
        found = environments([other], ELEMENTS, 4.0)
        drawn = voxel_grids(found, plain.settings, plain.half_ang).draw(of_other)
        # a float64 sum in another order
        np.testing.assert_allclose(drawn, expected, rtol=2e-5, atol=2e-5)


def test_images_across_the_boundary_are_seen() -> None:
    atoms = Atoms("Ta2", positions=[[0.1, 2.0, 2.0], [5.9, 2.0, 2.0]], cell=[6.0, 9.0, 9.0], pbc=True)
    found = environments([atoms], ELEMENTS, 4.0)
    np.testing.assert_allclose(found.vectors, [[0, 0, 0], [-0.2, 0, 0], [0, 0, 0], [0.2, 0, 0]], atol=1e-12)
    alone = atoms.copy()
    alone.pbc = False
    assert len(environments([alone], ELEMENTS, 4.0).vectors) == 2


def test_the_inner_box_is_blind_to_scale_and_the_outer_one_is_not() -> None:
    atoms = snapshot(4)
    larger = atoms.copy()
    larger.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    for box, is_blind in (("inner", True), ("outer", False)):
        settings = VoxelGridSettings(box=box, cutoff_ang=4.0)
        wider = VoxelGridSettings(box=box, cutoff_ang=4.0 * 1.02)
        first = voxel_grids(environments([atoms], ELEMENTS, 4.0), settings)
        second = voxel_grids(environments([larger], ELEMENTS, 4.0 * 1.02), wider, first.half_ang * 1.01)
        same = np.allclose(first.draw(np.arange(16)), second.draw(np.arange(16)), rtol=1e-4, atol=1e-4)
        assert same is is_blind


def test_threads_change_nothing() -> None:
    grids = grids_of([snapshot(k) for k in range(3)])
    rows = np.arange(48)
    np.testing.assert_array_equal(grids.draw(rows, n_threads=1), grids.draw(rows, n_threads=2))


def test_formulas_are_arithmetic_on_numbers_of_the_atom() -> None:
    numbers, r = np.array([73, 41]), np.array([0.0, 2.0])
    np.testing.assert_allclose(formula_values("Z", numbers, r), [73, 41])
    np.testing.assert_allclose(formula_values("(Z == 73) + 0.5 * (r > 1)", numbers, r), [1.0, 0.5])
    np.testing.assert_allclose(formula_values("sqrt(mass)", numbers, r), np.sqrt([180.94788, 92.90637]))
    np.testing.assert_allclose(formula_values("where(r > 0, 1 / max(r, 1), -radius)", numbers, r), [-1.70, 0.5])
    np.testing.assert_allclose(formula_values("3", numbers, r), [3.0, 3.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Z +", "is no formula"),
        ("charge * Z", "'charge' in .* is not allowed; a formula has numbers, Z, mass, radius, r"),
        ("__import__('os').system('true')", "is not allowed"),
        ("Z.real", "is not allowed"),
        ("exp(Z, r, mass, 1)", "has 4 arguments"),
        ("True", "is not allowed"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VoxelGridSettings(descriptors=(text,))


def test_bad_input_is_told() -> None:
    with pytest.raises(SurrogateError, match="'1 / r' is inf for Z = "):
        grids_of([snapshot(0)], descriptors=["1 / r"])
    with pytest.raises(SurrogateError, match="has no Cu"):
        grids_of([Atoms("Cu2", positions=[[0, 0, 0], [2, 0, 0]], cell=[5, 5, 5], pbc=True)])
    broken = snapshot(0)
    broken.positions[3] = np.nan
    with pytest.raises(SurrogateError, match="NaN"):
        grids_of([broken])
    lonely = grids_of([Atoms("Ta2", positions=[[0, 0, 0], [2, 0, 0]], cell=[9, 9, 9], pbc=True)], box="inner")
    with pytest.raises(SurrogateError, match=r"atom 1 .* no volume within 4 Å.*raise cutoff_ang"):
        lonely.draw(np.array([1]))
