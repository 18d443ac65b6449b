"""Training on labels of a known model: it is found again, bad steps are undone, and a killed run goes on bit by bit."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from alloysmith.surrogates.base import Metrics, SurrogateError
from alloysmith.surrogates.potentials.batches import LabelledFrames
from alloysmith.surrogates.potentials.error_table import evaluate_errors
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.loss import RmseLossSettings
from alloysmith.surrogates.potentials.objective import Objective
from alloysmith.surrogates.potentials.optimizer_settings import AdamSettings, GaussNewtonSettings, LbfgsSettings
from alloysmith.surrogates.potentials.optimizers import Adam
from alloysmith.surrogates.potentials.training import TrainingResult, train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.potentials.morse_training import (
    TRUE,
    ClosedMorseModel,
    MorseModel,
    labelled_frames,
    start_model,
)
from pydantic import ValidationError
from torch import Tensor

OPTIMIZERS = {
    "adam": AdamSettings(batch_frames=4),
    "lbfgs": LbfgsSettings(),
    "gauss_newton": GaussNewtonSettings(curvature_frames=6),
}
CHILD = Path(__file__).with_name("training_child.py")


def weights(model: torch.nn.Module) -> np.ndarray:
    return torch.cat([tensor.detach().reshape(-1) for tensor in model.parameters()]).numpy()


def short(name: str, **changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate({"optimizer": OPTIMIZERS[name], "max_epochs": 3, **changes})


@pytest.mark.parametrize("kind", [MorseModel, ClosedMorseModel])
def test_gauss_newton_finds_the_labels_model(kind: type[MorseModel]) -> None:
    frames = labelled_frames(15)
    settings = TrainingSettings(optimizer=OPTIMIZERS["gauss_newton"], max_epochs=20, patience=None)
    result = train(kind(0.3, 1.2, 2.7), frames[:12], frames[12:], settings=settings, seed=0)
    assert weights(result.model)[[0, 1, 2]] == pytest.approx(TRUE, rel=1e-4)
    assert evaluate_errors(result.model, frames[12:]).overall.force_mae < 1e-5
    assert result.history[0]["score"] > 1e3 * result.best_metrics["score"]
    assert result.best_metrics["score"] == min(row["score"] for row in result.history)


@pytest.mark.parametrize(("name", "n_epochs"), [("lbfgs", 60), ("adam", 60)])
def test_other_optimizers_come_close(name: str, n_epochs: int) -> None:
    frames = labelled_frames(15)
    schedule = {"kind": "exponential", "final_factor": 0.05}
    settings = short(name, max_epochs=n_epochs, schedule=schedule, patience=None)
    result = train(start_model(), frames[:12], frames[12:], settings=settings, seed=0)
    assert result.best_metrics["score"] < 0.05 * result.history[0]["score"]


def test_adam_is_pytorchs() -> None:
    settings = RmseLossSettings()
    part = LabelledFrames(labelled_frames(4), ("Cu",), 5.0).batch(range(4))
    ours, theirs = start_model(), start_model()
    objective, reference = Objective(ours, (), settings), Objective(theirs, (), settings)
    adam = Adam(objective, AdamSettings(learning_rate=0.02))
    peer = torch.optim.Adam(theirs.parameters(), lr=0.02)
    for k in range(10):
        factor = 1.0 / (1 + k)
        adam.step([part], factor, (1.0, 2.0, 0.1))
        for group in peer.param_groups:
            group["lr"] = 0.02 * factor
        _, gradient = reference.gradient([part], (1.0, 2.0, 0.1))
        pieces = torch.split(gradient, [p.numel() for p in theirs.parameters()])
        for parameter, piece in zip(theirs.parameters(), pieces, strict=True):
            parameter.grad = piece.reshape(parameter.shape)
        peer.step()
    assert weights(ours) == pytest.approx(weights(theirs), rel=1e-10)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_same_seed_same_bits(name: str) -> None:
    frames = labelled_frames(10)
    runs = [train(start_model(), frames, settings=short(name), seed=seed) for seed in (3, 3)]
    assert np.array_equal(weights(runs[0].model), weights(runs[1].model))
    if name == "adam":
        other = train(start_model(), frames, settings=short(name), seed=4)
        assert not np.array_equal(weights(runs[0].model), weights(other.model))


@pytest.mark.parametrize("reshuffle", ["batches", "frames"])
def test_parts_of_a_batch_add_up(reshuffle: str) -> None:
    """Whether a mini-batch is computed at once or in parts that fit in memory, the steps are the same."""
    frames = labelled_frames(10)
    adam = {"kind": "adam", "batch_frames": 4, "reshuffle": reshuffle}
    runs = [
        train(start_model(), frames, settings=TrainingSettings(optimizer=adam, max_epochs=2, max_pairs=n), seed=0)  # type: ignore[arg-type]
        for n in (10**6, 1)
    ]
    assert weights(runs[0].model) == pytest.approx(weights(runs[1].model), rel=1e-10)


def test_masked_labels_are_trained_around() -> None:
    frames = [
        replace(frame, forces=None if k % 3 == 0 else frame.forces, stress=None if k % 2 else frame.stress)
        for k, frame in enumerate(labelled_frames(12))
    ]
    settings = TrainingSettings(optimizer=OPTIMIZERS["gauss_newton"], max_epochs=20, patience=None)
    result = train(start_model(), frames, settings=settings, seed=0)
    assert weights(result.model)[[0, 1, 2]] == pytest.approx(TRUE, rel=1e-4)


def test_early_stopping_keeps_the_best() -> None:
    frames = labelled_frames(12, noise=0.05)
    adam = AdamSettings(batch_frames=4, learning_rate=0.05)  # too large to settle
    settings = TrainingSettings(optimizer=adam, max_epochs=200, patience=4)
    result = train(start_model(), frames[:8], frames[8:], settings=settings, seed=0)
    assert result.stop_reason == "no_improvement"
    assert result.n_epochs < 200
    scores = [row["score"] for row in result.history]
    assert result.best_metrics["score"] == min(scores)
    assert scores.index(min(scores)) < len(scores) - 1
    errors = evaluate_errors(result.model, frames[8:]).overall
    assert errors.force_mae == pytest.approx(result.best_metrics["validation_force_mae"], rel=1e-9)


def test_moving_average_is_what_is_judged() -> None:
    frames = labelled_frames(12)
    adam = AdamSettings(batch_frames=4, learning_rate=0.03)
    runs = [
        train(
            start_model(),
            frames[:8],
            frames[8:],
            settings=TrainingSettings(optimizer=adam, max_epochs=6, ema_decay=decay),
            seed=0,
        )
        for decay in (None, 0.9)
    ]
    assert runs[0].history[0]["score"] == runs[1].history[0]["score"]
    assert runs[0].history[-1]["loss"] == runs[1].history[-1]["loss"]  # the average does not steer
    assert runs[0].history[-1]["score"] != runs[1].history[-1]["score"]
    errors = evaluate_errors(runs[1].model, frames[8:]).overall
    assert errors.energy_mae_mev == pytest.approx(runs[1].best_metrics["validation_energy_mae_mev"], rel=1e-9)
    with pytest.raises(ValidationError, match="mini-batches, which lbfgs does not have"):
        TrainingSettings(optimizer=LbfgsSettings(), ema_decay=0.9)


class FragileModel(ClosedMorseModel):
    """Gives NaN once, or for ever, from a number of calls on."""

    def __init__(self, first: int, n: float) -> None:
        super().__init__(0.3, 1.2, 2.7)
        self.first, self.n, self.n_calls = first, n, 0

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        is_training = torch.is_grad_enabled()
        self.n_calls += is_training
        energies, slopes = super().energies_and_pair_forces(batch)
        is_bad = is_training and self.first <= self.n_calls < self.first + self.n
        return (energies * math.nan, slopes * math.nan) if is_bad else (energies, slopes)


@pytest.mark.parametrize("name", ["adam", "gauss_newton"])
def test_nan_is_rolled_back(name: str) -> None:
    frames = labelled_frames(8)
    model = FragileModel(5, 1)
    result = train(model, frames, settings=short(name, max_epochs=8, max_pairs=10**6), seed=0)
    assert result.n_rollbacks == 1
    assert np.isfinite(weights(model)).all()
    assert result.best_metrics["score"] < 0.9 * result.history[0]["score"]


def test_nan_for_ever_is_an_error_that_leaves_good_weights() -> None:
    frames = labelled_frames(8)
    model = FragileModel(9, math.inf)
    with pytest.raises(SurrogateError, match=r"diverges: a loss of nan at step \d+, after 5 returns"):
        train(model, frames, settings=short("adam", max_epochs=30), seed=0)
    assert np.isfinite(weights(model)).all()


def test_explosion_is_rolled_back() -> None:
    """A learning rate that is far too large ends in steps that are small enough."""
    frames = labelled_frames(8)
    adam = AdamSettings(batch_frames=4, learning_rate=3.0)
    settings = TrainingSettings(optimizer=adam, max_epochs=60, explosion_factor=5.0, max_rollbacks=20, patience=None)
    told: list[Metrics] = []

    def report(step: int, metrics: Metrics) -> bool:
        told.append(metrics)
        return True

    result = train(start_model(), frames, settings=settings, seed=0, report=report)
    assert result.n_rollbacks >= 3
    assert result.best_metrics["score"] < result.history[0]["score"]
    assert [row["step"] for row in told] == [float(step) for step in range(0, 2 * 60 + 1, 2)]
    accepted = [row for row in told if row in result.history]
    assert accepted == list(result.history)
    for before, row in itertools.pairwise(told):
        if row not in accepted:  # a divergence: told again is what it returned to
            assert row["score"] == before["score"]
            assert row["n_rollbacks"] > before["n_rollbacks"]


def test_nan_from_the_start_names_the_frame() -> None:
    frames = labelled_frames(5)
    atoms = frames[1].atoms.copy()
    atoms.positions[1] = atoms.positions[0]
    frames[1] = replace(frames[1], atoms=atoms)
    with pytest.raises(SurrogateError, match=r"untrained model gives a loss of nan \(for morse:1\)"):
        train(start_model(), frames, settings=short("lbfgs"), seed=0)
    with pytest.raises(SurrogateError, match=r"untrained model gives a loss of nan \(for morse:1\)"):
        train(start_model(), frames, frames[2:], settings=short("adam"), seed=0)


class BoundedModel(ClosedMorseModel):
    """The labels' length, 2.85 Å, is out of reach."""

    def parameter_bounds(self) -> Mapping[str, tuple[Tensor, float]]:
        return {"shape": (torch.tensor([0.1, 0.1]), 2.8)}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_bounds_are_kept(name: str) -> None:
    frames = labelled_frames(8)
    model = BoundedModel(0.3, 1.2, 2.7)
    result = train(model, frames, settings=short(name, max_epochs=40, patience=None), seed=0)
    assert float(model.shape.detach()[1]) == pytest.approx(2.8, abs=1e-9 if name == "gauss_newton" else 2e-2)
    assert float(model.shape.detach()[1]) <= 2.8
    assert result.best_metrics["score"] < 0.5 * result.history[0]["score"]


