"""A network over the sites of a lattice that says which elements the empty sites hold, and what the property is.

Sites pass messages to their neighbours shell by shell; all neighbours of a shell have the same weights. So the network
treats all symmetry images of an ordering alike, translations included, and needs no augmentation; and it works on cells
of any size. Each phase has weights of its own for its shells, everything else is shared.

The property is seen relative to what the composition alone explains: an *excess*, in standard deviations. That is what
the ordering decides; in the property itself it would drown.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ...structures.base import Phase
from ...structures.lattice import ParentLattice


class OrderingNetwork(nn.Module):
    """Message passing over sites.

    Args:
        n_elements: elements; the number itself stands for an empty site.
        phases: phases it knows.
        n_shells: neighbour shells that messages come from.
        n_channels: features of a site.
        n_layers: rounds of messages.
    """

    def __init__(
        self, n_elements: int, phases: tuple[Phase, ...], n_shells: int, n_channels: int, n_layers: int
    ) -> None:
        super().__init__()
        self.n_elements = n_elements
        self.phases = phases
        self.n_shells = n_shells
        self.embedding = nn.Embedding(n_elements + 1, n_channels)
        # Composition, what is left of it for the empty sites, share of empty sites, excess wanted, is it wanted.
        self.condition = nn.Linear(2 * n_elements + 3 + len(phases), n_channels)
        self.messages = nn.ModuleDict(
            {
                phase: nn.ModuleList(nn.Linear(n_shells * n_channels, n_channels) for _ in range(n_layers))
                for phase in phases
            }
        )
        self.own = nn.ModuleList(nn.Linear(2 * n_channels, n_channels) for _ in range(n_layers))
        self.update = nn.ModuleList(nn.Linear(n_channels, n_channels) for _ in range(n_layers))
        self.elements = nn.Linear(n_channels, n_elements)
        self.excess = nn.Sequential(
            nn.Linear(2 * n_channels, n_channels), nn.SiLU(), nn.Linear(n_channels, 1, bias=False)
        )

    def forward(self, lattice: ParentLattice, occupations: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the elements of every site, and the excess of the property.

        Args:
            occupations: int64 ``[n, n_sites]``; ``n_elements`` where a site is empty.
            wanted: ``[n, 2 + n_elements]``: the excess, 1 where one is wanted (else 0 and 0), and the fractions of the
                elements once all sites are filled.

        Returns:
            ``[n, n_sites, n_elements]`` and ``[n]``.
        """
        hidden, condition = self._hidden(lattice, occupations, wanted)
        # Means over sites differ the less between orderings the more sites there are.
        each = self.excess(torch.cat([hidden, condition[:, None].expand_as(hidden)], dim=2))
        return self.elements(hidden), each[:, :, 0].mean(dim=1) * lattice.n_sites**0.5

    def _hidden(self, lattice: ParentLattice, occupations: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        present = nn.functional.one_hot(occupations, self.n_elements + 1).to(wanted.dtype).mean(dim=1)
        fractions, empty = wanted[:, 2:], present[:, -1:]
        left = (fractions - present[:, :-1]) / empty.clamp(min=1.0 / occupations.shape[1])
        phase = wanted.new_zeros(len(wanted), len(self.phases))
        phase[:, self.phases.index(lattice.phase)] = 1.0
        condition = self.condition(torch.cat([fractions, left, empty, wanted[:, :2], phase], dim=1))
        hidden = self.embedding(occupations) + condition[:, None]
        shells = shell_matrices(lattice, self.n_shells).to(hidden.dtype)
        layers: Any = self.messages[lattice.phase]
        for message, own, update in zip(layers, self.own, self.update, strict=True):
            around = torch.matmul(shells, hidden[:, None]).transpose(1, 2).flatten(2)
            context = condition[:, None].expand_as(hidden)
            # A product, because what matters of two neighbours is the pair.
            inner = nn.functional.silu(message(around)) * own(torch.cat([hidden, context], dim=2))
            hidden = hidden + update(inner)
        return hidden, condition


@lru_cache(maxsize=16)
def shell_matrices(lattice: ParentLattice, n_shells: int) -> Tensor:
    """Mean over the neighbours of each shell as a matrix, ``[n_shells, n_sites, n_sites]``."""
    matrices = torch.zeros(n_shells, lattice.n_sites, lattice.n_sites, dtype=torch.float64)
    for k, table in enumerate(lattice.neighbour_table(n_shells)):
        neighbours = torch.from_numpy(table.astype("int64"))
        share = torch.full(neighbours.shape, 1.0 / neighbours.shape[1], dtype=torch.float64)
        matrices[k].scatter_add_(1, neighbours, share)
    return matrices
