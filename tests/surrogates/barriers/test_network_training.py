"""Trainings of barrier networks: killed and resumed, stopped, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloysmith.surrogates.barriers.network_training import NetworkTrainingSettings, train_network
from alloysmith.surrogates.base import SurrogateError
from torch import Tensor, nn


class Numbers:
    """Inputs that are turned at random a little, as pictures are."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        noise = 0.0 if rng is None else rng.normal(scale=0.01, size=(len(index), self.values.shape[1]))
        return (torch.as_tensor(self.values[index] + noise, dtype=torch.float32),)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result[:, 0]


def run(
    path: Path | None = None, stop_at: int | None = None, outlier: float = 0.0, **changes: Any
) -> tuple[Net, float, list[float]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 4))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    y[:200:10] += outlier
    torch.manual_seed(1)
    net, rates = Net(), []

    def report(epoch: int, metrics: Any) -> bool:
        rates.append(metrics["rate"])
        return stop_at is None or epoch < stop_at

    settings = NetworkTrainingSettings(
        **{"batch_size": 20, "max_epochs": 12, "learning_rate": 0.01, "checkpoint_every_s": 0.0, **changes}
    )
    best = train_network(
        net, Numbers(x[:200]), y[:200], Numbers(x[200:]), y[200:], settings, seed=5, report=report, checkpoint_path=path
    )
    return net, best, rates


class KilledError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_killed_and_resumed_is_the_same_training(optimizer: str, tmp_path: Path, monkeypatch: Any) -> None:
    whole, best, _ = run(optimizer=optimizer)
    path = tmp_path / "c"
    written: list[int] = []
    from alloysmith.surrogates.barriers import network_training

    def write_then_die(checkpoint: Any, where: Path) -> None:
        original(checkpoint, where)
        written.append(1)
        if len(written) == 5:
            raise KilledError

    original = network_training.write_checkpoint
    monkeypatch.setattr(network_training, "write_checkpoint", write_then_die)
    with pytest.raises(KilledError):
        run(path, optimizer=optimizer)
    resumed, best_again, rates = run(path, optimizer=optimizer)
    assert len(rates) == 12 - 5
    assert best_again == best
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_training_is_not_repeated_and_another_is_refused(tmp_path: Path) -> None:
    _, best, _ = run(tmp_path / "c")
    _, again, rates = run(tmp_path / "c")
    assert (again, rates) == (best, [])
    with pytest.raises(SurrogateError, match="settings"):
        run(tmp_path / "c", learning_rate=0.02)


def test_the_rate_falls_by_the_root_of_ten_and_the_training_stops() -> None:
    _, _, rates = run(learning_rate=1e-9, plateau_epochs=2, patience_epochs=6, max_epochs=60)
    steps = np.unique(np.round(np.log10(np.array(rates) / 1e-9), 6))
    np.testing.assert_allclose(steps % 0.5 % 0.5, 0.0, atol=1e-6)
    assert len(steps) >= 2
    assert len(rates) < 60


def test_the_report_and_the_clock_end_a_training() -> None:
    assert len(run(stop_at=3)[2]) == 3
    assert len(run(max_cpu_s=1e-9)[2]) == 1


def test_too_few_hops_and_divergence_are_told() -> None:
    with pytest.raises(SurrogateError, match="batch of 500"):
        run(batch_size=500)
    with pytest.raises(SurrogateError, match="learning rate"):
        run(learning_rate=1e30)


def test_few_wrong_targets_spoil_squares_and_little_else() -> None:
    errors = {loss: run(loss=loss, outlier=20.0)[1] for loss in ("mae", "mse", "huber")}
    assert max(errors["mae"], errors["huber"]) < 0.6 * errors["mse"]
    assert run(loss="huber")[1] == pytest.approx(run(loss="mse")[1], rel=0.3)