class Depth:
    """A constraint that pulls the depth away from the labels'."""

    name = "depth"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def loss(self, model: MorseModel) -> Tensor:
        return self.weight * (model.depth - 0.5) ** 2

    def figures(self, model: MorseModel) -> dict[str, tuple[float, float]]:
        return {"depth_ev": (float(model.depth.detach()), 0.5)}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_constraints_belong_to_the_loss(name: str) -> None:
    frames = labelled_frames(8)
    settings = short(name, max_epochs=40, patience=None)
    model = start_model()
    result = train(model, frames, (), [Depth(1e3)], settings, seed=0)  # type: ignore[list-item]
    assert float(model.depth.detach()) == pytest.approx(0.5, abs=0.02)
    assert result.history[0]["constraint/depth"] == pytest.approx(1e3 * 0.2**2)
    assert result.best_metrics["constraint/depth"] < 1.0


def test_limits_and_the_reports_answer() -> None:
    frames = labelled_frames(8)
    seen: list[tuple[int, Metrics]] = []

    def report(step: int, metrics: Metrics) -> bool:
        seen.append((step, metrics))
        return step < 4

    result = train(start_model(), frames, settings=short("adam", max_epochs=50), seed=0, report=report)
    assert (result.stop_reason, result.n_steps, [step for step, _ in seen]) == ("stopped", 4, [0, 2, 4])
    assert seen[-1][1]["wall_s"] >= seen[0][1]["wall_s"]
    seen.clear()
    result = train(start_model(), frames, settings=short("adam", max_epochs=2), seed=0, report=report)
    assert (result.stop_reason, seen[-1][0]) == ("max_epochs", 4)  # an answer at the end stops nothing
    ended: dict[str, TrainingResult] = {
        limit: train(start_model(), frames, settings=short("adam", max_epochs=50, **{limit: value}), seed=0)
        for limit, value in (("max_steps", 5), ("max_wall_s", 1e-3), ("max_cpu_s", 1e-3))
    }
    assert {limit: result.stop_reason for limit, result in ended.items()} == {limit: limit for limit in ended}
    assert ended["max_steps"].n_steps == 5
    assert len(ended["max_wall_s"].history) == 2  # what time allowed is judged before the end


