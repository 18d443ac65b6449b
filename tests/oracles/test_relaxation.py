"""Relaxation and single points, the spring model, and the quasi-Newton estimate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from alloysmith.oracles.base import FailureKind, OracleError, Request, WarmStart
from alloysmith.oracles.cell_frame import CellFrame
from alloysmith.oracles.potentials import WheelPotentialSettings
from alloysmith.oracles.preconditioner import SpringModel
from alloysmith.oracles.quasi_newton import InverseHessian
from alloysmith.oracles.relaxation import RelaxationSettings, displacements
from alloysmith.oracles.single_point import SinglePointSettings
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("cell", ["fixed", "isotropic", "full"])
def test_what_is_free_relaxes_and_nothing_else(
    cell: str, nifecr: WheelPotentialSettings, make_alloy: Callable[..., Atoms]
) -> None:
    atoms = make_alloy(seed=1)
    oracle = RelaxationSettings(potential=nifecr, cell=cell, max_force_ev_ang=1e-4, max_stress_gpa=1e-3).build()
    label = oracle.evaluate(Request("x", atoms, "fcc"))
    oracle.close()
    single = SinglePointSettings(potential=nifecr).build()
    before, after = (single.evaluate(Request("x", each)).values for each in (atoms, label.atoms))
    single.close()
    assert after["energy_ev"] < before["energy_ev"]
    assert label.values["energy_ev"] == pytest.approx(after["energy_ev"], abs=1e-9)
    assert np.abs(after["forces_ev_ang"]).max() <= 1e-4
    stress_gpa = np.array(after["stress_ev_ang3"]) * 160.21766208
    shape = label.atoms.cell.array / label.atoms.get_volume() ** (1 / 3)
    is_shape_kept = np.allclose(shape, atoms.cell.array / atoms.get_volume() ** (1 / 3), atol=1e-9)
    if cell == "fixed":
        assert label.atoms.get_volume() == pytest.approx(atoms.get_volume(), abs=1e-9)
    elif cell == "isotropic":
        assert abs(after["pressure_gpa"]) <= 1e-3
        assert is_shape_kept
    else:
        assert np.abs(stress_gpa).max() <= 1e-3
        assert not is_shape_kept


def test_displacements_are_those_of_atoms_and_not_of_the_cell() -> None:
    before = bulk("Ni", cubic=True, a=3.5).repeat(2)
    after = before.copy()
    after.positions[3] += [0.0, 0.3, -0.4]
    after.positions += 0.7
    after.wrap()
    after.set_cell(
        after.cell.array @ np.array([[1.02, 0.01, 0.0], [0.01, 0.99, 0.0], [0.0, 0.0, 1.01]]), scale_atoms=True
    )
    moved_ang = displacements(before, after)
    vector = np.array([0.0, 0.3, -0.4]) @ np.array([[1.02, 0.01, 0.0], [0.01, 0.99, 0.0], [0.0, 0.0, 1.01]])
    share = 1.0 / len(before)  # the mean that is taken off
    expected = np.full(len(before), share * np.linalg.norm(vector))
    expected[3] = (1.0 - share) * np.linalg.norm(vector)
    np.testing.assert_allclose(moved_ang, expected, atol=1e-12)


def test_a_relaxation_tells_how_far_atoms_moved_from_where_they_were_asked_for(
    nifecr: WheelPotentialSettings, make_alloy: Callable[..., Atoms]
) -> None:
    atoms = make_alloy(seed=1)
    oracle = RelaxationSettings(potential=nifecr, max_force_ev_ang=1e-5).build()
    cold = oracle.evaluate(Request("x", atoms))
    warm = oracle.evaluate(Request("x", atoms, warm_start=WarmStart(cold.atoms, {})))
    pure = oracle.evaluate(Request("x", bulk("Ni", cubic=True, a=3.4).repeat(2)))
    oracle.close()
    assert 0.01 < cold.values["rms_displacement_ang"] < cold.values["max_displacement_ang"] < 0.3
    for name in ("rms_displacement_ang", "max_displacement_ang"):
        assert warm.values[name] == pytest.approx(cold.values[name], abs=1e-4)
        assert pure.values[name] < 1e-4


def test_a_relaxation_ends_below_its_force_limit_or_with_its_force_calls(
    nifecr: WheelPotentialSettings, make_alloy: Callable[..., Atoms]
) -> None:
    atoms = make_alloy(seed=1, rattle_ang=0.15)
    patient = RelaxationSettings(potential=nifecr, cell="full", max_force_ev_ang=1e-6)
    oracle = patient.build()
    label = oracle.evaluate(Request("x", atoms))
    oracle.close()
    assert label.details["n_force_calls"] > 10
    assert label.details["max_force_ev_ang"] <= 1e-6
    hasty = patient.model_copy(update={"max_force_calls": 10}).build()
    with pytest.raises(OracleError, match="after 10 force calls") as caught:
        hasty.evaluate(Request("x", atoms))
    hasty.close()
    assert caught.value.kind is FailureKind.NOT_CONVERGED
    assert caught.value.details["n_calls"] == 10


def test_an_evaluation_refuses_what_is_no_structure(
    nifecr: WheelPotentialSettings, make_alloy: Callable[..., Atoms]
) -> None:
    oracle = SinglePointSettings(potential=nifecr).build()
    atoms = make_alloy(seed=1)
    atoms.positions[0] = atoms.positions[1]
    with pytest.raises(OracleError) as caught:
        oracle.evaluate(Request("x", atoms))
    oracle.close()
    assert caught.value.kind is FailureKind.BAD_STRUCTURE


def test_spring_model_is_a_positive_inverse_with_the_bulk_modulus_it_is_told() -> None:
    atoms = bulk("Ni", cubic=True, a=(4.0 * 1.0) ** (1 / 3)).repeat(2)
    model = SpringModel(atoms.get_scaled_positions(), atoms.cell.array)
    forces = np.random.default_rng(0).normal(size=(len(atoms), 3))
    other = np.random.default_rng(1).normal(size=(len(atoms), 3))
    assert float((forces * model.solve(forces)).sum()) > 0.0
    assert float((other * model.solve(forces)).sum()) == pytest.approx(float((forces * model.solve(other)).sum()))


def test_quasi_newton_learns_what_it_was_shown() -> None:
    atoms = bulk("Ni", cubic=True, a=(4.0 * 1.0) ** (1 / 3)).repeat(2)
    model = SpringModel(atoms.get_scaled_positions(), atoms.cell.array)
    inverse = InverseHessian(model, np.eye(3)[None], 1.0, 32.0, 32)
    rng = np.random.default_rng(0)
    step = rng.normal(size=97)
    change = 3.0 * step + 0.1 * rng.normal(size=97)
    inverse.update(step, change)
    np.testing.assert_allclose(inverse.apply(change), step, atol=1e-9)  # the secant equation
    inverse.update(step, -change)  # negative curvature is not learnt
    np.testing.assert_allclose(inverse.apply(change), step, atol=1e-9)


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=50, deadline=None)
def test_lammps_frame_holds_the_same_lattice(seed: int, is_left_handed: bool) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3.0, 12.0, 3)) + rng.uniform(-3.0, 3.0, (3, 3))
    if (np.linalg.det(cell) < 0.0) != is_left_handed:
        cell = cell[[1, 0, 2]]
    if abs(np.linalg.det(cell)) < 1.0:
        return
    frame = CellFrame.of_cell(cell)
    box, rotation = frame.box, frame.rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.all(np.diag(box) > 0.0)
    assert np.allclose(box, np.tril(box))
    assert abs(box[1, 0]) <= 0.501 * box[0, 0]
    assert abs(box[2, 0]) <= 0.501 * box[0, 0]
    assert abs(box[2, 1]) <= 0.501 * box[1, 1]
    combination = (box @ rotation) @ np.linalg.inv(cell)  # whole numbers of lattice vectors
    np.testing.assert_allclose(combination, np.round(combination), atol=1e-9)
    assert abs(np.linalg.det(combination)) == pytest.approx(1.0)
    positions = rng.uniform(-30.0, 30.0, (10, 3))
    shift = (frame.wrapped(positions) @ rotation - positions) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-8)
