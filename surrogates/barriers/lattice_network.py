"""A network on lattice sites that has the symmetry of a hop built in.

The barrier is the energy of the saddle minus that of the state before the hop. The surroundings of the saddle are
alike from both ends of the hop; those of the vacancy before it have all symmetry of the lattice. So the barrier is
S - V, where S passes messages between the sites about the hop and shares its weights among sites that are
equivalent at the saddle, and V does so about the vacancy and shares them within each neighbour shell. Forward and
backward hops, and all hops that a symmetry of the crystal connects, obey the exact relations whatever the weights.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from .base import BarrierSpec
from .hop_lattice import HopLattice, hop_lattice
from .hops import Hops, Occupations, occupations
from .network_model import NetworkSettings
from .network_training import NetworkTrainingSettings
from .ridge import RidgeSettings

_N_RANGES = 2  # first and second neighbours exchange messages


class LatticeNetworkSettings(NetworkSettings):
    """Message passing between lattice sites about the saddle and about the vacancy."""

    kind: Literal["lattice"] = "lattice"
    n_shells: int = Field(default=5, ge=1, le=8)
    """Neighbour shells about the vacancy and about the moving atom."""
    width: int = Field(default=24, ge=1)
    """Numbers that describe a site inside the network."""
    n_layers: int = Field(default=2, ge=1, le=6)
    """Times that sites exchange messages with their first and second neighbours."""
    n_members: int = Field(default=4, ge=1)
    """Networks in the ensemble, trained from different starts; their disagreement tells the error to expect."""
    base: RidgeSettings | None = RidgeSettings(features="pairs")
    """A linear model whose errors the networks learn."""
    training: NetworkTrainingSettings = NetworkTrainingSettings(
        optimizer="adam", schedule="cosine", learning_rate=3e-3, max_epochs=40, batch_size=64, weight_decay=1e-5
    )
    """Optimizer, schedule, limits."""

    def network(self, spec: BarrierSpec) -> nn.Module:
        """See :class:`~.network_model.NetworkSettings`."""
        return LatticeNetwork(hop_lattice(spec.phase, self.n_shells), len(spec.elements), self.width, self.n_layers)

    def inputs(self, hops: Hops, spec: BarrierSpec) -> OccupationInputs:
        """See :class:`~.network_model.NetworkSettings`."""
        return OccupationInputs(occupations(hops, hop_lattice(spec.phase, self.n_shells), spec.elements))


class OccupationInputs:
    """Species on the sites, as numbers."""

    def __init__(self, found: Occupations) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found.moving)

    def batch(self, index: np.ndarray, device: torch.device, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Species ``[n, n_sites]``, moving species ``[n]`` and compositions; nothing about them is random."""
        sites = torch.from_numpy(self._found.sites[index].astype(np.int64))
        moving = torch.from_numpy(self._found.moving[index].astype(np.int64))
        composition = torch.from_numpy(self._found.composition[index])
        return sites.to(device), moving.to(device), composition.to(device)


class LatticeNetwork(nn.Module):
    """The barrier as the difference of two sums over sites."""

    def __init__(self, lattice: HopLattice, n_elements: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.n_species = n_elements + 1  # the last one is a vacant site
        self.saddle = SiteEnergy(lattice.sites, lattice.saddle_orbits, self.n_species, self.n_species, width, n_layers)
        near = np.flatnonzero(lattice.shells < lattice.n_shells)
        sites = np.concatenate([lattice.hop[None], lattice.sites[near]])
        shells = np.concatenate([[0], lattice.shells[near]])
        self.vacancy = SiteEnergy(sites, shells, self.n_species, 1, width, n_layers)
        self.register_buffer("near", torch.from_numpy(near), persistent=False)
        self.near: Tensor

    def forward(self, sites: Tensor, moving: Tensor, composition: Tensor) -> Tensor:
        """Outputs ``[n]`` for species ``[n, n_sites]``, moving species ``[n]`` and compositions ``[n, n_elements]``.

        -1 is a vacant site.
        """
        sites, moving = sites % self.n_species, moving % self.n_species
        before = torch.cat([moving[:, None], sites[:, self.near]], dim=1)
        saddle: Tensor = self.saddle(sites, moving, composition)
        vacancy: Tensor = self.vacancy(before, torch.zeros_like(moving), composition)
        return saddle - vacancy


class SiteEnergy(nn.Module):
    """A sum over sites, with weights that are shared among equivalent ones.

    Args:
        sites: ``[n_sites, 3]``, halves of the cubic vectors.
        orbits: ``[n_sites]``, number of each site's set of equivalents.
        n_contexts: kinds of surroundings that change what a species means: the moving species.
    """

    def __init__(
        self, sites: np.ndarray, orbits: np.ndarray, n_species: int, n_contexts: int, width: int, n_layers: int
    ) -> None:
        super().__init__()
        n_orbits = int(orbits.max()) + 1
        self.n_species, self.n_contexts = n_species, n_contexts
        self.register_buffer("orbits", torch.from_numpy(orbits.astype(np.int64)), persistent=False)
        self.orbits: Tensor
        self.register_buffer("messages", torch.from_numpy(_message_matrices(sites)), persistent=False)
        self.messages: Tensor
        self.first = nn.Embedding(n_orbits * n_contexts * n_species, width)
        self.place = nn.ParameterList(torch.zeros(n_orbits, width) for _ in range(n_layers))
        self.far = nn.ModuleList(nn.Linear(n_species - 1, width) for _ in range(n_layers))
        self.mixing = nn.ModuleList(nn.Linear((1 + _N_RANGES) * width, width) for _ in range(n_layers))
        self.pooled = nn.Embedding(n_orbits, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)
        self.per_site = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.first.weight, std=0.5)
        nn.init.ones_(self.pooled.weight)
        for last in (self.output.weight, self.output.bias, self.per_site.weight):
            nn.init.zeros_(last)  # the training begins at the linear model

    def forward(self, species: Tensor, context: Tensor, composition: Tensor) -> Tensor:
        """Sums ``[n]`` for species ``[n, n_sites]`` in contexts ``[n]`` and crystals of a composition."""
        tokens = (self.orbits * self.n_contexts + context[:, None]) * self.n_species + species
        states = self.first(tokens)  # [n, n_sites, width]
        for place, far, mixing in zip(self.place, self.far, self.mixing, strict=True):
            heard = [states, *(matrix @ states for matrix in self.messages)]
            mixed = mixing(torch.cat(heard, dim=2)) + place[self.orbits] + far(composition)[:, None]
            states = states + nn.functional.silu(mixed)
        weighted = states * self.pooled(self.orbits)
        n_sites = states.shape[1]
        whole = self.output(nn.functional.silu(self.hidden(weighted.sum(dim=1) / n_sites**0.5)))
        parts = self.per_site(weighted).sum(dim=1) / n_sites**0.5
        total: Tensor = (whole + parts)[:, 0]
        return total


def _message_matrices(sites: np.ndarray) -> np.ndarray:
    """Scaled sums over first and over second neighbours, float32 ``[2, n_sites, n_sites]``."""
    squared = ((sites[:, None] - sites[None]) ** 2).sum(axis=2)
    shells = np.unique(squared[squared > 0])[:_N_RANGES]
    matrices = [(squared == shell) / (squared == shell).sum(axis=1).max() ** 0.5 for shell in shells]
    return np.stack(matrices).astype(np.float32)