def test_float32_and_the_model_keeps_its_precision() -> None:
    frames = labelled_frames(12)
    model = start_model()
    result = train(model, frames, settings=short("adam", max_epochs=10, dtype="float32"), seed=0)
    assert model.depth.dtype == torch.float64
    assert result.best_metrics["score"] < 0.8 * result.history[0]["score"]


def test_optimizer_by_size() -> None:
    settings = TrainingSettings()
    assert settings.chosen_optimizer(20).kind == "gauss_newton"
    assert settings.chosen_optimizer(100_000).kind == "adam"


def test_random_numbers_of_others_are_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(start_model(), labelled_frames(4), settings=short("adam", max_epochs=1), seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("n_steps_before", [1, 4])
def test_stopped_and_resumed_is_the_same(name: str, n_steps_before: int, tmp_path: Path) -> None:
    frames = labelled_frames(12)
    changes: dict[str, object] = {"max_epochs": 8, "validate_every": 2, "schedule": {"kind": "plateau", "patience": 1}}
    if name == "adam":
        changes["ema_decay"] = 0.8
    settings = short(name, checkpoint_every_s=0.0, **changes)
    whole = train(start_model(), frames[:9], frames[9:], settings=settings, seed=5)
    path = tmp_path / "training.ckpt"

    class KilledError(Exception):
        pass

    def stop(step: int, metrics: Metrics) -> bool:
        if step > n_steps_before:
            raise KilledError
        return True

    with pytest.raises(KilledError):
        train(start_model(), frames[:9], frames[9:], settings=settings, seed=5, report=stop, checkpoint_path=path)
    resumed = train(start_model(), frames[:9], frames[9:], settings=settings, seed=5, checkpoint_path=path)
    assert np.array_equal(weights(resumed.model), weights(whole.model))
    assert resumed.n_steps == whole.n_steps
    times = ("wall_s", "cpu_s")
    for before, after in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in before.items() if k not in times} == {k: v for k, v in after.items() if k not in times}
    again = train(start_model(), frames[:9], frames[9:], settings=settings, seed=5, checkpoint_path=path)
    assert (again.n_steps, again.stop_reason) == (whole.n_steps, whole.stop_reason)  # a finished one is not redone
    assert np.array_equal(weights(again.model), weights(whole.model))


