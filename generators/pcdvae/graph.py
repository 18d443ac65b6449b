"""Directed periodic graphs with an exact cutoff: every neighbour within it, however many there are.

An edge runs from a source atom, or an image of it, to a target atom; each comes with its reverse. Capping the number
of neighbours, as the published model does at 20, halves shells of equal distance at random and breaks the invariance
under permutations and rotations; here nothing is capped, and all weights of edges vanish smoothly at the cutoff, so
that it does not matter on which side of it rounding puts a shell.

Edges are sorted by their targets. In padded form those into one atom are the rows of one matrix, so that sums over
neighbours are sums over columns or batched matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from .gathering import collect, repeat, spread


@dataclass(frozen=True)
class Edges:
    """Edges of structures laid end to end.

    Attributes:
        source, target: int64 ``[n_edges]``, indices into the atoms of all structures; ``target`` ascends.
        distances: ``[n_edges]``, Å.
        directions: ``[n_edges, 3]``, unit vectors from the target to the source.
        reverse: int64 ``[n_edges]``, the edge that runs the other way between the same images.
        places: int64 ``[n_edges]``, where an edge lies in the padded form, flattened.
        n_atoms: number of atoms of all structures.
        width: largest number of edges into one atom.
    """

    source: Tensor
    target: Tensor
    distances: Tensor
    directions: Tensor
    reverse: Tensor
    places: Tensor
    n_atoms: int
    width: int

    def padded(self, x: Tensor) -> Tensor:
        """Values of edges ``[n_edges, ...]`` by target, ``[n_atoms, width, ...]``, with zeros for nobody."""
        return spread(x, self.places, self.n_atoms * self.width).unflatten(0, (self.n_atoms, self.width))

    def flat(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`padded`."""
        return collect(x.flatten(0, 1), self.places)

    def reversed(self, x: Tensor) -> Tensor:
        """The value ``[n_edges, ...]`` that each edge's reverse has."""
        return collect(x, self.reverse)

    def sums(self, x: Tensor) -> Tensor:
        """Sums ``[n_atoms, ...]`` of values ``[n_edges, ...]`` over the edges into each atom."""
        return self.padded(x).sum(1)

    def at_targets(self, h: Tensor) -> Tensor:
        """Values ``[n_edges, ...]`` of atoms ``[n_atoms, ...]`` at the target of each edge."""
        return repeat(h, self.target, self.places, self.width)

    def at_sources(self, h: Tensor) -> Tensor:
        """Values ``[n_edges, ...]`` of atoms ``[n_atoms, ...]`` at the source of each edge."""
        return self.reversed(self.at_targets(h))


def find_edges(
    positions: Sequence[np.ndarray],
    cells: Sequence[np.ndarray],
    cutoff_ang: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Edges:
    """All edges of periodic structures that are shorter than the cutoff.

    Args:
        positions: of each structure ``[n_atoms, 3]``, Å; finite, and may lie outside the cell.
        cells: of each structure ``[3, 3]``, rows are cell vectors, Å; with a volume.
        cutoff_ang: length of the longest edges, Å.
        dtype: of distances and directions; they are computed in float64.
        device: where the tensors go.
    """
    search = NeighborList(cutoff=cutoff_ang, full_list=False, sorted=False)
    ends: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    offset = 0
    for points, cell in zip(positions, cells, strict=True):
        first, second, vectors = search.compute(points=points, box=cell, periodic=True, quantities="ijD")
        ends.append((first.astype(np.int64) + offset, second.astype(np.int64) + offset, vectors))
        offset += len(points)
    first, second, vectors = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    n_pairs = len(first)
    target, source = np.concatenate([first, second]), np.concatenate([second, first])
    vectors = np.concatenate([vectors, -vectors])  # vesin's go from the first to the second
    order = np.argsort(target, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(2 * n_pairs)
    counts = np.bincount(target, minlength=offset)
    target = target[order]
    width = int(counts.max(initial=0))
    starts = np.cumsum(counts) - counts
    distances = np.maximum(np.linalg.norm(vectors[order], axis=1), 1e-9)  # noise may put two atoms on one place
    return Edges(
        source=torch.from_numpy(source[order]).to(device),
        target=torch.from_numpy(target).to(device),
        distances=torch.from_numpy(distances).to(device, dtype),
        directions=torch.from_numpy(vectors[order] / distances[:, None]).to(device, dtype),
        reverse=torch.from_numpy(rank[(order + n_pairs) % (2 * n_pairs)]).to(device),
        places=torch.from_numpy(target * width + np.arange(2 * n_pairs) - starts[target]).to(device),
        n_atoms=offset,
        width=width,
    )
