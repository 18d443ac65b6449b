"""A dense network on one-hot lattice sites: the neural network that Fan, Xing and Cao (2022) compare theirs with."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from .base import BarrierSpec
from .hop_lattice import HopLattice, hop_lattice
from .hops import Hops, Occupations, occupations
from .network_model import NetworkSettings, zero_output
from .site_features import FeatureKind, site_features


class DenseNetworkSettings(NetworkSettings):
    """Dense layers with ReLU on numbers that describe the species on the sites."""

    kind: Literal["dense"] = "dense"
    features: FeatureKind = "sites"
    """What describes a hop: one-hot `sites` as in the paper, or `counts` or `pairs`; see the ridge model."""
    n_shells: int = Field(default=4, ge=1, le=8)
    """Neighbour shells about the vacancy and about the moving atom."""
    hidden: tuple[int, ...] = (10, 10)
    """Neurons of each hidden layer."""

    def network(self, spec: BarrierSpec) -> nn.Module:
        """See :class:`~.network_model.NetworkSettings`."""
        lattice = hop_lattice(spec.phase, self.n_shells)
        none = Occupations(
            np.zeros((0, len(lattice.sites)), np.int8),
            np.zeros(0, np.int8),
            np.zeros((0, len(spec.elements)), np.float32),
        )
        n_inputs = site_features(self.features, none, lattice, len(spec.elements)).shape[1]
        return DenseNetwork(n_inputs, self.hidden)

    def inputs(self, hops: Hops, spec: BarrierSpec) -> SiteInputs:
        """See :class:`~.network_model.NetworkSettings`."""
        lattice = hop_lattice(spec.phase, self.n_shells)
        return SiteInputs(occupations(hops, lattice, spec.elements), self.features, lattice, len(spec.elements))


class DenseNetwork(nn.Module):
    """Dense layers with ReLU and one linear output; inputs are normalized to those of the training."""

    def __init__(self, n_inputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (n_inputs, *hidden)
        layers: list[nn.Module] = [nn.BatchNorm1d(n_inputs, affine=False)]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, zero_output(widths[-1]))

    def forward(self, features: Tensor) -> Tensor:
        """Outputs ``[n]`` for features ``[n, n_inputs]``."""
        output: Tensor = self.layers(features)
        return output[:, 0]


class SiteInputs:
    """Features of hops, made batch by batch."""

    def __init__(self, found: Occupations, kind: FeatureKind, lattice: HopLattice, n_elements: int) -> None:
        self._found, self._kind, self._lattice, self._n_elements = found, kind, lattice, n_elements

    def __len__(self) -> int:
        return len(self._found.moving)

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Features ``[n, n_features]``; nothing about them is random."""
        features = site_features(self._kind, self._found.take(index), self._lattice, self._n_elements)
        return (torch.from_numpy(features).to(device),)
