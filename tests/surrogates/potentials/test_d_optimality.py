"""A D-optimal choice determines what was not, and gradients are those of the energy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.d_optimality import d_optimal, energy_gradients
from alloysmith.surrogates.potentials.graph import build_graph, collate
from ase import Atoms
from ase.build import bulk


def _shaken(n: int) -> list[Atoms]:
    found = []
    for seed in range(n):
        atoms = bulk("Ni", cubic=True)
        atoms.rattle(0.1, seed=seed)
        found.append(atoms)
    return found


def test_gradients_are_derivatives_of_the_energy_per_atom() -> None:
    model = EamSettings(cutoff_ang=4.0).build(("Ni",))
    structures = _shaken(2)
    rows = energy_gradients(model, structures)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert rows.shape == (2, sum(parameter.numel() for parameter in parameters))
    batch = collate([build_graph(atoms, ("Ni",), 4.0) for atoms in structures])
    column, step = 0, 1e-6
    for parameter in parameters:
        flat = parameter.data.view(-1)
        for k in range(len(flat)):
            energies = []
            for sign in (1.0, -1.0):
                before = flat[k].item()
                flat[k] += sign * step
                with torch.no_grad():
                    energies.append(model.energies(batch).numpy() / 4.0)
                flat[k] = before
            np.testing.assert_allclose(rows[:, column], (energies[0] - energies[1]) / (2 * step), atol=1e-6, rtol=1e-5)
            column += 1


def test_gradients_by_what_energies_are_linear_in_foresee_what_it_adds() -> None:
    model = DeepPotSettings(cutoff_ang=4.0, switch_ang=3.0, seed=1).build(("Ni",))
    structures = _shaken(2)
    rows = energy_gradients(model, structures, linear_only=True)
    linear = [dict(model.named_parameters())[name] for name in model.linear_parameters()]
    assert rows.shape == (2, sum(parameter.numel() for parameter in linear))
    batch = collate([build_graph(atoms, ("Ni",), 4.0) for atoms in structures])
    with torch.no_grad():
        before = model.energies(batch).numpy() / 4.0
        for parameter in linear:
            parameter += 1.0  # far from a small step
        after = model.energies(batch).numpy() / 4.0
    np.testing.assert_allclose(rows.sum(axis=1), after - before, rtol=1e-9)


def test_gradients_of_large_models_keep_their_scalar_products_on_average() -> None:
    model = DeepPotSettings(cutoff_ang=4.0, switch_ang=3.0, seed=1).build(("Ni",))
    structures = _shaken(3)
    sketches = np.array([energy_gradients(model, structures, seed=k) @ np.ones(512) for k in range(3)])
    assert np.ptp(sketches, axis=0).min() > 0.0
    rows = [energy_gradients(model, structures, seed=k) for k in range(40)]
    assert rows[0].shape == (3, 512)
    products = np.mean([row @ row.T for row in rows], axis=0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    whole = []
    for atoms in structures:
        energy = model.energies(collate([build_graph(atoms, ("Ni",), 4.0)])).sum() / len(atoms)
        slopes = torch.autograd.grad(energy, parameters, allow_unused=True)
        whole.append(
            torch.cat(
                [(torch.zeros_like(p) if s is None else s).reshape(-1) for p, s in zip(parameters, slopes, strict=True)]
            ).numpy()
        )
    np.testing.assert_allclose(products, np.array(whole) @ np.array(whole).T, rtol=0.1)


def test_what_is_not_determined_yet_comes_first() -> None:
    known = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    features = np.array([[3.0, 0.0, 0.0], [0.1, 1.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.9, 0.0]])
    assert set(d_optimal(features, 2, known)) in ({1, 2}, {2, 3})
    assert d_optimal(features, 9, known)[-1] in (0, 3)
    assert len(d_optimal(features, 9, known)) == 4
    assert d_optimal(np.zeros((0, 3)), 2) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_near_the_best_determinant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(9, 3)) * rng.lognormal(size=(9, 1))
    scaled = features / np.sqrt((features**2).mean(axis=0))

    def log_det(rows: tuple[int, ...]) -> float:
        chosen = scaled[list(rows)]
        return float(np.linalg.slogdet(chosen.T @ chosen + 1e-3 * np.eye(3))[1])

    best = max(log_det(rows) for rows in combinations(range(9), 4))
    typical = np.median([log_det(rows) for rows in combinations(range(9), 4)])
    found = log_det(tuple(d_optimal(features, 4)))
    assert found > best - 0.35 * (best - typical)
