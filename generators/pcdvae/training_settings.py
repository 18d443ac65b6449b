"""How a P-CDVAE is trained."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ...structures.settings import Settings
from ...surrogates.base import SurrogateError
from ...surrogates.potentials.schedules import CosineScheduleSettings, ScheduleSettings


class PcdvaeTrainingSettings(Settings):
    """Adam on batches of noisy structures, with the norm of gradients clipped."""

    batch_size: int = Field(default=4, ge=1)
    """Structures in a step. Each one is already some fifty noisy atoms: more of them make fewer steps of what an epoch
    costs, and learn more slowly."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Largest step length."""
    schedule: ScheduleSettings = CosineScheduleSettings(warmup_steps=50)
    """How the learning rate falls: `cosine` over all epochs, or on a `plateau` of the held-out loss, as published
    (there `reduction` 0.6, `patience` 30 and `final_factor` 0.1). For `plateau`, a validation is an epoch."""
    clip_norm: float = Field(default=2.0, gt=0.0)
    """Largest norm of the gradient; longer ones are cut to it."""
    average_decay: float = Field(default=0.995, ge=0.0, lt=1.0)
    """Share that a running average of the weights keeps in each step; the average is what is kept. 0: no average."""
    max_epochs: int = Field(default=60, ge=1)
    """Passes over the structures."""
    epoch_size: int | None = Field(default=None, ge=1)
    """Structures in an epoch, drawn in random order and more than once if need be; all of them when left out, and a few
    once more to fill the last batch."""
    patience_epochs: int | None = Field(default=None, ge=1)
    """Epochs without a better held-out loss after which the training ends; when left out it never ends early."""
    max_cpu_s: float | None = Field(default=None, gt=0.0)
    """CPU time after which the training ends with the best weights so far."""
    n_validation_draws: int = Field(default=2, ge=1)
    """Draws of noise for each held-out structure; they are the same in every epoch."""
    max_rollbacks: int = Field(default=5, ge=0)
    """Divergences in a row before giving up; each one returns to the last good epoch, at half the learning rate."""
    checkpoint_every_s: float = Field(default=60.0, ge=0.0)
    """Time between checkpoints."""
    n_threads: int = Field(default=1, ge=1)
    """Threads of PyTorch on the CPU; more can change the last bits."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model is trained."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products in training steps; `bfloat16` is faster where the processor has instructions for it. Weights
    and held-out losses are always float32."""

    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            SurrogateError: it is not there.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SurrogateError("device: cuda, but PyTorch finds no GPU here; set device: cpu")
        return torch.device(self.device)
