"""Loss terms against numbers worked out by hand, gradients, curvature and masks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.batches import Batches, LabelledFrames
from alloysmith.surrogates.potentials.curvature import forward_curvature, jacobian
from alloysmith.surrogates.potentials.error_table import evaluate_errors
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.loss import RmseLossSettings, SquaredLossSettings
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.objective import Objective
from alloysmith.tests.surrogates.potentials.morse_training import (
    ClosedMorseModel,
    MorseModel,
    labelled_frames,
    start_model,
)
from ase import Atoms
from ase.units import GPa
from torch import Tensor

ANY_LOSS = [RmseLossSettings(energy=3.0, force=2.0, virial=0.7), SquaredLossSettings(limit_virial=0.3)]


class OffsetModel(PotentialModel):
    """Every atom has the same energy and no force, so that errors are what the labels say."""

    def __init__(self) -> None:
        super().__init__(("Cu",), 3.0)
        self.offset = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def settings(self) -> dict[str, object]:
        return {}

    def energies(self, batch):  # type: ignore[no-untyped-def]
        return self.offset * batch.n_atoms + 0.0 * batch.vectors.sum()

    def energies_and_pair_forces(self, batch):  # type: ignore[no-untyped-def]
        return self.energies(batch), 0.0 * self.offset * batch.vectors


def box(n_atoms: int, energy_ev: float, force: float | None, stress: float | None, group: str = "") -> Frame:
    """A cube of 10 Å with atoms that do not meet; all force or stress components have one value."""
    atoms = Atoms(f"Cu{n_atoms}", positions=[[4.0 * k, 0.0, 0.0] for k in range(n_atoms)], cell=[10.0] * 3, pbc=True)
    return Frame(
        atoms,
        energy_ev,
        None if force is None else np.full((n_atoms, 3), force),
        None if stress is None else np.full((3, 3), stress),
        group,
    )


# one and two atoms; the second frame has no stress. Energies per atom are off by 0.3 and 0.4, forces by 0.1 (3
# components) and 0.2 (6 components), the virial of the first by 1000 * 0.002 = 2 eV
FRAMES = [box(1, 0.3, 0.1, 0.002, "one"), box(2, 0.8, 0.2, None, "two")]


def means_of(settings: RmseLossSettings | SquaredLossSettings, frames: list[Frame]) -> float:
    data = LabelledFrames(frames, ("Cu",), 3.0, group_weights=settings.group_weights)
    objective = Objective(OffsetModel(), (), settings)
    return objective.value([data.batch(range(len(frames)))], settings.prefactors(0.5)).loss


def test_rmse_is_the_papers_equation() -> None:
    settings = RmseLossSettings(energy=2.0, force=3.0, virial=5.0)
    energy = math.sqrt((0.3**2 + 0.4**2) / 2)
    force = math.sqrt((3 * 0.1**2 + 6 * 0.2**2) / 9)
    assert means_of(settings, FRAMES) == pytest.approx(2.0 * energy + 3.0 * force + 5.0 * 2.0, rel=1e-12)


def test_squared_is_deepmds() -> None:
    settings = SquaredLossSettings(
        start_energy=0.02, limit_energy=1.0, start_force=1000.0, limit_force=2.0, start_virial=0.1, limit_virial=0.3
    )
    energy = (0.3**2 / 1 + 0.8**2 / 2) / 2  # squares of total energies over the number of atoms
    force = (3 * 0.1**2 + 6 * 0.2**2) / 9
    virial = 2.0**2
    assert means_of(settings, FRAMES) == pytest.approx(0.51 * energy + 501.0 * force + 0.2 * virial, rel=1e-12)
    assert settings.prefactors(1.0) == pytest.approx((0.02, 1000.0, 0.1))
    assert settings.prefactors(0.0) == (1.0, 2.0, 0.3)


def test_group_weights_are_scaled_to_a_mean_of_one() -> None:
    settings = RmseLossSettings(energy=1.0, force=0.0, virial=0.0, group_weights={"two": 3.0})
    assert means_of(settings, FRAMES) == pytest.approx(math.sqrt((0.5 * 0.3**2 + 1.5 * 0.4**2) / 2), rel=1e-12)
    with pytest.raises(SurrogateError, match="three, but the frames' groups are one, two"):
        means_of(RmseLossSettings(group_weights={"three": 1.0}), FRAMES)


@pytest.mark.parametrize("settings", ANY_LOSS)
def test_what_is_not_known_has_no_part(settings: RmseLossSettings | SquaredLossSettings) -> None:
    """A frame without forces and stress changes the energy term alone; zeros would change the others."""
    blind = replace(FRAMES[0], forces=None, stress=None)
    only_energy = settings.model_copy(
        update={name: 0.0 for name in type(settings).model_fields if "force" in name or "virial" in name}
    )
    rest = means_of(settings, FRAMES) - means_of(only_energy, FRAMES)
    rest_with_blind = means_of(settings, [*FRAMES, blind]) - means_of(only_energy, [*FRAMES, blind])
    assert rest_with_blind == pytest.approx(rest, rel=1e-12)
    assert means_of(settings, [blind]) == pytest.approx(means_of(only_energy, [blind]), rel=1e-12)


def test_errors_in_the_fields_units() -> None:
    table = evaluate_errors(OffsetModel(), FRAMES)
    assert table.overall.energy_mae_mev == pytest.approx(350.0)
    assert table.overall.energy_rmse_mev == pytest.approx(1000.0 * math.sqrt((0.09 + 0.16) / 2))
    assert table.overall.energy_bias_mev == pytest.approx(-350.0)
    assert table.overall.force_mae == pytest.approx((3 * 0.1 + 6 * 0.2) / 9)
    assert table.overall.stress_mae_gpa == pytest.approx(0.002 / GPa)
    assert table.overall.virial_mae_mev == pytest.approx(2000.0)
    assert (table.overall.n_frames, table.overall.n_stress_frames) == (2, 1)
    assert list(table.groups) == ["one", "two"]
    assert math.isnan(table.groups["two"].stress_mae_gpa)
    assert "stress_mae_gpa" not in table.groups["two"].metrics()
    assert "| two | 1 | 400.00 | 400.00 | 0.2000 | 0.2000 | - | - |" in table.lines()


@pytest.mark.parametrize("settings", ANY_LOSS)
@pytest.mark.parametrize("kind", [MorseModel, ClosedMorseModel])
def test_gradient_against_finite_differences(
    settings: RmseLossSettings | SquaredLossSettings, kind: type[MorseModel]
) -> None:
    frames = labelled_frames(6)
    frames[2] = replace(frames[2], forces=None)
    data = LabelledFrames(frames, ("Cu",), 5.0)
    objective = Objective(kind(0.3, 1.2, 2.7), (), settings)
    start, prefactors = objective.parameters(), settings.prefactors(0.5)
    for parts in ([range(6)], [[0, 1], [2], [3, 4, 5]]):  # one pass, and sums over parts
        batches = [data.batch(part) for part in parts]
        objective.assign(start)
        value, gradient = objective.gradient(batches, prefactors)
        assert value.loss == pytest.approx(objective.value(batches, prefactors).loss, rel=1e-12)
        _, known = objective.gradient(batches, prefactors, rms=value.rms)
        torch.testing.assert_close(known, gradient)
        for k in range(len(start)):
            sides = []
            for sign in (1.0, -1.0):
                moved = start.clone()
                moved[k] += sign * 1e-5
                objective.assign(moved)
                sides.append(objective.value(batches, prefactors).loss)
            assert float(gradient[k]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("kind", [MorseModel, ClosedMorseModel])
def test_jacobian_in_forward_mode_against_backward(kind: type[MorseModel]) -> None:
    settings = RmseLossSettings()
    model = kind(0.3, 1.2, 2.7)
    objective = Objective(model, (), settings)
    part = LabelledFrames(labelled_frames(3), ("Cu",), 5.0).batch(range(3))
    for max_bytes in (1, 2**30):  # one direction at a time, and all at once
        rows = torch.cat(jacobian(objective, part, max_bytes))
        residuals = torch.cat(settings.residuals(model(part.batch), part))
        for k in (0, 2, 5, 20, len(residuals) - 1):
            slopes = torch.autograd.grad(residuals[k], list(model.parameters()), retain_graph=True)
            torch.testing.assert_close(rows[k], torch.cat([slope.reshape(-1) for slope in slopes]))


@pytest.mark.parametrize("settings", ANY_LOSS)
def test_curvature_from_single_frames_for_energies(settings: RmseLossSettings | SquaredLossSettings) -> None:
    """Forward mode over a batch and reverse mode over its frames agree on the term of the energies."""
    data = LabelledFrames(labelled_frames(5), ("Cu",), 5.0)
    objective = Objective(start_model(), (), settings)
    prefactors = settings.prefactors(0.0)
    batches = [data.batch([0, 1, 2]), data.batch([3, 4])]
    value, _ = objective.gradient(batches, prefactors)
    together = forward_curvature(objective, batches, value, prefactors, 2**20)
    singles = [data.batch([k]) for k in range(5)]
    separate = forward_curvature(objective, batches, value, prefactors, 2**20, singles=singles)
    torch.testing.assert_close(separate, together, rtol=1e-9, atol=1e-12)
    fewer = forward_curvature(objective, batches[:1], value, prefactors, 2**20, singles=singles)
    assert not torch.allclose(fewer, together, rtol=1e-3)


class Target:
    """A constraint on two numbers of the model, as a norm or its square."""

    def __init__(self, power: float, *, has_residuals: bool) -> None:
        self.name = "target"
        self.power = power
        if has_residuals:
            self.residuals = self._residuals

    def _residuals(self, model: PotentialModel) -> Tensor:
        assert isinstance(model, MorseModel)
        return torch.stack([2.0 * (model.depth - 0.5), model.shape[0] ** 2 - 1.0])

    def loss(self, model: PotentialModel) -> Tensor:
        return self._residuals(model).square().sum() ** (self.power / 2.0)

    def figures(self, model: PotentialModel) -> dict[str, tuple[float, float]]:
        return {}


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_curvature_of_a_constraint_follows_its_loss(power: float) -> None:
    settings = RmseLossSettings(energy=0.0, force=0.0, virial=0.0)
    model = start_model()
    part = [LabelledFrames(labelled_frames(1), ("Cu",), 5.0).batch([0])]
    found = {}
    for has_residuals in (True, False):
        target = Target(power, has_residuals=has_residuals)
        objective = Objective(model, (target,), settings)
        value, gradient = objective.gradient(part, settings.prefactors(0.0))
        losses, slopes, found[has_residuals] = objective.constraint_terms(with_curvature=True)
        assert losses == {"target": pytest.approx(value.loss)}
        torch.testing.assert_close(slopes, gradient)
    residuals = Target(power, has_residuals=True)._residuals(model)
    jacobian = torch.zeros(2, 4, dtype=torch.float64)
    jacobian[0, 0], jacobian[1, 1] = 2.0, 2.0 * float(model.shape[0].detach())
    scale = 2.0 if power == 2.0 else 1.0 / float(residuals.detach().norm())
    torch.testing.assert_close(found[True], scale * jacobian.T @ jacobian)
    # without residuals the loss counts as one square: curvature along its gradient only
    torch.testing.assert_close(found[False], torch.outer(gradient, gradient) / (2.0 * value.loss))


def test_batches_hold_every_frame_once_and_keep_what_fits() -> None:
    frames = labelled_frames(9)
    data = LabelledFrames(frames, ("Cu",), 5.0)
    parts = data.partition(range(9), 4, int(data.n_pairs.max()) * 2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(9))
    assert max(len(part) for part in parts) <= 4
    assert all(data.n_pairs[part].sum() <= 2 * data.n_pairs.max() for part in parts)
    assert len(data.partition(range(9), None, 1)) == 9  # a frame that is too large is a batch of its own
    for max_bytes, n_kept in ((0, 0), (2**30, len(parts))):
        batches = Batches(data, parts, max_bytes=max_bytes)
        energies = torch.cat([labelled.labels.energies for labelled in batches])
        assert energies.tolist() == [frames[k].energy_ev for k in batches.order]
        assert batches.n_kept == n_kept
        assert (batches[0] is batches[0]) == (n_kept > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy_ev": math.nan}, "the energy of here is nan"),
        ({"forces": np.zeros((2, 3))}, r"the forces of here have shape \(2, 3\), expected \(1, 3\)"),
        ({"stress": np.full((3, 3), math.inf)}, "the stress of here are not finite"),
        ({"atoms": Atoms()}, "here has no atoms"),
    ],
)
def test_labels_that_cannot_be_used_are_named(change: dict[str, object], message: str) -> None:
    frame = replace(FRAMES[0], source="here", **change)  # type: ignore[arg-type]
    with pytest.raises(SurrogateError, match=message):
        LabelledFrames([frame], ("Cu",), 3.0)
