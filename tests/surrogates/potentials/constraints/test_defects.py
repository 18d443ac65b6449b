"""Vacancies and surfaces: against relaxations in LAMMPS, their derivatives, and what is remembered between calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.oracles.crystal_relaxation import RelaxationLimits, relax_crystal
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.structures.crystals import CrystalSettings
from alloysmith.surrogates.potentials.constraints.base import RefreshedConstraint, ResidualConstraint
from alloysmith.surrogates.potentials.constraints.defects import DefectConstraint
from alloysmith.surrogates.potentials.constraints.settings import SurfaceConstraintSettings, VacancyConstraintSettings
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import CUTOFF_ANG, EmbeddedMorse, alloy_like
from ase import Atoms
from ase.build import bulk, fcc111

A_ANG = 3.5
NICKEL = CrystalSettings(lattice="fcc", formula="Ni", a_ang=A_ANG)
ELEMENTS = ("Ni", "Mo")


def vacancy(**changes: object) -> DefectConstraint:
    settings = VacancyConstraintSettings(crystal=NICKEL, energy_ev=1.5, repeat=(2, 2, 2), **changes)  # type: ignore
    built = settings.build(ELEMENTS, CUTOFF_ANG)
    assert isinstance(built, DefectConstraint)
    return built


def surface(**changes: object) -> DefectConstraint:
    settings = SurfaceConstraintSettings(crystal=NICKEL, energy_j_m2=2.0, miller=(1, 1, 1), **changes)  # type: ignore
    built = settings.build(ELEMENTS, CUTOFF_ANG)
    assert isinstance(built, DefectConstraint)
    return built


def relaxed_ev(engine: LammpsEngine, atoms: Atoms) -> float:
    limits = RelaxationLimits(force_ev_ang=1e-5, stress_ev_ang3=np.inf)
    end = relax_crystal(engine, atoms, cell_freedom="fixed", bulk_modulus_ev_ang3=1.0, limits=limits)
    return end.evaluation.energy_ev


def slope(one: DefectConstraint, index: tuple[int, int], step: float) -> float:
    """The figure's derivative by a parameter, every model relaxed."""
    found = []
    for sign in (1.0, -1.0):
        other = alloy_like()
        with torch.no_grad():
            other.table[index] += sign * step
        ((value, _),) = one.figures(other).values()
        found.append(value)
    return (found[0] - found[1]) / (2.0 * step)


def test_vacancy_is_that_of_lammps(model: EmbeddedMorse, lammps_engine: LammpsEngine) -> None:
    cell = bulk("Ni", "fcc", a=A_ANG, cubic=True).repeat(2)
    perfect_ev = lammps_engine.compute(cell).energy_ev
    del cell[-1]
    expected = relaxed_ev(lammps_engine, cell) - 31.0 / 32.0 * perfect_ev
    unrelaxed = lammps_engine.compute(cell).energy_ev - 31.0 / 32.0 * perfect_ev
    assert unrelaxed - expected > 0.01
    assert vacancy().figures(model)["vacancy_formation_energy_ev"] == (pytest.approx(expected, abs=1e-4), 1.5)
    found = vacancy(is_relaxed=False).figures(model)["vacancy_formation_energy_ev"][0]
    assert found == pytest.approx(unrelaxed, abs=1e-4)


def test_surface_is_that_of_lammps(model: EmbeddedMorse, lammps_engine: LammpsEngine) -> None:
    slab = fcc111("Ni", (1, 1, 8), a=A_ANG, vacuum=7.0, periodic=True)
    slab.set_initial_magnetic_moments(None)
    bulk_ev = lammps_engine.compute(bulk("Ni", "fcc", a=A_ANG, cubic=True)).energy_ev / 4.0
    area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
    expected = (relaxed_ev(lammps_engine, slab) - 8.0 * bulk_ev) / (2.0 * area) * 16.021766
    found = surface(min_thickness_ang=16.0).figures(model)["surface_energy_j_m2"][0]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("make", [vacancy, surface])
def test_the_gradient_is_that_of_the_relaxed_energy(make: type, model: EmbeddedMorse) -> None:
    one = make()
    (value, target), tolerance = next(iter(one.figures(model).values())), one.differences(model)[0].tolerance
    loss = one.loss(model)
    assert float(loss.detach()) == pytest.approx(((value - target) / tolerance) ** 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, model.table)
    for index in ((0, 0), (0, 1), (0, 4)):
        expected = 2.0 * (value - target) / tolerance**2 * slope(one, index, 1e-4)
        assert float(gradient[index]) == pytest.approx(expected, rel=2e-3)


def test_between_refreshes_the_energy_is_right_to_second_order(model: EmbeddedMorse) -> None:
    one = vacancy(refresh_every=100)
    one.loss(model)
    gaps = []
    for change in (0.02, 0.04):
        other = alloy_like()
        with torch.no_grad():
            other.table[0, 4] += change
        held = float(one.differences(other)[0].values.detach())
        gaps.append(held + 1.5 - one.figures(other)["vacancy_formation_energy_ev"][0])
    assert gaps[0] == pytest.approx(gaps[1] / 4.0, rel=0.1)
    assert 0.0 < gaps[1] < 0.02


def test_ions_are_refreshed_when_it_is_their_turn(model: EmbeddedMorse) -> None:
    one = vacancy(refresh_every=3)
    start = one.state()["positions"]
    with torch.no_grad():
        one.loss(model)
    np.testing.assert_array_equal(one.state()["positions"], start)  # only a training refreshes
    one.loss(model)
    first = one.state()["positions"]
    assert np.abs(first - start).max() > 0.01
    with torch.no_grad():
        model.table[0, 4] += 0.1
    for _ in range(2):
        one.residuals(model)
        np.testing.assert_array_equal(one.state()["positions"], first)
    one.figures(model)
    np.testing.assert_array_equal(one.state()["positions"], first)
    one.loss(model)
    assert np.abs(one.state()["positions"] - first).max() > 1e-4


def test_a_restored_constraint_goes_on_bit_by_bit(model: EmbeddedMorse) -> None:
    def losses(one: DefectConstraint, steps: range) -> list[float]:
        found = []
        for step in steps:
            other = alloy_like()
            with torch.no_grad():
                other.table[0, 0] += 1e-3 * step
            found.append(float(one.loss(other).detach()))
        return found

    whole = losses(vacancy(refresh_every=3), range(8))
    one = vacancy(refresh_every=3)
    begun = losses(one, range(4))
    other = vacancy(refresh_every=3)
    other.restore(one.state())
    assert begun + losses(other, range(4, 8)) == whole
    other.reset()
    assert losses(other, range(8)) == whole


def test_a_wild_model_keeps_the_last_ions_and_has_no_figure(model: EmbeddedMorse) -> None:
    one = vacancy(refresh_every=1)
    one.loss(model)
    held = one.state()["positions"]
    with torch.no_grad():
        model.table[0] = torch.tensor([-0.3, 1.5, 2.95, 3.0, 4.0])  # attracts without a bottom
    assert np.isfinite(float(one.loss(model).detach()))
    np.testing.assert_array_equal(one.state()["positions"], held)
    assert one.state()["counts"][1] == 1
    assert np.isnan(one.figures(model)["vacancy_formation_energy_ev"][0])


def test_the_protocols_are_met() -> None:
    assert isinstance(vacancy(), ResidualConstraint)
    assert isinstance(vacancy(), RefreshedConstraint)
