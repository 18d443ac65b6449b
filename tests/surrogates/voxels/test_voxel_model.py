"""Models of forces: they learn, come back from their files, go on after a kill, and refuse what they cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from alloysmith.loop.voxel_fitting import force_errors, force_figures
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.model_file import dump_state, load_state, save_state
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.voxels.model import VoxelForceModel, fit_voxel_forces
from alloysmith.surrogates.voxels.networks import VoxelCnn
from alloysmith.surrogates.voxels.settings import VoxelForceSettings, voxel_model_from_state
from alloysmith.tests.surrogates.voxels.snapshots import ELEMENTS, snapshot, toy_frames
from pydantic import TypeAdapter
from torch import nn

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"filters": 24, "n_convolutions": 2, "dropout": 0.0, "widths": [32]},
    "dense": {"widths": [32]},
}
GRID = {"n_voxels": 5, "cutoff_ang": 3.9}
TRAINING = {"max_epochs": 12, "batch_size": 16, "learning_rate": 0.005, "checkpoint_every_s": 0.0}


def settings_of(kind: str, training: dict[str, Any] | None = None, **changes: Any) -> Any:
    values = {"kind": kind, "grid": GRID, **SMALL[kind], **changes, "training": {**TRAINING, **(training or {})}}
    return TypeAdapter(VoxelForceSettings).validate_python(values)


def fit(kind: str, train: list[Frame], validation: list[Frame], **changes: Any) -> VoxelForceModel:
    path = changes.pop("checkpoint_path", None)
    report = changes.pop("report", None)
    settings = settings_of(kind, **changes)
    return fit_voxel_forces(settings, train, validation, elements=ELEMENTS, seed=2, checkpoint_path=path, report=report)


@pytest.fixture(scope="module", params=sorted(SMALL))
def fitted(request: pytest.FixtureRequest) -> VoxelForceModel:
    return fit(request.param, toy_frames(24), toy_frames(4, seed=100))


def test_all_kinds_are_tested() -> None:
    kinds = {settings.model_fields["kind"].default for settings in get_args(get_args(VoxelForceSettings)[0])}
    assert kinds == set(SMALL)


def test_a_model_forecasts_snapshots_that_it_has_not_seen(fitted: VoxelForceModel) -> None:
    frames = toy_frames(4, seed=200)
    found = fitted.predict([frame.atoms for frame in frames])
    figures = force_errors(frames, found)
    assert list(figures) == ["all", "Mo", "Nb", "Ta", "300", "600"]
    assert figures["all"].r > 0.85
    assert figures["all"].rmse < 0.6 * figures["all"].rms_force
    assert figures["all"].n_atoms == 64 == sum(figures[name].n_atoms for name in ELEMENTS)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_few_frames_are_learnt_by_heart(kind: str) -> None:
    frames = toy_frames(2)
    model = fit(kind, frames, frames, training={"max_epochs": 100, "batch_size": 8})
    assert force_errors(frames, model.predict([f.atoms for f in frames]))["all"].r > 0.995


def test_forces_follow_the_atoms(fitted: VoxelForceModel) -> None:
    atoms = snapshot(50)
    expected = fitted.predict([atoms])[0]
    moved = atoms.copy()
    moved.positions += [0.3, 5.1, -2.0]
    moved.wrap()
    order = np.random.default_rng(1).permutation(len(atoms))
    of_moved, of_permuted, of_double = fitted.predict([moved, atoms[order], atoms.repeat((1, 2, 1))])
    np.testing.assert_allclose(of_moved, expected, atol=1e-4)
    np.testing.assert_allclose(of_permuted, expected[order], atol=1e-4)
    np.testing.assert_allclose(of_double[:16], expected, atol=1e-4)


def test_many_structures_are_forecast_as_one_at_a_time(
    fitted: VoxelForceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = [snapshot(k, repeat=1 + k % 2) for k in range(5)]
    one_by_one = [fitted.predict([atoms])[0] for atoms in structures]
    monkeypatch.setattr("alloysmith.surrogates.voxels.model._CHUNK_ATOMS", 20)
    for a, b in zip(fitted.predict(structures), one_by_one, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert fitted.predict([]) == []


def test_a_model_file_gives_the_same_forces(fitted: VoxelForceModel, tmp_path: Path) -> None:
    save_state(fitted.state(), tmp_path / "m.safetensors")
    again = voxel_model_from_state(load_state(tmp_path / "m.safetensors"))
    assert dump_state(again.state()) == dump_state(fitted.state())
    atoms = snapshot(60)
    np.testing.assert_array_equal(again.predict([atoms])[0], fitted.predict([atoms])[0])


class KilledError(Exception):
    """A power cut."""


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    train, validation = toy_frames(8), toy_frames(2, seed=100)
    changes: dict[str, Any] = {"dropout": 0.4, "training": {"max_epochs": 5}, "filters": 4}
    whole = fit("cnn", train, validation, **changes)

    def kill(epoch: int, row: Any) -> bool:
        if epoch == 4:
            raise KilledError
        return True

    path = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        fit("cnn", train, validation, **changes, checkpoint_path=path, report=kill)
    epochs: list[int] = []

    def note(epoch: int, row: Any) -> bool:
        epochs.append(epoch)
        return True

    resumed = fit("cnn", train, validation, **changes, checkpoint_path=path, report=note)
    assert epochs == [4, 5]
    assert dump_state(resumed.state()) == dump_state(whole.state())
    with pytest.raises(SurrogateError, match="inputs"):
        fit("cnn", train[1:], validation, **changes, checkpoint_path=path)


def test_atoms_are_drawn_for_a_shorter_training() -> None:
    model = fit("dense", toy_frames(8), toy_frames(4, seed=100), training={"max_atoms": 50, "max_epochs": 2})
    assert model.spec.n_train == 50
    assert fit("dense", toy_frames(8), toy_frames(4), training={"max_epochs": 1}).spec.n_train == 128


def test_the_network_is_the_papers() -> None:
    network = VoxelCnn(1, 16, 256, 3, 0.5, (64, 32))
    kinds = [type(module) for module in network.convolutions]
    conv, leaky, pool = nn.Conv3d, nn.LeakyReLU, nn.MaxPool3d
    assert kinds == [conv, pool, leaky, conv, pool, leaky, nn.Dropout, conv, leaky]
    convolutions = [module for module in network.convolutions if isinstance(module, conv)]
    assert [c.out_channels for c in convolutions] == [256, 128, 64]
    assert {c.kernel_size for c in convolutions} == {(2, 2, 2)}
    assert {c.stride for c in convolutions} == {(1, 1, 1)}
    below, above = network.convolutions[2](torch.tensor([-2.0, 3.0]))
    assert (below.item(), above.item()) == (pytest.approx(-0.002), 3.0)
    assert [type(module) for module in network.dense] == [nn.Linear, nn.Tanh] * 3
    assert network(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 3)


def test_what_cannot_be_fitted_is_refused() -> None:
    frames = toy_frames(3)
    with pytest.raises(SurrogateError, match=r"4 convolutions .* do not fit into 4 voxels: 3 do"):
        fit("cnn", frames, frames, grid={**GRID, "n_voxels": 4}, n_convolutions=4)
    bare = [Frame(f.atoms, f.energy_ev, None, source=f.source) for f in frames]
    with pytest.raises(SurrogateError, match="3 frames have no forces, the first row 0"):
        fit("cnn", bare, frames)
    with pytest.raises(SurrogateError, match=r"0 to judge by"):
        fit("cnn", frames, [])
    still = [Frame(f.atoms, f.energy_ev, np.zeros((16, 3)), source=f.source) for f in frames]
    with pytest.raises(SurrogateError, match="all forces to learn from are zero"):
        fit("cnn", still, frames)


def test_figures_of_known_cases() -> None:
    known = np.array([[1.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    exact = force_figures(known, known)
    assert (exact.mae, exact.rmse, exact.r) == (0.0, 0.0, pytest.approx(1.0))
    assert exact.r_xyz[:2] == (pytest.approx(1.0), pytest.approx(1.0))
    assert np.isnan(exact.r_xyz[2])  # no variation
    opposite = force_figures(known, -known)
    assert opposite.r_xyz[0] == pytest.approx(-1.0)
    assert opposite.mae == pytest.approx(8.0 / 6.0)
    assert opposite.rms_force == pytest.approx(1.0)
