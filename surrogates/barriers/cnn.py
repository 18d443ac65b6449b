"""The convolutional network on spatial density maps of Fan, Xing and Cao (2022), Fig. 1e."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from .base import BarrierSpec
from .density_maps import (
    DensityMapSettings,
    Environments,
    MapGrid,
    density_maps,
    density_maps_on,
    environments,
    map_grid,
    turns_of_lattice,
)
from .hops import Hops
from .network_model import NetworkSettings, zero_output
from .network_training import NetworkInputs

_N_STAGES = 4  # of layers, with a pooling between each two


class CnnSettings(NetworkSettings):
    """A three-dimensional convolutional network on pictures of the neighbourhood."""

    kind: Literal["cnn"] = "cnn"
    maps: DensityMapSettings = DensityMapSettings()
    """The pictures."""
    layers_per_stage: int = Field(default=1, ge=1, le=8)
    """Convolutions in each of the four stages, n of the paper's 4n layers; max-pooling stands between the stages."""
    filters: PositiveInt | tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = 60
    """Filters of 3 × 3 × 3 voxels in each convolution, or in those of each stage: later stages see fewer voxels, and
    more filters cost little there."""

    def facts(self, hops: Hops) -> dict[str, Any]:
        """The voxels, which depend on the crystals."""
        grid = map_grid(self.maps, hops)
        return {"n_voxels": grid.n_voxels, "half_ang": float(grid.half_ang)}

    def network(self, spec: BarrierSpec) -> nn.Module:
        """See :class:`~.network_model.NetworkSettings`."""
        filters = self.filters if isinstance(self.filters, tuple) else (self.filters,) * _N_STAGES
        return BarrierCnn(len(spec.elements), self.maps.n_voxels, self.layers_per_stage, filters)

    def inputs(self, hops: Hops, spec: BarrierSpec) -> MapInputs:
        """See :class:`~.network_model.NetworkSettings`."""
        found = environments(hops, spec.phase, self.maps, spec.elements)
        grid = MapGrid(spec.facts["n_voxels"], spec.facts["half_ang"], self.maps.width)
        turns = turns_of_lattice(spec.phase) if self.maps.turns == "lattice" else None
        return MapInputs(found, grid, len(spec.elements), turns)

    def views(self, inputs: NetworkInputs) -> Sequence[NetworkInputs]:
        """All turns of the lattice, with `turns: lattice`."""
        assert isinstance(inputs, MapInputs)
        return inputs.views()


class BarrierCnn(nn.Module):
    """Convolutions with batch normalization and ReLU, three poolings, and one linear output.

    Args:
        n_species: channels of the pictures.
        n_voxels: along an edge, a multiple of 8.
        filters: of the convolutions in each stage.
    """

    def __init__(self, n_species: int, n_voxels: int, layers_per_stage: int, filters: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_channels = n_species
        for stage, width in enumerate(filters):
            for _ in range(layers_per_stage):
                # the normalization has a constant of its own
                layers += [nn.Conv3d(n_channels, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
                n_channels = width
            if stage < _N_STAGES - 1:
                layers.append(nn.MaxPool3d(2))
        self.stages = nn.Sequential(*layers)
        self.output = zero_output(n_channels * (n_voxels // 8) ** 3)
        for module in self.stages:
            if isinstance(module, nn.Conv3d):  # half the time on a CPU
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, maps: Tensor) -> Tensor:
        """Outputs ``[n]`` for pictures ``[n, n_species, n_voxels, n_voxels, n_voxels]``."""
        states = self.stages(maps.contiguous(memory_format=torch.channels_last_3d))
        output: Tensor = self.output(states.flatten(1))
        return output[:, 0]


class MapInputs:
    """Pictures of hops, drawn batch by batch when they are asked for.

    On the CPU each call draws into the same memory, so a batch is to be used before the next is asked for.

    Args:
        turns: angles that pictures are turned by, radian; any if left out.
        angle: turn of all pictures where nothing is random, radian.
    """

    def __init__(
        self, found: Environments, grid: MapGrid, n_species: int, turns: np.ndarray | None = None, angle: float = 0.0
    ) -> None:
        self._found, self._grid, self._n_species, self._turns, self._angle = found, grid, n_species, turns, angle
        self._memory = np.zeros((0, n_species, *(grid.n_voxels,) * 3), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._found)

    def views(self) -> list[MapInputs]:
        """The same hops turned and mirrored in all ways that leave the lattice as it is; themselves with any turns."""
        if self._turns is None:
            return [self]
        sides = (self._found, self._found.mirrored(np.ones(len(self), dtype=bool)))
        return [
            MapInputs(side, self._grid, self._n_species, self._turns, float(angle))
            for side in sides
            for angle in self._turns
        ]

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Pictures ``[n, n_species, n_voxels, n_voxels, n_voxels]``, turned at random about the hop with ``rng``."""
        found = self._found.take(index)
        angles = np.full(len(index), self._angle)
        if rng is not None:
            if self._turns is None:
                angles = rng.uniform(0.0, 2.0 * np.pi, len(index))
            else:
                angles = rng.choice(self._turns, len(index))
                found = found.mirrored(rng.random(len(index)) < 0.5)
        if device.type != "cpu":
            return (density_maps_on(device, found, self._grid, self._n_species, angles),)
        if len(self._memory) < len(index):
            self._memory = np.zeros((len(index), *self._memory.shape[1:]), dtype=np.float32)
        return (torch.from_numpy(density_maps(found, self._grid, self._n_species, angles, out=self._memory)),)
