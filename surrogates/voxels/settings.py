"""All models of forces from voxels that a configuration can name by ``kind``, and reading one from its state."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, TypeAdapter
from torch import nn

from ...structures.settings import Settings
from ..base import SurrogateError, SurrogateState
from .model import KIND, VoxelForceModel, voxel_forces_from_state
from .networks import DenseNetwork, VoxelCnn
from .training_settings import VoxelTrainingSettings
from .voxel_grids import VoxelGridSettings


class _NetworkSettings(Settings):
    """What all kinds have."""

    grid: VoxelGridSettings = VoxelGridSettings()
    """What the network is shown of an atom's surroundings."""
    training: VoxelTrainingSettings = VoxelTrainingSettings()
    """Optimizer, schedule, limits."""


class VoxelCnnSettings(_NetworkSettings):
    """The convolutional network."""

    kind: Literal["cnn"] = "cnn"
    filters: PositiveInt = 256
    """Filters of 2 × 2 × 2 voxels in the first convolution; half as many from each to the next."""
    n_convolutions: int = Field(default=3, ge=1, le=8)
    """Convolutions; a max-pooling follows each but the last one, as long as the grid has room for it."""
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of the values that are dropped at random after every second convolution while it is trained."""
    widths: tuple[PositiveInt, ...] = (64, 32)
    """Neurons of the dense layers before the last one, which has three: F_x, F_y, F_z."""

    def network(self) -> nn.Module:
        """See :class:`~.model.VoxelNetworkSettings`."""
        n_channels = len(self.grid.descriptors)
        return VoxelCnn(n_channels, self.grid.n_voxels, self.filters, self.n_convolutions, self.dropout, self.widths)


class VoxelDenseSettings(_NetworkSettings):
    """The baseline: dense layers on the same grid."""

    kind: Literal["dense"] = "dense"
    widths: tuple[PositiveInt, ...] = (128, 64)
    """Neurons of the dense layers before the last one, which has three: F_x, F_y, F_z."""

    def network(self) -> nn.Module:
        """See :class:`~.model.VoxelNetworkSettings`."""
        return DenseNetwork(len(self.grid.descriptors), self.grid.n_voxels, self.widths)


VoxelForceSettings = Annotated[VoxelCnnSettings | VoxelDenseSettings, Field(discriminator="kind")]
"""Settings of a model of forces from voxels."""


def is_voxel_model(state: SurrogateState) -> bool:
    """Whether a model file holds a model of forces from voxels."""
    return state.kind == KIND


def voxel_model_from_state(state: SurrogateState) -> VoxelForceModel:
    """The fitted model of a state.

    Raises:
        SurrogateError: another kind, or an incomplete state.
    """
    if not is_voxel_model(state):
        raise SurrogateError(f"{state.kind!r} is no model of forces from voxels; `alloysmith fit` makes one")
    return voxel_forces_from_state(state, TypeAdapter(VoxelForceSettings).validate_python)
