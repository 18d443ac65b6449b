"""Filling the empty sites of orderings, so that the counts of elements come out exactly as asked for."""

from __future__ import annotations

import numpy as np
import torch

from ...structures.lattice import ParentLattice
from .network import OrderingNetwork


@torch.no_grad()
def fill_sites(
    network: OrderingNetwork,
    lattice: ParentLattice,
    occupations: np.ndarray,
    counts: np.ndarray,
    wanted: np.ndarray,
    n_steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Fill empty sites in random order by the network's probabilities, within the counts.

    An element that is used up has no chance any more, so the composition is exact. The network is asked ``n_steps``
    times; sites filled in one step do not see each other, but they do see the counts that are left.

    Args:
        occupations: int8 ``[n, n_sites]``; ``n_elements`` where a site is empty.
        counts: atoms of each element when all sites are filled, int ``[n, n_elements]``.
        wanted: excess of the property to ask for, in standard deviations, ``[n]``.
        n_steps: calls of the network, at least 1; no more are made than sites are empty.

    Returns:
        int8 ``[n, n_sites]``.
    """
    n_elements = network.n_elements
    filled = occupations.astype(np.int64)
    left = counts - np.stack([(filled == k).sum(axis=1) for k in range(n_elements)], axis=1)
    fractions = counts / lattice.n_sites
    condition = torch.from_numpy(
        np.concatenate([wanted[:, None], np.ones((len(wanted), 1)), fractions], axis=1).astype(np.float32)
    )
    n_empty = (filled == n_elements).sum(axis=1)
    # The empty sites of each row in random order, before its other sites.
    order = np.argsort(rng.random(filled.shape) + (filled != n_elements), axis=1)
    most = int(n_empty.max(initial=0))
    for part in np.array_split(np.arange(most), min(n_steps, most) or 1):
        if not len(part):
            break
        logits, _ = network(lattice, torch.from_numpy(filled), condition)
        chances = torch.softmax(logits.double(), dim=2).numpy()
        for position in part:
            rows = np.flatnonzero(n_empty > position)
            sites = order[rows, position]
            weights = (chances[rows, sites] + 1e-12) * (left[rows] > 0)
            heaps = np.cumsum(weights, axis=1)
            drawn = (rng.random(len(rows))[:, None] * heaps[:, -1:] >= heaps).sum(axis=1)
            filled[rows, sites] = drawn
            left[rows, drawn] -= 1
    return filled.astype(np.int8)