@pytest.mark.slow
def test_kill_9_and_resume_gives_the_same_bits(tmp_path: Path) -> None:
    """A process that trains is killed at several moments, and a new one goes on each time."""
    command = [sys.executable, str(CHILD), str(tmp_path / "training.ckpt"), str(tmp_path / "weights.npy")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    n_kills = 0
    while n_kills < 2:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for n_lines, line in enumerate(child.stdout, start=1):
                assert line.startswith("step")
                if n_lines == 3:
                    time.sleep(0.003 * n_kills)
                    child.send_signal(signal.SIGKILL)
                    n_kills += 1
                    break
            child.stdout.read()
        assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights.npy").exists()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*command[:2], "none", str(tmp_path / "whole.npy")], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    assert np.array_equal(np.load(tmp_path / "weights.npy"), np.load(tmp_path / "whole.npy"))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    frames = labelled_frames(6)
    path = tmp_path / "training.ckpt"
    settings = short("adam")

    def again(**changes: object) -> TrainingResult:
        arguments: dict[str, object] = {"train": frames, "settings": settings, "seed": 0, **changes}
        model = arguments.pop("model", None) or start_model()
        return train(model, checkpoint_path=path, **arguments)  # type: ignore[arg-type]

    again(constraints=[Depth(1.0)])
    again(constraints=[Depth(1.0)], settings=settings.model_copy(update={"max_wall_s": 100.0}))
    moved = replace(frames[0], energy_ev=frames[0].energy_ev + 1e-9)
    for changes, message in (
        ({"train": [moved, *frames[1:]]}, "with other frames;"),
        ({"validation": frames[:1]}, "with other validation frames;"),
        ({"settings": short("adam", max_epochs=4)}, "with other settings;"),
        ({"seed": 1}, "with other seed;"),
        ({"model": ClosedMorseModel(0.3, 1.2, 2.71)}, "with other first weights;"),
        ({"constraints": [Depth(2.0)]}, "with another constraint depth: its loss was 0.04"),
    ):
        with pytest.raises(SurrogateError, match=message):
            again(**changes)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_checkpoints_are_refused(damage: str, tmp_path: Path) -> None:
    frames = labelled_frames(4)
    path = tmp_path / "training.ckpt"
    train(start_model(), frames, settings=short("adam"), seed=0, checkpoint_path=path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-9] ^= 1
    kept = {"cut": content[:-50], "flipped": content, "empty": b"", "other": b"no checkpoint"}[damage]
    path.write_bytes(bytes(kept))
    with pytest.raises(
        SurrogateError, match=r"the checkpoint .* cannot be used: .*; delete it to train from the start"
    ):
        train(start_model(), frames, settings=short("adam"), seed=0, checkpoint_path=path)
    assert not list(tmp_path.glob("*.tmp"))
