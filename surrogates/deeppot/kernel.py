"""Sums over neighbours for :mod:`.inference`, compiled by Numba.

Edges are directed pairs of neighbours, sorted by the atom in the centre and, for each, by the neighbour's species.
Compiled code is kept on the disk beside this file, or in the user's cache.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .compression import hermite_weights

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums in any order, fused; NaN and infinity are kept
_weights = numba.njit(cache=True, inline="always", fastmath=_FAST)(hermite_weights)


@numba.njit(cache=True, nogil=True)
def sort_edges(
    types: np.ndarray, n_species: int, first: np.ndarray, second: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Edges of pairs that are each listed once.

    Args:
        types: int64 ``[n_atoms]``.
        first, second, vectors: of the pairs, as in :class:`~alloysmith.surrogates.potentials.graph.Graph`.

    Returns:
        ``starts``, int64 ``[n_atoms * n_species + 1]``: edges of atom i to neighbours of species b are those from
        ``starts[i * n_species + b]`` on; ``others``, int64 ``[n_edges]``, the neighbours; ``vectors``
        ``[n_edges, 3]`` to them; and the smallest squared distance.
    """
    n_pairs = len(first)
    starts = np.zeros(len(types) * n_species + 1, dtype=np.int64)
    for p in range(n_pairs):
        starts[first[p] * n_species + types[second[p]] + 1] += 1
        starts[second[p] * n_species + types[first[p]] + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    places = starts.copy()
    others = np.empty(2 * n_pairs, dtype=np.int64)
    sorted_vectors = np.empty((2 * n_pairs, 3))
    closest = math.inf
    for p in range(n_pairs):
        i, j = first[p], second[p]
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        closest = min(closest, x * x + y * y + z * z)
        k = i * n_species + types[j]
        e = places[k]
        places[k] += 1
        others[e] = j
        sorted_vectors[e, 0], sorted_vectors[e, 1], sorted_vectors[e, 2] = x, y, z
        k = j * n_species + types[i]
        e = places[k]
        places[k] += 1
        others[e] = i
        sorted_vectors[e, 0], sorted_vectors[e, 1], sorted_vectors[e, 2] = -x, -y, -z
    return starts, others, sorted_vectors, closest


@numba.njit(cache=True, inline="always", fastmath=_FAST)
def _weighted_inverse(r, inner, cutoff):  # type: ignore[no-untyped-def]
    """As :func:`~.environment.weighted_inverse`, of one distance."""
    inverse = 1.0 / r
    if r <= inner:
        return inverse, -inverse * inverse
    if r >= cutoff:
        return 0.0, 0.0
    width = cutoff - inner
    u = (r - inner) / width
    weight = u * u * u * (-6.0 * u * u + 15.0 * u - 10.0) + 1.0
    slope = -30.0 * u * u * (u - 1.0) * (u - 1.0) / width
    s = weight * inverse
    return s, (slope - s) * inverse


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def add_moments(
    atoms: np.ndarray,
    species: int,
    n_species: int,
    starts: np.ndarray,
    vectors: np.ndarray,
    nodes: np.ndarray,
    step: float,
    scales: tuple[float, float, float],
    cutoffs: tuple[float, float],
    moments: np.ndarray,
) -> None:
    """Add to each atom what its neighbours of one species give beyond as many empty places.

    Args:
        atoms: int64 ``[n]``, atoms of one species.
        species: of the neighbours.
        starts, vectors: see :func:`sort_edges`.
        nodes, step: see :class:`~.compression.EmbeddingTable`.
        scales: mean and deviation of ``s``, and deviation of the other entries of the environment matrix.
        cutoffs: where neighbours begin to fade and where they leave, Å.
        moments: ``[n, 4, n_columns]``; sums of row times Phi are added.
    """
    n_columns = nodes.shape[2]
    mean, radial, angular = scales
    inner, cutoff = cutoffs
    last = len(nodes) - 2
    empty = -mean / radial
    for a in range(len(atoms)):
        k = atoms[a] * n_species + species
        found = moments[a]
        for e in range(starts[k], starts[k + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            r = math.sqrt(x * x + y * y + z * z)
            s, _ = _weighted_inverse(r, inner, cutoff)
            place = s / step
            n = min(int(place), last)
            (v0, v1, v2, v3, v4, v5), _ = _weights(place - n)
            at = nodes[n]
            to = nodes[n + 1]
            r0 = (s - mean) / radial
            along = s / (r * angular)
            r1, r2, r3 = along * x, along * y, along * z
            for c in range(n_columns):
                value = v0 * at[0, c] + v1 * at[1, c] + v2 * at[2, c] + v3 * to[0, c] + v4 * to[1, c] + v5 * to[2, c]
                found[0, c] += r0 * value - empty * nodes[0, 0, c]
                found[1, c] += r1 * value
                found[2, c] += r2 * value
                found[3, c] += r3 * value


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def add_forces(
    atoms: np.ndarray,
    species: int,
    n_species: int,
    starts: np.ndarray,
    others: np.ndarray,
    vectors: np.ndarray,
    nodes: np.ndarray,
    step: float,
    scales: tuple[float, float, float],
    cutoffs: tuple[float, float],
    slopes: np.ndarray,
    forces: np.ndarray,
    virial: np.ndarray,
) -> None:
    """Add forces and virial of the edges that :func:`add_moments` has seen.

    Args:
        slopes: ``[n, 4, n_columns]``, derivatives of the energy by the moments.
        forces: ``[n_atoms, 3]``, eV/Å.
        virial: ``[3, 3]``, eV.
    """
    n_columns = nodes.shape[2]
    mean, radial, angular = scales
    inner, cutoff = cutoffs
    last = len(nodes) - 2
    xx = yy = zz = yz = xz = xy = 0.0
    for a in range(len(atoms)):
        i = atoms[a]
        k = i * n_species + species
        by = slopes[a]
        fx = fy = fz = 0.0
        for e in range(starts[k], starts[k + 1]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            r = math.sqrt(x * x + y * y + z * z)
            s, slope = _weighted_inverse(r, inner, cutoff)
            place = s / step
            n = min(int(place), last)
            (v0, v1, v2, v3, v4, v5), (d0, d1, d2, d3, d4, d5) = _weights(place - n)
            at = nodes[n]
            to = nodes[n + 1]
            r0 = (s - mean) / radial
            along = s / (r * angular)
            r1, r2, r3 = along * x, along * y, along * z
            g0 = g1 = g2 = g3 = steep = 0.0
            for c in range(n_columns):
                p0, p1, p2, q0, q1, q2 = at[0, c], at[1, c], at[2, c], to[0, c], to[1, c], to[2, c]
                value = v0 * p0 + v1 * p1 + v2 * p2 + v3 * q0 + v4 * q1 + v5 * q2
                rise = d0 * p0 + d1 * p1 + d2 * p2 + d3 * q0 + d4 * q1 + d5 * q2
                b0, b1, b2, b3 = by[0, c], by[1, c], by[2, c], by[3, c]
                g0 += value * b0
                g1 += value * b1
                g2 += value * b2
                g3 += value * b3
                steep += rise * (r0 * b0 + r1 * b1 + r2 * b2 + r3 * b3)
            # the energy by s, with the direction kept, and by the direction times s
            inverse = 1.0 / r
            across = s * inverse / angular
            projected = (g1 * x + g2 * y + g3 * z) * inverse
            by_r = (g0 / radial + steep / step) * slope + projected * (slope - s * inverse) / angular
            by_r *= inverse
            dx = by_r * x + across * g1
            dy = by_r * y + across * g2
            dz = by_r * z + across * g3
            fx += dx
            fy += dy
            fz += dz
            j = others[e]
            forces[j, 0] -= dx
            forces[j, 1] -= dy
            forces[j, 2] -= dz
            xx += x * dx
            yy += y * dy
            zz += z * dz
            yz += 0.5 * (y * dz + z * dy)
            xz += 0.5 * (x * dz + z * dx)
            xy += 0.5 * (x * dy + y * dx)
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz
    virial[0, 0] += xx
    virial[1, 1] += yy
    virial[2, 2] += zz
    virial[1, 2] += yz
    virial[2, 1] += yz
    virial[0, 2] += xz
    virial[2, 0] += xz
    virial[0, 1] += xy
    virial[1, 0] += xy
