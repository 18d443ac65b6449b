"""All models of forces from voxels that a configuration can name by ``kind``, and reading one from its state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, TypeAdapter
from torch import nn

from ...structures.settings import Settings
from ..base import Report, SurrogateError, SurrogateState
from ..potentials.frame import Frame
from .model import KIND, VoxelForceModel, fit_voxel_forces, voxel_forces_from_state
from .networks import DenseNetwork, VoxelCnn
from .training_settings import VoxelTrainingSettings
from .voxel_grids import VoxelGridSettings


class _NetworkSettings(Settings):
    grid: VoxelGridSettings = VoxelGridSettings()
    """What the network is shown of an atom's surroundings."""
    training: VoxelTrainingSettings = VoxelTrainingSettings()
    """Optimizer, schedule, limits."""

    def fit(
        self,
        train: Sequence[Frame],
        validation: Sequence[Frame],
        *,
        elements: tuple[str, ...],
        seed: int,
        report: Report | None = None,
        checkpoint_path: Path | None = None,
    ) -> VoxelForceModel:
        """See :func:`~.model.fit_voxel_forces`."""
        return fit_voxel_forces(
            self,  # type: ignore[arg-type]
            train,
            validation,
            elements=elements,
            seed=seed,
            report=report,
            checkpoint_path=checkpoint_path,
        )


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
