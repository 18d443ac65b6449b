"""Elastic constants by automatic differentiation: against finite strain in LAMMPS, by hand, and as a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.oracles.crystal_relaxation import RelaxationLimits, relax_crystal, voigt_strains
from alloysmith.oracles.lammps_engine import LammpsEngine
from alloysmith.oracles.lammps_oracle import GPA_PER_EV_ANG3
from alloysmith.oracles.strain_response import strain_response
from alloysmith.structures.crystals import CrystalSettings
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.constraints.base import Setting
from alloysmith.surrogates.potentials.constraints.elasticity import (
    MIN_STIFFNESS_EV_ANG2,
    ElasticConstants,
    ElasticConstraint,
    parse_component,
)
from alloysmith.surrogates.potentials.constraints.strained_cell import has_free_ions
from alloysmith.surrogates.potentials.graph import build_graph, collate
from alloysmith.tests.surrogates.potentials.constraints.embedded_morse import EmbeddedMorse, alloy_like
from ase import Atoms
from ase.build import bulk

ALL = [(i, j) for i in range(6) for j in range(i, 6)]
CUBIC = [(0, 0), (0, 1), (3, 3)]
TIGHT = RelaxationLimits(force_ev_ang=1e-6, stress_ev_ang3=1e-8)


def ni3mo() -> Atoms:
    """D0_a, eight atoms, with seven free coordinates."""
    sites = [(0.5, 0.656, 0.5), (0.0, 0.344, 0.0), (0.5, 0.666, 0.0), (0.0, 0.334, 0.5)]
    sites += [(x, y, z) for x, y in ((0.5, 0.160), (0.0, 0.840)) for z in (0.249, 0.751)]
    return Atoms("Mo2Ni6", scaled_positions=sites, cell=[4.23, 4.46, 5.03], pbc=True)


def tensor_gpa(model: EmbeddedMorse, atoms: Atoms, setting: Setting) -> np.ndarray:
    with torch.no_grad():
        found = ElasticConstants(atoms, ALL, setting).evaluate(model)
    tensor = np.zeros((6, 6))
    for (i, j), value in zip(ALL, found.constants_gpa.tolist(), strict=True):
        tensor[i, j] = tensor[j, i] = value
    return tensor


def constraint(atoms: Atoms, setting: Setting, form: str = "squared", **changes: float) -> ElasticConstraint:
    targets = {(0, 0): 180.0, (0, 1): 120.0, (3, 3): 110.0}
    values = {"gate_gpa": 2.0, "tolerance_gpa": 4.0, "stress_tolerance_gpa": 0.5, "force_tolerance_ev_ang": 0.05}
    return ElasticConstraint("c", 3.0, atoms, targets, setting, form=form, **{**values, **changes})  # type: ignore


@pytest.mark.parametrize("crystal", ["fcc", "hcp", "Ni3Mo"])
def test_the_tensor_is_that_of_finite_strain_in_lammps(
    crystal: str, model: EmbeddedMorse, setting: Setting, lammps_engine: LammpsEngine
) -> None:
    start = ni3mo() if crystal == "Ni3Mo" else bulk("Ni", crystal, a=2.5 if crystal == "hcp" else 3.5)
    relaxed = relax_crystal(lammps_engine, start, cell_freedom="full", bulk_modulus_ev_ang3=1.0, limits=TIGHT)
    response = strain_response(lammps_engine, relaxed, voigt_strains(), tolerance_ev_ang3=1e-6)
    if crystal != "fcc":  # the ions' part is many times the tolerance
        assert response.softening_ev_ang3.max() * GPA_PER_EV_ANG3 > 10.0
    found = tensor_gpa(model, relaxed.as_atoms(start), setting)
    np.testing.assert_allclose(found, response.stiffness_ev_ang3 * GPA_PER_EV_ANG3, atol=0.1)


def test_stress_and_forces_are_those_of_the_model(model: EmbeddedMorse, setting: Setting) -> None:
    atoms = ni3mo()
    found = ElasticConstants(atoms, CUBIC, setting).evaluate(model).derivatives
    batch = collate([build_graph(atoms, setting.elements, setting.cutoff_ang)])
    output = model(batch)
    stress = output.virials[0] / batch.volumes[0]
    torch.testing.assert_close(found.stress_ev_ang3, stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    torch.testing.assert_close(found.forces, output.forces[1:])
    torch.testing.assert_close(found.energy_ev, output.energies[0])


@pytest.mark.parametrize(
    ("atoms", "repeat"),
    [(bulk("Ni", "fcc", a=3.45), (2, 1, 3)), (bulk("Ni", "hcp", a=2.5, c=4.0), (2, 2, 1)), (ni3mo(), (1, 1, 2))],
)
def test_a_supercell_has_the_same_tensor(
    atoms: Atoms, repeat: tuple[int, int, int], model: EmbeddedMorse, setting: Setting
) -> None:
    np.testing.assert_allclose(
        tensor_gpa(model, atoms.repeat(repeat), setting), tensor_gpa(model, atoms, setting), atol=1e-7
    )


def test_a_turned_crystal_has_the_turned_tensor(model: EmbeddedMorse, setting: Setting) -> None:
    atoms = bulk("Ni", "hcp", a=2.5, c=4.0)
    turned = atoms.copy()
    turned.rotate(90.0, "x", rotate_cell=True)  # y to z, z to -y
    c, t = tensor_gpa(model, atoms, setting), tensor_gpa(model, turned, setting)
    order = [0, 2, 1, 3, 5, 4]
    np.testing.assert_allclose(np.abs(t), np.abs(c[np.ix_(order, order)]), atol=1e-7)
    assert abs(c[2, 2] - c[1, 1]) > 1.0


@pytest.mark.parametrize("form", ["squared", "norm"])
@pytest.mark.parametrize("atoms", [bulk("Ni", "fcc", a=3.4), ni3mo()], ids=["fcc", "Ni3Mo"])
def test_the_gradient_by_the_parameters(form: str, atoms: Atoms, model: EmbeddedMorse, setting: Setting) -> None:
    one = constraint(atoms, setting, form)
    (gradient,) = torch.autograd.grad(one.loss(model), model.table)
    for index in ((0, 0), (0, 1), (0, 4), (1, 2)) if len(atoms) > 1 else ((0, 0), (0, 2), (0, 3)):
        step = 1e-5
        losses = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                model.table[index] += sign * step
            losses.append(float(one.loss(model).detach()))
            with torch.no_grad():
                model.table[index] -= sign * step
        assert (losses[0] - losses[1]) / (2.0 * step) == pytest.approx(float(gradient[index]), rel=1e-6, abs=1e-6)


def test_the_squared_loss_is_the_sum_of_squared_residuals(model: EmbeddedMorse, setting: Setting) -> None:
    one = constraint(bulk("Ni", "fcc", a=3.4), setting)
    found = tensor_gpa(model, bulk("Ni", "fcc", a=3.4), setting)
    errors = np.array([found[0, 0] - 180.0, found[0, 1] - 120.0, found[3, 3] - 110.0])
    pressure = one.figures(model)["max_stress_gpa"][0]
    by_hand = 3.0 * (np.mean((errors / 4.0) ** 2) + 3.0 * (pressure / 0.5) ** 2 / 6.0)
    assert float(one.loss(model).detach()) == pytest.approx(by_hand, rel=1e-9)
    assert float(one.residuals(model).detach().square().sum()) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("gate_gpa", [2.0, 500.0])
def test_the_norm_is_that_of_the_paper(gate_gpa: float, model: EmbeddedMorse, setting: Setting) -> None:
    one = constraint(bulk("Ni", "fcc", a=3.4), setting, "norm", gate_gpa=gate_gpa)
    found = tensor_gpa(model, bulk("Ni", "fcc", a=3.4), setting)
    errors = np.array([found[0, 0] - 180.0, found[0, 1] - 120.0, found[3, 3] - 110.0])
    gate = max(np.abs(errors).mean() - gate_gpa, 0.0)
    pressure = one.figures(model)["max_stress_gpa"][0]
    by_hand = 3.0 * (gate * np.sqrt((errors**2).mean()) + np.sqrt(3.0) * pressure)
    assert float(one.loss(model).detach()) == pytest.approx(by_hand, rel=1e-9)
    assert (gate == 0.0) == (gate_gpa == 500.0)


def softest_mode(model: EmbeddedMorse, atoms: Atoms, setting: Setting) -> float:
    return float(ElasticConstants(atoms, CUBIC, setting).evaluate(model).softest_mode_ev_ang2.detach())


def test_an_unstable_crystal_counts_with_clamped_ions_and_is_named(model: EmbeddedMorse, setting: Setting) -> None:
    atoms = Atoms("Ni2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.42)], cell=[3.4, 3.4, 5.6], pbc=True)
    softest = softest_mode(model, atoms, setting)
    assert softest < 0.0
    one = constraint(atoms, setting)
    assert one.figures(model)["softest_ionic_mode_ev_ang2"] == (pytest.approx(softest), MIN_STIFFNESS_EV_ANG2)
    assert float(one.residuals(model).detach()[-1]) == pytest.approx(3.0**0.5 * (1.0 - softest / MIN_STIFFNESS_EV_ANG2))
    (gradient,) = torch.autograd.grad(one.loss(model), model.table)
    assert torch.isfinite(gradient).all()


def test_the_relaxation_of_ions_fades_in_without_a_jump(model: EmbeddedMorse, setting: Setting) -> None:
    atoms = bulk("Ni", "hcp", a=2.5, c=4.0)
    found = []
    for factor in (1e-9, 0.02, 0.3):  # of all energies, and so of the softest mode, 1.8 eV/Å^2
        weak = alloy_like()
        with torch.no_grad():
            weak.table[:, [0, 3]] *= factor
        found.append(tensor_gpa(weak, atoms, setting) / factor)
    assert 0.0 < 0.02 * softest_mode(model, atoms, setting) < MIN_STIFFNESS_EV_ANG2
    assert 0.3 * softest_mode(model, atoms, setting) > MIN_STIFFNESS_EV_ANG2
    clamped, between, whole = (tensor[0, 0] for tensor in found)
    assert clamped > between > whole
    assert whole == pytest.approx(tensor_gpa(model, atoms, setting)[0, 0])


def test_figures_stand_beside_their_targets_without_a_graph(model: EmbeddedMorse, setting: Setting) -> None:
    figures = constraint(ni3mo(), setting).figures(model)
    assert figures["c11_gpa"][1] == 180.0
    assert figures["c44_gpa"][1] == 110.0
    assert figures["max_force_ev_ang"][0] > 0.01
    with torch.no_grad():
        loss = constraint(ni3mo(), setting).loss(model)
    assert not loss.requires_grad


def test_a_large_cell_with_free_ions_is_refused(setting: Setting) -> None:
    atoms = bulk("Ni", "fcc", a=3.5, cubic=True).repeat(4)
    atoms.rattle(0.01, seed=0)
    with pytest.raises(SurrogateError, match="give the primitive cell"):
        ElasticConstants(atoms, CUBIC, setting)


def test_components_are_read_in_either_order() -> None:
    assert parse_component("c12") == parse_component("C21") == (0, 1)
    for wrong in ("c17", "12", "c1", "bulk"):
        with pytest.raises(ValueError, match="no elastic constant"):
            parse_component(wrong)


@pytest.mark.parametrize(
    ("atoms", "is_free"),
    [
        (bulk("Ni", "fcc", a=3.5, cubic=True), False),
        (bulk("NaCl", "rocksalt", a=5.6), False),
        (CrystalSettings(lattice="l12", formula="Ni3Al", a_ang=3.57).build(), False),
        (bulk("Ti", "hcp", a=2.9, c=4.6), True),
        (bulk("Si", "diamond", a=5.4), True),
        (Atoms("NiAl", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.49)], cell=[3, 3, 3], pbc=True), True),
    ],
)
def test_inversion_centres_hold_ions(atoms: Atoms, is_free: bool) -> None:
    assert has_free_ions(atoms) is is_free
