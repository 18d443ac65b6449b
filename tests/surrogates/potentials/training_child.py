"""A training in a process of its own, to be killed: ``training_child.py CHECKPOINT|none WEIGHTS``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from alloysmith.surrogates.base import Metrics
from alloysmith.surrogates.potentials.optimizer_settings import AdamSettings
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.potentials.morse_training import labelled_frames, start_model


def report(step: int, metrics: Metrics) -> bool:
    """Tell the parent that a step was made."""
    sys.stdout.write(f"step {step}\n")
    sys.stdout.flush()
    return True


def main() -> None:
    """Train, and write the weights at the end."""
    frames = labelled_frames(10)
    settings = TrainingSettings(
        optimizer=AdamSettings(batch_frames=3),
        schedule={"kind": "cosine"},  # type: ignore[arg-type]
        ema_decay=0.9,
        max_epochs=30,
        validate_every=2,
        checkpoint_every_s=0.0,
    )
    path = None if sys.argv[1] == "none" else Path(sys.argv[1])
    result = train(start_model(), frames[:8], frames[8:], (), settings, seed=1, report=report, checkpoint_path=path)
    values = [tensor.detach().numpy().reshape(-1) for tensor in result.model.parameters()]
    np.save(sys.argv[2], np.concatenate(values))


if __name__ == "__main__":
    main()
