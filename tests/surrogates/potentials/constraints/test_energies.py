"""Rose's equation of state, equilibrium and energies, with a model of which everything is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from alloysmith.oracles.lammps_oracle import GPA_PER_EV_ANG3
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.constraints.base import Setting
from alloysmith.surrogates.potentials.constraints.elasticity import ElasticConstants
from alloysmith.surrogates.potentials.constraints.energies import (
    EnergyConstraint,
    EquilibriumConstraint,
    RoseConstraint,
    rose_energies,
)
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import EmbeddedMorse, alloy_like
from ase.build import bulk
from torch import Tensor, nn

A_ANG = 3.5
VOLUME_ANG3 = A_ANG**3 / 4.0
DEPTH_EV, MODULUS_GPA, BETA = 4.4, 190.0, 0.006
GRID = np.linspace(-0.1, 0.1, 21)


class RoseModel(PotentialModel):
    """The energy is Rose's equation of the volume, written out once more."""

    def __init__(self) -> None:
        super().__init__(("Ni",), 5.0)
        self.modulus_gpa = nn.Parameter(torch.tensor(MODULUS_GPA, dtype=torch.float64))

    def energies(self, batch: Batch) -> Tensor:
        x = (batch.volumes / batch.n_atoms / VOLUME_ANG3) ** (1.0 / 3.0) - 1.0
        alpha = torch.sqrt(9.0 * VOLUME_ANG3 * self.modulus_gpa / GPA_PER_EV_ANG3 / DEPTH_EV)
        bracket = 1.0 + alpha * x + BETA * (alpha * x) ** 3 * (2.0 * x + 3.0) / (x + 1.0) ** 2
        return -DEPTH_EV * bracket * torch.exp(-alpha * x) * batch.n_atoms

    def settings(self) -> Mapping[str, Any]:
        return {}


def targets(beta: float = BETA, depth_ev: float = DEPTH_EV) -> np.ndarray:
    return rose_energies(GRID, depth_ev=depth_ev, volume_ang3=VOLUME_ANG3, bulk_modulus_gpa=MODULUS_GPA, beta=beta)


def rose(targets_ev: np.ndarray, *, is_level_free: bool = False, form: str = "squared") -> RoseConstraint:
    return RoseConstraint(
        "rose",
        2.0,
        bulk("Ni", "fcc", a=A_ANG),
        GRID,
        targets_ev,
        Setting(("Ni",), 5.0),
        is_level_free=is_level_free,
        form=form,  # type: ignore[arg-type]
        tolerance_ev=0.01,
    )


def test_a_model_that_obeys_rose_has_no_residual() -> None:
    model = RoseModel()
    for form in ("squared", "norm"):
        one = rose(targets(), form=form)
        assert float(one.residuals(model).detach().abs().max()) < 1e-10
        assert float(one.loss(model).detach()) < 1e-10
    free = rose(targets() + DEPTH_EV, is_level_free=True)
    assert float(free.residuals(model).detach().abs().max()) < 1e-10
    assert float(rose(targets(beta=0.01)).loss(model).detach()) > 0.01
    assert float(rose(targets() + 0.1).loss(model).detach()) == pytest.approx(2.0 * 100.0)


def test_the_curvature_of_the_equation_is_the_bulk_modulus() -> None:
    h = 1e-4
    for beta in (0.0, 0.005, 0.05):
        below, at, above = rose_energies(
            np.array([-h, 0.0, h]), depth_ev=4.4, volume_ang3=11.0, bulk_modulus_gpa=190.0, beta=beta
        )
        assert at == pytest.approx(-4.4)
        assert above - below == pytest.approx(0.0, abs=1e-7)
        assert (above - 2.0 * at + below) / h**2 * GPA_PER_EV_ANG3 / (9.0 * 11.0) == pytest.approx(190.0, rel=1e-4)


def test_the_norm_is_that_of_the_paper() -> None:
    shift = 0.03 * np.arange(21)
    assert float(rose(targets() + shift, form="norm").loss(RoseModel()).detach()) == pytest.approx(
        2.0 * np.sqrt((shift**2).sum())
    )


def test_gradient_of_the_rose_loss() -> None:
    model, one, step = RoseModel(), rose(targets(beta=0.02)), 1e-3
    (gradient,) = torch.autograd.grad(one.loss(model), model.modulus_gpa)
    losses = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            model.modulus_gpa.fill_(MODULUS_GPA + sign * step)
        losses.append(float(one.loss(model).detach()))
    assert (losses[0] - losses[1]) / (2.0 * step) == pytest.approx(float(gradient), rel=1e-6)


def test_figures_of_the_equation_of_state() -> None:
    figures = rose(targets() + 0.01).figures(RoseModel())
    assert figures["rose_rmse_mev_per_atom"] == (pytest.approx(10.0), 0.0)
    assert figures["rose_middle_ev_per_atom"] == (pytest.approx(-DEPTH_EV), pytest.approx(-DEPTH_EV + 0.01))


