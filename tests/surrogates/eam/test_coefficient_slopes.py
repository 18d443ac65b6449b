"""Derivatives by spline coefficients in closed form against automatic ones, and what Gauss-Newton makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alloysmith.surrogates.eam.model import EamModel
from alloysmith.surrogates.eam.settings import EamSettings
from alloysmith.surrogates.potentials.batches import LabelledFrames
from alloysmith.surrogates.potentials.curvature import forward_curvature, jacobian, normal_equations
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.loss import RmseLossSettings, SquaredLossSettings
from alloysmith.surrogates.potentials.objective import Objective
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.eam_forms import make_model, perturbed, rattled
from ase.build import bulk
from torch import Tensor

SPLINES = {"functions": "spline", "embedding": "spline", "n_intervals": 6, "n_embedding_intervals": 4}
SMALL = {
    "Ni": (("Ni",), EamSettings(**SPLINES)),
    "Ni, Mo": (("Ni", "Mo"), EamSettings(**SPLINES)),
    "Ni, Mo, angular": (("Ni", "Mo"), EamSettings(**SPLINES, angular=True)),
    # pairs below the first knot, densities beyond the last one
    "narrow": (("Ni", "Mo"), EamSettings(**SPLINES, angular=True, inner_ang=2.6, highest_density=1.01)),
}


def small_model(name: str) -> EamModel:
    elements, settings = SMALL[name]
    return perturbed(settings.build(elements))


def frames_of(model: EamModel, *, seed: int = 0) -> list[Frame]:
    """Labels of a model a little off, for mixed and pure cells, one so small that an atom meets its own images."""
    elements = model.elements
    structures = [rattled(elements, seed=seed), bulk(elements[-1], "fcc", a=3.4), rattled(elements[:1], seed=seed + 1)]
    rng = np.random.default_rng(seed)
    frames = []
    for atoms in structures:
        stress = rng.standard_normal((3, 3))
        forces = rng.standard_normal((len(atoms), 3))
        frames.append(Frame(atoms, rng.standard_normal() - 4.0 * len(atoms), forces, stress + stress.T))
    return frames


@pytest.mark.parametrize("name", SMALL)
def test_slopes_of_outputs_against_forward_mode(name: str) -> None:
    model = small_model(name)
    objective = Objective(model, (), SquaredLossSettings(group_weights={}))
    part = LabelledFrames(frames_of(model), model.elements, model.cutoff_ang).batch(range(3))
    energy, force, virial = jacobian(objective, part, 2**28)  # of residuals
    size = part.batch.n_atoms.sqrt()
    n_columns = energy.shape[1]
    first = 0
    slopes = model.output_slopes(part.batch, with_virials=True)
    assert slopes is not None
    for k, found in enumerate(slopes):

        def filled(rows: Tensor, columns: Tensor = found.columns) -> Tensor:
            return torch.zeros(len(rows), n_columns, dtype=rows.dtype).index_copy(1, columns, rows)

        last = first + len(found.forces)
        for rows, expected in (
            (found.energy[None], energy[k : k + 1] * size[k]),
            (found.forces, force[first:last]),
            (found.virial, virial[9 * k : 9 * k + 9] * size[k]),
        ):
            scale = max(float(expected.abs().max()), 1e-3)
            torch.testing.assert_close(filled(rows), expected, rtol=0.0, atol=1e-11 * scale)
        first = last
    assert first == len(force)


def test_only_models_of_splines_have_them() -> None:
    for name, is_spline in (("Ni", False), ("Mo spline ADP", False), ("NiMo spline", True)):
        model = make_model(name)
        batch = LabelledFrames(frames_of(model), model.elements, model.cutoff_ang).batch([1]).batch
        assert (model.output_slopes(batch, with_virials=False) is not None) == is_spline


@pytest.mark.parametrize(
    "settings",
    [
        RmseLossSettings(),
        RmseLossSettings(virial=0.0, group_weights={"second": 3.0}),
        SquaredLossSettings(limit_virial=1.0),
    ],
)
@pytest.mark.parametrize("is_partly_fixed", [False, True])
def test_normal_equations_against_automatic_derivatives(
    settings: RmseLossSettings | SquaredLossSettings, is_partly_fixed: bool
) -> None:
    model = small_model("Ni, Mo, angular")
    if is_partly_fixed:
        model.embedding.requires_grad_(False)
    first, second, third = frames_of(model)
    frames = [
        first,
        replace(second, forces=None, group="second"),
        replace(third, stress=None),
        *frames_of(model, seed=4),
    ]
    data = LabelledFrames(frames, model.elements, model.cutoff_ang, group_weights=settings.group_weights)
    objective = Objective(model, (), settings)
    prefactors = settings.prefactors(0.0)
    parts = [data.batch([0, 1, 2]), data.batch([3, 4, 5])]
    value, gradient, matrix = normal_equations(objective, parts, prefactors)
    expected_value, expected_gradient = objective.gradient(parts, prefactors)
    assert value.loss == pytest.approx(expected_value.loss, rel=1e-12)
    assert value.rms == pytest.approx(expected_value.rms, rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-11 * float(gradient.abs().max()))
    expected = forward_curvature(objective, parts, value, prefactors, 2**28)
    torch.testing.assert_close(matrix, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))


def labels_of_another_model(n_frames: int) -> list[Frame]:
    """What a model of splines a little off the start gives for hot solid solutions, 3 eV per atom higher."""
    truth = small_model("Ni, Mo, angular")
    frames = []
    for seed in range(n_frames):
        atoms = rattled(truth.elements, seed=seed, rattle_ang=0.25)
        batch = LabelledFrames([Frame(atoms, 0.0)], truth.elements, truth.cutoff_ang).batch([0]).batch
        output = truth(batch)
        energy_ev = float(output.energies[0].detach()) + 3.0 * len(atoms)
        frames.append(Frame(atoms, energy_ev, output.forces.detach().numpy()))
    return frames


@pytest.mark.parametrize("n_steps", [1, 12])
def test_gauss_newton_fits_linear_functions_first_and_then_all(n_steps: int) -> None:
    frames = labels_of_another_model(4)
    elements, settings = SMALL["Ni, Mo, angular"]
    training = TrainingSettings(loss=RmseLossSettings(virial=0.0), max_epochs=n_steps, patience=None)
    model = settings.build(elements)
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    result = train(model, frames, settings=training, seed=0)
    moved = {name: (tensor.detach() - before[name]).abs().amax(1) for name, tensor in model.named_parameters()}
    pairs, densities = moved["radial.splines.coefficients"].split([3, 2])
    assert float(pairs.min()) > 0.0
    assert float(moved["embedding.splines.coefficients"].min()) > 0.1  # they bear a part of the zero of energies
    is_still = float(torch.cat([densities, moved["angular.splines.coefficients"]]).max()) == 0.0
    assert is_still == (n_steps == 1)
    assert result.best_metrics["score"] < (0.05 if n_steps == 1 else 0.005) * result.history[0]["score"]
