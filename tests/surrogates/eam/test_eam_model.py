"""Closed-form forces against automatic ones and finite differences; symmetries; states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.surrogates.base import SurrogateError, SurrogateState
from alloysmith.surrogates.eam.model import EamModel
from alloysmith.surrogates.eam.settings import EamSettings, eam_from_state
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.graph import Batch, build_graph, collate
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from alloysmith.tests.eam_forms import FORMS, make_model, perturbed, rattled
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = tuple(FORMS)


def batch_of(model: EamModel, *structures: Atoms) -> Batch:
    return collate([build_graph(atoms, model.elements, model.cutoff_ang) for atoms in structures])


def potential(model: EamModel) -> TorchPotential:
    return TorchPotential(PotentialSpec("eam", model.elements, model.cutoff_ang), model)


@pytest.mark.parametrize("name", NAMES)
def test_closed_form_equals_automatic_derivative(name: str) -> None:
    model = make_model(name)
    batch = batch_of(model, rattled(model.elements), rattled(model.elements, seed=1, rattle_ang=0.3))
    energies, slopes = model.energies_and_pair_forces(batch)
    expected_energies, expected_slopes = PotentialModel.energies_and_pair_forces(model, batch)
    assert torch.allclose(energies, expected_energies, rtol=1e-13, atol=0)
    scale = expected_slopes.abs().max().item()
    assert (slopes - expected_slopes).abs().max().item() < 1e-12 * max(scale, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_loss_agree(name: str) -> None:
    model = make_model(name)
    batch = batch_of(model, rattled(model.elements))
    gradients = []
    for evaluate in (EamModel.energies_and_pair_forces, PotentialModel.energies_and_pair_forces):
        energies, slopes = evaluate(model, batch)
        loss = energies.square().sum() + slopes.square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for found, expected in zip(*gradients, strict=True):
        assert torch.isfinite(found).all()
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_forces_and_stress_are_the_slope_of_the_energy(name: str) -> None:
    model = potential(make_model(name))
    atoms = rattled(model.spec.elements)
    found = model.evaluate([atoms])[0]
    rng = np.random.default_rng(3)
    move = rng.standard_normal(atoms.positions.shape)
    strain = rng.standard_normal((3, 3))
    strain = (strain + strain.T) / 2

    def moved(h: float) -> Atoms:
        copy = atoms.copy()
        copy.positions += h * move
        return copy

    def strained(h: float) -> Atoms:
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ (np.eye(3) + h * strain), scale_atoms=True)
        return copy

    for path, expected in (
        (moved, -np.vdot(found.forces, move)),
        (strained, np.vdot(found.stress, strain) * atoms.cell.volume),
    ):
        h = 2e-4
        e = [r.energy_ev for r in model.evaluate([path(k * h) for k in (-2, -1, 1, 2)])]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
        assert slope == pytest.approx(expected, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(("Ni", "NiMo ADP")), seed=st.integers(0, 2**32 - 1))
def test_symmetries(name: str, seed: int) -> None:
    elements, form = FORMS[name]
    model = potential(perturbed(form.build(elements)))
    rng = np.random.default_rng(seed)
    atoms = rattled(elements, repeat=1, seed=int(rng.integers(1000)))
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    order = rng.permutation(len(atoms))
    turned = Atoms(atoms.symbols, atoms.positions @ rotation, cell=atoms.cell.array @ rotation, pbc=True)
    double = atoms.repeat((2, 1, 1))
    plain, rotated, shuffled, doubled = model.evaluate([atoms, turned, atoms[order], double])
    assert rotated.energy_ev == pytest.approx(plain.energy_ev, abs=1e-10)
    assert np.allclose(rotated.forces, plain.forces @ rotation, atol=1e-9)
    assert np.allclose(rotated.stress, rotation.T @ plain.stress @ rotation, atol=1e-10)
    assert shuffled.energy_ev == pytest.approx(plain.energy_ev, abs=1e-10)
    assert np.allclose(shuffled.forces, plain.forces[order], atol=1e-9)
    assert doubled.energy_ev == pytest.approx(2 * plain.energy_ev, abs=1e-9)
    assert np.allclose(doubled.stress, plain.stress, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_state_reads_back_identical(name: str) -> None:
    first = potential(make_model(name))
    second = eam_from_state(first.state())
    atoms = rattled(first.spec.elements)
    found, expected = second.evaluate([atoms])[0], first.evaluate([atoms])[0]
    assert found.energy_ev == expected.energy_ev
    assert np.array_equal(found.forces, expected.forces)
    assert second.spec == first.spec


def test_damaged_state_is_named() -> None:
    state = potential(make_model("Ni")).state()
    arrays = dict(state.arrays)
    arrays.pop(next(iter(arrays)))
    with pytest.raises(SurrogateError, match="incomplete or damaged"):
        eam_from_state(SurrogateState(state.kind, state.settings, arrays))


@pytest.mark.parametrize("form", ["smooth", "piecewise"])
def test_isolated_atom_has_finite_gradients(form: str) -> None:
    model = EamSettings.model_validate({"embedding": form}).build(["Ni"])
    batch = batch_of(model, Atoms("Ni", cell=[30.0] * 3, pbc=True))
    energy = model.energies(batch).sum()
    gradients = torch.autograd.grad(energy, list(model.parameters()))
    assert torch.isfinite(energy)
    assert abs(energy.item()) < 1e-5, "the published embedding energy vanishes at zero density"
    assert all(torch.isfinite(g).all() for g in gradients)


def test_vectors_at_the_cutoff_have_no_jump() -> None:
    model = EamSettings(cutoff_ang=6.5).build(["Al"])
    cell = [40.0] * 3
    structures = [Atoms("Al2", positions=[[0, 0, 0], [r, 0, 0]], cell=cell, pbc=True) for r in (6.4999, 6.5001)]
    inside, outside = potential(model).evaluate(structures)
    assert abs(inside.energy_ev - outside.energy_ev) < 1e-12
    assert np.abs(inside.forces).max() < 1e-9
