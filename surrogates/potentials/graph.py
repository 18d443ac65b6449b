"""Neighbours of structures, and batches of structures of different size.

A graph lists each pair of neighbours once. A batch lays the atoms and pairs of its graphs end to end, so that nothing
is padded; sums over a structure or an atom are ``index_add`` over the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from vesin import NeighborList

from ..base import SurrogateError


@dataclass(frozen=True)
class Graph:
    """A structure as a potential sees it.

    Attributes:
        types: int64 ``[n_atoms]``, indices into the potential's elements.
        first, second: int32 ``[n_pairs]``, the two atoms of each pair; equal where an atom meets its own image.
        vectors: ``[n_pairs, 3]``, Å, from the first to the second.
        volume_ang3: volume of the cell, Å^3.
    """

    types: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    volume_ang3: float


@dataclass(frozen=True)
class Batch:
    """Graphs laid end to end.

    Attributes:
        types: int64 ``[n_atoms]``.
        frame_of_atom: int64 ``[n_atoms]``, which structure an atom belongs to.
        first, second: int64 ``[n_pairs]``, indices into the atoms of the batch.
        vectors: ``[n_pairs, 3]``, Å.
        volumes: ``[n_frames]``, Å^3.
        n_atoms: ``[n_frames]``, number of atoms, as floats.
    """

    types: Tensor
    frame_of_atom: Tensor
    first: Tensor
    second: Tensor
    vectors: Tensor
    volumes: Tensor
    n_atoms: Tensor

    @property
    def n_frames(self) -> int:
        """Number of structures."""
        return len(self.volumes)

    @property
    def frame_of_pair(self) -> Tensor:
        """Structure of each pair, int64 ``[n_pairs]``."""
        return self.frame_of_atom.index_select(0, self.first)

    def with_vectors(self, vectors: Tensor) -> Batch:
        """The same pairs with other vectors."""
        return replace(self, vectors=vectors)


def type_indices(atoms: Atoms, elements: Sequence[str]) -> np.ndarray:
    """Index of each atom's element in ``elements``, int64 ``[n_atoms]``.

    Raises:
        SurrogateError: the structure holds an element that is not listed.
    """
    index: Mapping[str, int] = {symbol: i for i, symbol in enumerate(elements)}
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(index))
    if unknown:
        raise SurrogateError(f"the potential has no {', '.join(unknown)}; it has {', '.join(elements)}")
    return np.array([index[symbol] for symbol in symbols], dtype=np.int64)


def build_graph(atoms: Atoms, elements: Sequence[str], cutoff_ang: float) -> Graph:
    """Find all pairs of atoms, periodic images included, that are closer than the cutoff.

    Raises:
        SurrogateError: an unknown element, or coordinates that are not finite.
    """
    types = type_indices(atoms, elements)
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise SurrogateError("the structure has coordinates that are NaN or infinite")
    search = NeighborList(cutoff=cutoff_ang, full_list=False, sorted=False)
    first, second, vectors = search.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc.tolist(), quantities="ijD"
    )
    return Graph(types, first.astype(np.int32), second.astype(np.int32), vectors, float(abs(atoms.cell.volume)))


def collate(graphs: Sequence[Graph], *, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Batch:
    """Lay graphs end to end on a device."""
    sizes = np.array([len(graph.types) for graph in graphs])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first = np.concatenate([graph.first.astype(np.int64) + k for graph, k in zip(graphs, offsets, strict=False)])
    second = np.concatenate([graph.second.astype(np.int64) + k for graph, k in zip(graphs, offsets, strict=False)])
    return Batch(
        types=torch.from_numpy(np.concatenate([graph.types for graph in graphs])).to(device),
        frame_of_atom=torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes)).to(device),
        first=torch.from_numpy(first).to(device),
        second=torch.from_numpy(second).to(device),
        vectors=torch.from_numpy(np.concatenate([graph.vectors for graph in graphs])).to(device, dtype),
        volumes=torch.tensor([graph.volume_ang3 for graph in graphs], dtype=dtype, device=device),
        n_atoms=torch.tensor(sizes, dtype=dtype, device=device),
    )


def deformed(batch: Batch, strain: Tensor, displacements: Tensor | None = None) -> Batch:
    """A batch under homogeneous strain and atomic displacements, differentiable in both.

    Args:
        strain: ``[n_frames, 3, 3]``; a vector r becomes r (1 + strain).
        displacements: ``[n_atoms, 3]``, Å, added after the strain.
    """
    per_pair = strain[batch.frame_of_pair]
    vectors = batch.vectors + torch.einsum("pi,pij->pj", batch.vectors, per_pair)
    if displacements is not None:
        vectors = vectors + displacements[batch.second] - displacements[batch.first]
    determinant = torch.linalg.det(torch.eye(3, dtype=strain.dtype, device=strain.device) + strain)
    return replace(batch, vectors=vectors, volumes=batch.volumes * determinant.abs())
