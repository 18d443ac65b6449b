"""A least-squares training in a process of its own, to be killed: ``least_squares_child.py CHECKPOINT|none WEIGHTS``.

It tells each batch of the normal equations, and each validation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from alloysmith.surrogates.base import Metrics
from alloysmith.surrogates.deeppot.model import DeepPotModel
from alloysmith.surrogates.deeppot.settings import DeepPotSettings
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.model import LinearRows
from alloysmith.surrogates.potentials.training import train
from alloysmith.surrogates.potentials.training_settings import TrainingSettings
from alloysmith.tests.surrogates.deeppot.test_least_squares import ELEMENTS, START, frames


def tell(what: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


class TellingModel(DeepPotModel):
    """A deep potential that tells what is asked of it."""

    def linear_rows(self, batch: Batch) -> LinearRows:
        tell("batch")
        return super().linear_rows(batch)


def report(step: int, metrics: Metrics) -> bool:
    tell(f"step {step}")
    return True


def main() -> None:
    """Train, and write the weights at the end."""
    settings = TrainingSettings.model_validate(
        {"optimizer": {"kind": "least_squares"}, "max_pairs": 300, "checkpoint_every_s": 0.0}
    )
    model = DeepPotSettings.model_validate({**START, "seed": 1}).build(ELEMENTS)
    model.__class__ = TellingModel
    path = None if sys.argv[1] == "none" else Path(sys.argv[1])
    train(model, frames(16), (), (), settings, seed=2, report=report, checkpoint_path=path)
    np.save(sys.argv[2], np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in model.parameters()]))


if __name__ == "__main__":
    main()