def test_a_model_of_the_volume_alone_is_a_fluid() -> None:
    with torch.no_grad():
        found = ElasticConstants(bulk("Ni", "fcc", a=A_ANG), [(0, 0), (0, 1), (3, 3)], Setting(("Ni",), 5.0)).evaluate(
            RoseModel()
        )
    assert found.constants_gpa.tolist() == pytest.approx([MODULUS_GPA, MODULUS_GPA, 0.0], abs=1e-8)


def test_equilibrium_is_where_stress_and_forces_vanish(model: EmbeddedMorse, setting: Setting) -> None:
    def at(a_ang: float) -> EquilibriumConstraint:
        atoms = bulk("Ni", "fcc", a=a_ang)
        return EquilibriumConstraint(
            "e", 1.0, atoms, Setting(("Ni",), 5.0), stress_tolerance_gpa=0.5, force_tolerance_ev_ang=0.05
        )

    assert float(at(A_ANG).loss(RoseModel()).detach()) < 1e-16
    expected = []
    for a_ang in (A_ANG * 0.99 - 1e-4, A_ANG * 0.99 + 1e-4):
        x = np.array([a_ang / A_ANG - 1.0])
        expected.append(
            float(
                rose_energies(x, depth_ev=DEPTH_EV, volume_ang3=VOLUME_ANG3, bulk_modulus_gpa=MODULUS_GPA, beta=BETA)[0]
            )
        )
    slope = (expected[1] - expected[0]) / (((A_ANG * 0.99 + 1e-4) ** 3 - (A_ANG * 0.99 - 1e-4) ** 3) / 4.0)
    assert at(A_ANG * 0.99).figures(RoseModel())["pressure_gpa"][0] == pytest.approx(-slope * GPA_PER_EV_ANG3, rel=1e-6)

    rattled = bulk("Ni", "hcp", a=2.5, c=4.0).repeat((2, 1, 1))
    rattled.rattle(0.05, seed=1)
    one = EquilibriumConstraint("e", 1.0, rattled, setting, stress_tolerance_gpa=0.5, force_tolerance_ev_ang=0.05)
    assert one.figures(model)["max_force_ev_ang"][0] > 0.1
    (gradient,) = torch.autograd.grad(one.loss(model), model.table)
    step, losses = 1e-5, []
    for sign in (1.0, -1.0):
        other = alloy_like()
        with torch.no_grad():
            other.table[0, 1] += sign * step
        losses.append(float(one.loss(other).detach()))
    assert (losses[0] - losses[1]) / (2.0 * step) == pytest.approx(float(gradient[0, 1]), rel=1e-6)


def energy(atoms: Any, others: Any, target_ev: float, setting: Setting) -> EnergyConstraint:
    return EnergyConstraint("e", 1.0, atoms, others, target_ev, setting, figure="e_ev", tolerance_ev=0.01)


def test_energies_and_their_differences(model: EmbeddedMorse, setting: Setting) -> None:
    fcc, bcc = bulk("Ni", "fcc", a=3.5), bulk("Ni", "bcc", a=2.77)
    alone = [energy(atoms, (), 0.0, setting).figures(model)["e_ev"][0] for atoms in (fcc, bcc)]
    difference = energy(bcc, [fcc.repeat(2)], 0.05, setting)
    assert difference.figures(model)["e_ev"] == (pytest.approx(alone[1] - alone[0], abs=1e-12), 0.05)
    assert float(difference.loss(model).detach()) == pytest.approx(((alone[1] - alone[0] - 0.05) / 0.01) ** 2)
    (gradient,) = torch.autograd.grad(difference.loss(model), model.table)
    assert float(gradient[0].abs().max()) > 0.0


def test_formation_energy_mixes_the_elements(model: EmbeddedMorse, setting: Setting) -> None:
    nickel, molybdenum = bulk("Ni", "fcc", a=3.5), bulk("Mo", "bcc", a=3.15)
    alloy = bulk("Ni", "fcc", a=3.6, cubic=True)
    alloy.symbols[0] = "Mo"
    of = [energy(atoms, (), 0.0, setting).figures(model)["e_ev"][0] for atoms in (alloy, nickel, molybdenum)]
    formation = energy(alloy, [nickel, molybdenum], 0.0, setting).figures(model)["e_ev"][0]
    assert formation == pytest.approx(of[0] - 0.75 * of[1] - 0.25 * of[2], abs=1e-12)
    for others in ([nickel], [nickel, nickel, molybdenum]):
        with pytest.raises(SurrogateError, match="cannot be mixed"):
            energy(alloy, others, 0.0, setting)


def test_zero_of_energies() -> None:
    setting = Setting(("Ni", "Mo"), 6.0, reference_energies_ev={"Ni": -1.0, "Mo": -3.0})
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True)
    atoms.symbols[0] = "Mo"
    assert setting.model_energy_ev(-7.0, atoms, "labels") == pytest.approx(-7.0 + 1.5)
    assert setting.model_energy_ev(-7.0, atoms, "atoms") == -7.0
