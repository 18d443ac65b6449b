"""Training of networks on voxel grids."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..barriers.network_training import NetworkTrainingSettings


class VoxelTrainingSettings(NetworkTrainingSettings):
    """Optimizer, schedule and limits; Adam and mean squared errors as in the paper."""

    optimizer: Literal["rmsprop", "adam"] = "adam"
    """`adam`, as in the paper, or `rmsprop`."""
    loss: Literal["mae", "mse"] = "mse"
    """Mean squared error, as in the paper, or mean absolute error."""
    schedule: Literal["plateau", "cosine"] = "cosine"
    """`cosine`: the learning rate falls to zero over `max_epochs`; `plateau`: it is divided by √10 when the validation
    error has not improved for `plateau_epochs`."""
    batch_size: int = Field(default=64, ge=2)
    """Atoms in a step."""
    max_atoms: int | None = Field(default=None, ge=1)
    """Most atoms to learn from, drawn at random from the training frames; a fifth as many, of the validation frames,
    decide which weights are kept. All where it is unset."""
