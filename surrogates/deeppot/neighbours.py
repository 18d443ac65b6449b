"""Neighbours of each atom, sorted by species and padded, from a half list of pairs.

All atoms of one species and their neighbours of another make a rectangular block, on which sums over neighbours are
batched matrix products. Everything here depends only on who is whose neighbour, so it is kept for as long as the
batch lives.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from ..potentials.graph import Batch


@dataclass(frozen=True)
class Neighbours:
    """Blocks of neighbours.

    Edge ``e`` below the number of pairs is a pair seen from its first atom, edge ``n_pairs + e`` the same pair seen
    from its second; edge ``2 n_pairs`` stands for nobody.

    Attributes:
        atoms: for each species, its atoms, int64 ``[n_a]``.
        edges: for species a and b, the edges from atoms of a to neighbours of b, int64 ``[n_a, n_neighbours]``.
        slots: int64 ``[2 n_pairs]``, where each edge lies in the blocks, flattened and laid end to end.
        frames: int64 ``[n_atoms]``, structure of each atom, in the order of ``atoms``.
    """

    atoms: tuple[Tensor, ...]
    edges: tuple[tuple[Tensor, ...], ...]
    slots: Tensor
    frames: Tensor


def neighbours(batch: Batch, n_species: int) -> Neighbours:
    """The blocks of a batch; found once for batches that share their pairs."""
    key = id(batch.first)
    known = _kept.get(key)
    if known is not None and known[0]() is batch.first:
        return known[1]
    found = _sorted(batch, n_species)

    def forget(reference: weakref.ref[Tensor]) -> None:
        if key in _kept and _kept[key][0] is reference:
            del _kept[key]

    _kept[key] = (weakref.ref(batch.first, forget), found)
    return found


_kept: dict[int, tuple[weakref.ref[Tensor], Neighbours]] = {}


def _sorted(batch: Batch, n_species: int) -> Neighbours:
    types, n_atoms, n_edges = batch.types, len(batch.types), 2 * len(batch.first)
    device = types.device
    centre = torch.cat([batch.first, batch.second])
    other_type = types[torch.cat([batch.second, batch.first])]
    key = centre * n_species + other_type
    order = torch.argsort(key, stable=True)
    counts = torch.bincount(key, minlength=n_atoms * n_species)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n_edges, device=device) - starts[key[order]]
    counts = counts.reshape(n_atoms, n_species)

    atoms = tuple(torch.nonzero(types == a)[:, 0] for a in range(n_species))
    row = torch.empty_like(types)
    widths = torch.zeros(n_species, n_species, dtype=torch.int64)
    for a, members in enumerate(atoms):
        row[members] = torch.arange(len(members), device=device)
        if len(members):
            widths[a] = counts[members].amax(0).cpu()
    sizes = widths * torch.tensor([len(members) for members in atoms])[:, None]
    offsets = (torch.cumsum(sizes.reshape(-1), 0) - sizes.reshape(-1)).reshape(n_species, n_species).to(device)
    block = types[centre], other_type
    slots = offsets[block] + row[centre] * widths.to(device)[block] + rank
    flat = torch.full((int(sizes.sum()),), n_edges, device=device)
    flat[slots] = torch.arange(n_edges, device=device)
    pieces = iter(torch.split(flat, sizes.reshape(-1).tolist()))
    edges = tuple(
        tuple(next(pieces).reshape(len(members), int(widths[a, b])) for b in range(n_species))
        for a, members in enumerate(atoms)
    )
    return Neighbours(atoms, edges, slots, batch.frame_of_atom[torch.cat(atoms)])
