"""The loops over hops and sites that NumPy would spread over large arrays, compiled by Numba on their first use."""

from __future__ import annotations

import numba
import numpy as np

_ROWS = 64  # whose features stay in the fastest cache while a tree is walked


@numba.njit(cache=True, nogil=True)
def species_about(
    starts: np.ndarray,
    direction: np.ndarray,
    images: np.ndarray,
    triangle: np.ndarray,
    atom_of_key: np.ndarray,
    species: np.ndarray,
    vacant: np.ndarray,
    origin: np.ndarray,
    moving: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill in the species on the sites about hops; -1 at images of the vacancy, the mover's at images of its site.

    Args:
        starts: int64 ``[n_hops, 3]``, sites of the vacancies.
        direction: int64 ``[n_hops]``, of the hops.
        images: int64 ``[n_directions, n_sites, 3]``, sites seen from the vacancy.
        triangle: int64 ``[3, 3]``, translations of the cell, upper triangular with a positive diagonal.
        atom_of_key: int64, number of the atom at each site of the cell.
        species: int8 ``[n_atoms]``.
        vacant, origin: int64 ``[n_hops]``, atoms on the two sites of the hop.
        moving: int8 ``[n_hops]``, species that moves.
        out: int8 ``[n_hops, n_sites]``.
    """
    first, second, third = triangle[0, 0], triangle[1, 1], triangle[2, 2]
    for h in range(len(starts)):
        turned = images[direction[h]]
        for s in range(turned.shape[0]):
            x = starts[h, 0] + turned[s, 0]
            y = starts[h, 1] + turned[s, 1]
            z = starts[h, 2] + turned[s, 2]
            # the sites of a crystal lie in or about its cell, so that few steps lead back to it
            while x < 0:
                x, y, z = x + first, y + triangle[0, 1], z + triangle[0, 2]
            while x >= first:
                x, y, z = x - first, y - triangle[0, 1], z - triangle[0, 2]
            while y < 0:
                y, z = y + second, z + triangle[1, 2]
            while y >= second:
                y, z = y - second, z - triangle[1, 2]
            while z < 0:
                z += third
            while z >= third:
                z -= third
            atom = atom_of_key[(x * second + y) * third + z]
            if atom == vacant[h]:
                out[h, s] = -1
            elif atom == origin[h]:
                out[h, s] = moving[h]
            else:
                out[h, s] = species[atom]


@numba.njit(cache=True, nogil=True)
def count_species(sites: np.ndarray, orbits: np.ndarray, n_elements: int, out: np.ndarray) -> None:
    """Add the counts of each species on equivalent sites.

    Args:
        sites: int8 ``[n_hops, n_sites]``, below 0 for a vacant site.
        orbits: int64 ``[n_sites]``, number of each site's set of equivalents.
        out: float32 ``[n_hops, n_orbits × n_elements]``.
    """
    for h in range(sites.shape[0]):
        for s in range(sites.shape[1]):
            if sites[h, s] >= 0:
                out[h, orbits[s] * n_elements + sites[h, s]] += 1.0


@numba.njit(cache=True, nogil=True)
def count_pairs(
    sites: np.ndarray, first: np.ndarray, second: np.ndarray, orbits: np.ndarray, columns: np.ndarray, out: np.ndarray
) -> None:
    """Add the counts of each pair of species on equivalent pairs of sites.

    Args:
        sites: int8 ``[n_hops, n_sites]``, below 0 for a vacant site.
        first, second: int64 ``[n_pairs]``, sites of the pairs.
        orbits: int64 ``[n_pairs]``, number of each pair's set of equivalents.
        columns: int64 ``[n_elements, n_elements]``, symmetric: column of the first orbit of each pair of species.
        out: float32 ``[n_hops, n_columns]``.
    """
    for h in range(sites.shape[0]):
        for p in range(len(first)):
            a, b = np.int64(sites[h, first[p]]), np.int64(sites[h, second[p]])
            if a >= 0 and b >= 0:
                out[h, columns[a, b] + orbits[p]] += 1.0


@numba.njit(cache=True, nogil=True)
def add_trees(
    features: np.ndarray,
    roots: np.ndarray,
    depths: np.ndarray,
    feature: np.ndarray,
    children: np.ndarray,
    threshold: np.ndarray,
    leaf: np.ndarray,
    totals: np.ndarray,
) -> None:
    """Add the values of trees, one tree after the other.

    All rows of a block take a step down before any takes the next, which keeps the processor busy: steps of different
    rows do not wait for one another, and there is nothing to guess.

    Args:
        features: float32 ``[n, n_features]``.
        roots: uint32 ``[n_trees]``; unsigned numbers need no check for counting from the end.
        depths: int64 ``[n_trees]``, steps from the root to the deepest leaf.
        feature: uint32 ``[n_nodes]``.
        children: uint32 ``[2 n_nodes]``, where each node leads to if its feature is at most the threshold, and if it
            is not; a leaf is its own child.
        threshold, leaf: float64 ``[n_nodes]``.
        totals: float64 ``[n]``.
    """
    n = len(features)
    nodes = np.empty(_ROWS, dtype=np.uint32)
    for start in range(0, n, _ROWS):
        block = features[start : start + _ROWS]
        for t in range(len(roots)):
            nodes[:] = roots[t]
            for _ in range(depths[t]):
                for row in range(len(block)):
                    node = nodes[row]
                    is_right = block[row, feature[node]] > threshold[node]
                    nodes[row] = children[2 * node + np.uint32(is_right)]
            for row in range(len(block)):
                totals[start + row] += leaf[nodes[row]]
