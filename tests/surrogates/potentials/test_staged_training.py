"""What the two stages of a training learn from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from alloysmith.surrogates.potentials import staged_training
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.training import TrainingResult, train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.potentials.morse_training import MorseModel, labelled_frames, start_model
from torch import Tensor


class Depth:
    """A constraint on one parameter."""

    name = "depth"

    def loss(self, model: PotentialModel) -> Tensor:
        assert isinstance(model, MorseModel)
        return (model.depth - 0.4).square().sum()

    def figures(self, model: PotentialModel) -> Mapping[str, tuple[float, float]]:
        return {}


@pytest.mark.parametrize(
    ("n_frames", "expected"), [(None, range(9)), (3, (0, 3, 6)), (4, (0, 2, 4, 6, 8)), (20, range(9))]
)
def test_the_warm_up_takes_frames_that_are_spread_evenly(
    monkeypatch: pytest.MonkeyPatch, n_frames: int | None, expected: tuple[int, ...]
) -> None:
    frames = labelled_frames(9)
    stages: list[tuple[list[int], int]] = []

    def watched(model: PotentialModel, chosen, validation, constraints, settings, **rest) -> TrainingResult:  # type: ignore[no-untyped-def]
        stages.append(([next(k for k, one in enumerate(frames) if one is frame) for frame in chosen], len(constraints)))
        return train(model, chosen, validation, constraints, settings, **rest)

    monkeypatch.setattr(staged_training, "train", watched)
    settings = TrainingSettings(max_epochs=1)
    result = staged_training.train_in_stages(
        start_model(), frames, (), [Depth()], settings, warm_up_epochs=2, warm_up_frames=n_frames, seed=0
    )
    assert stages == [(list(expected), 0), (list(range(9)), 1)]
    assert result.n_steps == 3
