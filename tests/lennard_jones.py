"""The smallest model there is: pairs of Lennard-Jones atoms, smoothed at the cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from torch import Tensor, nn


class LennardJones(PotentialModel):
    """Pairs with a depth and a diameter for each element, mixed by Berthelot's rules; energies end smoothly."""

    def __init__(self, elements: tuple[str, ...], cutoff_ang: float = 6.0) -> None:
        super().__init__(elements, cutoff_ang)
        n = len(elements)
        self.depth_ev = nn.Parameter(torch.linspace(0.3, 0.5, n, dtype=torch.float64))
        self.diameter_ang = nn.Parameter(torch.linspace(2.3, 2.2, n, dtype=torch.float64))

    def energies(self, batch: Batch) -> Tensor:
        first, second = batch.types[batch.first], batch.types[batch.second]
        depth = (self.depth_ev[first] * self.depth_ev[second]).sqrt()
        diameter = (self.diameter_ang[first] + self.diameter_ang[second]) / 2
        squares = (batch.vectors**2).sum(dim=1)
        sixth = (diameter**2 / squares) ** 3
        taper = (1 - squares / self.cutoff_ang**2).clamp(min=0.0) ** 3
        pairs = 4 * depth * (sixth**2 - sixth) * taper
        return torch.zeros_like(batch.volumes).index_add(0, batch.frame_of_pair, pairs)

    def settings(self) -> Mapping[str, Any]:
        return {"elements": list(self.elements), "cutoff_ang": self.cutoff_ang}


def lennard_jones(*elements: str, references_ev: Mapping[str, float] | None = None) -> TorchPotential:
    """The potential of some elements."""
    model = LennardJones(elements)
    spec = PotentialSpec("lennard_jones", elements, model.cutoff_ang, reference_energies_ev=references_ev or {})
    return TorchPotential(spec, model)
