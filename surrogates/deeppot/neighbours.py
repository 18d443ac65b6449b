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
class Block:
    """The neighbours of one species that atoms of one species have.

    Embeddings are made once for each edge, or for each pair where both atoms are of one species and see each other at
    the same distance; then they are put in their places.

    Attributes:
        edges: int64 ``[n_a, n_neighbours]``.
        embedded: int64 ``[n + 1]``, edges that are embedded; the last one is nobody.
        rows: int64 ``[n_a * n_neighbours]``, which of them is in each place.
        places: the other way round, int64 ``[n]``: one place of each, or two.
        empty: int64, places of nobody.
    """

    edges: Tensor
    embedded: Tensor
    rows: Tensor
    places: tuple[Tensor, ...]
    empty: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Blocks of neighbours.

    Edge ``e`` below the number of pairs is a pair seen from its first atom, edge ``n_pairs + e`` the same pair seen
    from its second; edge ``2 n_pairs`` stands for nobody.

    Attributes:
        atoms: for each species, its atoms, int64 ``[n_a]``.
        blocks: for species a and b, the edges from atoms of a to neighbours of b.
        slots: int64 ``[2 n_pairs]``, where each edge lies in the blocks, flattened and laid end to end.
        frames: int64 ``[n_atoms]``, structure of each atom, in the order of ``atoms``.
    """

    atoms: tuple[Tensor, ...]
    blocks: tuple[tuple[Block, ...], ...]
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
    blocks = tuple(
        tuple(
            _block(next(pieces), len(members), slots - offsets[a, b], len(batch.first), is_mutual=a == b)
            for b in range(n_species)
        )
        for a, members in enumerate(atoms)
    )
    return Neighbours(atoms, blocks, slots, batch.frame_of_atom[torch.cat(atoms)])


def _block(edges: Tensor, n_atoms: int, place_of_edge: Tensor, n_pairs: int, *, is_mutual: bool) -> Block:
    """A block from the edges in its places.

    Args:
        place_of_edge: ``[2 n_pairs]``; those of edges of other blocks mean nothing.
        is_mutual: whether both edges of a pair are in it.
    """
    embedded = edges[edges < (n_pairs if is_mutual else 2 * n_pairs)]
    seen_from = (0, n_pairs) if is_mutual else (0,)
    places = tuple(place_of_edge[shift + embedded] for shift in seen_from)
    rows = torch.full_like(edges, len(embedded))
    for of_edges in places:
        rows[of_edges] = torch.arange(len(embedded), device=edges.device)
    (empty,) = torch.nonzero(edges == 2 * n_pairs, as_tuple=True)
    embedded = torch.cat([embedded, embedded.new_full((1,), 2 * n_pairs)])
    width = len(edges) // n_atoms if n_atoms else 0
    return Block(edges.reshape(n_atoms, width), embedded, rows, places, empty)
