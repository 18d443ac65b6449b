"""Settings of a training."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator

from ...errors import ConfigError
from ...structures.settings import Settings
from .loss import LossSettings, RmseLossSettings
from .optimizer_settings import AdamSettings, GaussNewtonSettings, OptimizerSettings
from .schedules import ConstantScheduleSettings, ScheduleSettings

_FEW_PARAMETERS = 300  # up to here the Gauss-Newton matrix is cheap

CONTINUABLE = frozenset({"max_wall_s", "max_cpu_s", "checkpoint_every_s", "max_cache_mib"})
"""Settings that may differ when a training goes on from a checkpoint: they do not change the weights."""


class TrainingSettings(Settings):
    """How a potential is trained."""

    loss: LossSettings = RmseLossSettings()
    """What is minimized."""
    optimizer: OptimizerSettings | None = None
    """How it is minimized; where it is unset, `gauss_newton` for up to 300 parameters and `adam` for more."""
    schedule: ScheduleSettings = ConstantScheduleSettings()
    """How the learning rate of `adam` goes with the steps."""
    max_epochs: int = Field(default=200, ge=1)
    """Training ends after so many passes over the frames; a step of a full-batch optimizer is one."""
    max_steps: int | None = Field(default=None, ge=1)
    """Training ends after so many steps, if that is earlier."""
    max_wall_s: float | None = Field(default=None, gt=0.0)
    """Training ends after so many seconds; time before a resume counts."""
    max_cpu_s: float | None = Field(default=None, gt=0.0)
    """Training ends after so many CPU seconds; time before a resume counts."""
    validate_every: int | None = Field(default=None, ge=1)
    """Number of steps between validations; by default an epoch."""
    patience: int | None = Field(default=20, ge=1)
    """Training ends after so many validations without a better score; never, where it is null."""
    min_improvement: float = Field(default=1e-4, ge=0.0)
    """A score counts as better if it is lower by this share."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay of the moving average of the weights, which is then what is validated and kept; for `adam` only."""
    explosion_factor: float = Field(default=100.0, gt=1.0)
    """A loss larger than the recent mean by this factor is a divergence: training goes back to the last good weights
    and halves the learning rate."""
    max_rollbacks: int = Field(default=5, ge=0)
    """Training fails after more divergences than this without a good validation between them."""
    checkpoint_every_s: float = Field(default=60.0, ge=0.0)
    """Seconds between checkpoints; 0 writes one after each step."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; `auto` takes a GPU if there is one. Only the CPU repeats a training bit by bit."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the training; the model has its own again afterwards."""
    n_threads: int = Field(default=1, ge=1)
    """Number of threads of PyTorch."""
    max_pairs: int = Field(default=200_000, ge=1)
    """Pairs of atoms that are computed at once; bounds the memory of a step. Larger batches are added up."""
    max_cache_mib: int = Field(default=1024, ge=0)
    """Memory for batches that are kept between steps."""
    max_work_mib: int = Field(default=512, ge=1)
    """Memory for the derivatives of `gauss_newton`."""

    @model_validator(mode="after")
    def _is_possible(self) -> TrainingSettings:
        if self.ema_decay is not None and self.optimizer is not None and self.optimizer.is_full_batch:
            raise ValueError(
                f"ema_decay averages over the noise of mini-batches, which {self.optimizer.kind} does not have; "
                "leave it out or choose adam"
            )
        return self

    def chosen_optimizer(self, n_parameters: int) -> OptimizerSettings:
        """The optimizer for a model."""
        if self.optimizer is not None:
            return self.optimizer
        is_small = n_parameters <= _FEW_PARAMETERS and self.ema_decay is None
        return GaussNewtonSettings() if is_small else AdamSettings()

    def torch_device(self) -> str:
        """Name of the device.

        Raises:
            ConfigError: a GPU is asked for and there is none.
        """
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise ConfigError("device is cuda, but PyTorch finds no GPU; choose auto or cpu")
        return "cuda" if has_gpu and self.device != "cpu" else "cpu"

    def torch_dtype(self) -> torch.dtype:
        """The precision as PyTorch names it."""
        return torch.float64 if self.dtype == "float64" else torch.float32
