"""Loops over neighbours and over entries of descriptors for :mod:`.inference`, compiled by Numba.

Edges are directed pairs of neighbours, sorted by the atom in the centre and, for each, by the neighbour's species.
Compiled code is kept on the disk: beside this file, in the user's cache, or in ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from .compression import hermite_weights

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums in any order, fused; NaN and infinity are kept


def _can_keep() -> bool:
    """Whether there is a folder for compiled code; there is none where package and home are read-only."""
    try:
        numba.njit(cache=True)(hermite_weights)
    except RuntimeError:
        return False
    return True


IS_KEPT = _can_keep()
"""Whether compiled code is kept for the next process."""
_compiled = numba.njit(cache=IS_KEPT, nogil=True, fastmath=_FAST, error_model="numpy")
_inlined = numba.njit(cache=IS_KEPT, inline="always", fastmath=_FAST, error_model="numpy")
_weights = _inlined(hermite_weights)


class Scales(NamedTuple):
    """Numbers of the atoms of one species.

    Attributes:
        step: distance of the nodes of the tables in ``s``, 1/Å.
        mean, radial: mean and deviation of ``s``, 1/Å.
        angular: deviation of the other entries of the environment matrix, 1/Å.
        inner_ang, cutoff_ang: where neighbours begin to fade, and where they leave.
    """

    step: float
    mean: float
    radial: float
    angular: float
    inner_ang: float
    cutoff_ang: float


@_compiled
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


@_inlined
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


@_compiled
def sum_neighbours(
    atoms: np.ndarray, starts: np.ndarray, vectors: np.ndarray, nodes: np.ndarray, scales: Scales
) -> np.ndarray:
    """What neighbours give beyond as many empty places: sums of rows of the environment matrix times Phi.

    Args:
        atoms: int64 ``[n]``, atoms of one species.
        starts, vectors: see :func:`sort_edges`.
        nodes: of the tables for each species of neighbours, see :class:`~.compression.EmbeddingTables`.

    Returns:
        ``[n, 4, n_species, n_columns]``.
    """
    n_species, n_nodes, _, n_columns = nodes.shape
    radial, angular, spacing = 1.0 / scales.radial, 1.0 / scales.angular, 1.0 / scales.step
    empty = -scales.mean * radial
    sums = np.zeros((len(atoms), 4, n_species, n_columns))
    value = np.empty(n_columns)
    for a in range(len(atoms)):
        for b in range(n_species):
            k = atoms[a] * n_species + b
            sum_0, sum_1, sum_2, sum_3 = sums[a, 0, b], sums[a, 1, b], sums[a, 2, b], sums[a, 3, b]
            n_empty = empty * (starts[k + 1] - starts[k])
            for c in range(n_columns):
                sum_0[c] = -n_empty * nodes[b, 0, 0, c]
            for e in range(starts[k], starts[k + 1]):
                x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
                r = math.sqrt(x * x + y * y + z * z)
                s, _ = _weighted_inverse(r, scales.inner_ang, scales.cutoff_ang)
                place = s * spacing
                n = min(int(place), n_nodes - 2)
                (v0, v1, v2, v3, v4, v5), _ = _weights(place - n)
                at, to = nodes[b, n], nodes[b, n + 1]
                r0 = (s - scales.mean) * radial
                along = s / r * angular
                r1, r2, r3 = along * x, along * y, along * z
                # one loop for each array that is written, or else the compiler fears that they overlap
                for c in range(n_columns):
                    value[c] = (
                        v0 * at[0, c] + v1 * at[1, c] + v2 * at[2, c] + v3 * to[0, c] + v4 * to[1, c] + v5 * to[2, c]
                    )
                for c in range(n_columns):
                    sum_0[c] += r0 * value[c]
                for c in range(n_columns):
                    sum_1[c] += r1 * value[c]
                for c in range(n_columns):
                    sum_2[c] += r2 * value[c]
                for c in range(n_columns):
                    sum_3[c] += r3 * value[c]
    return sums


@_compiled
def add_forces(
    atoms: np.ndarray,
    starts: np.ndarray,
    others: np.ndarray,
    vectors: np.ndarray,
    nodes: np.ndarray,
    scales: Scales,
    slopes: np.ndarray,
    forces: np.ndarray,
    virial: np.ndarray,
) -> None:
    """Add what the energies of some atoms give to forces and virial.

    Args:
        atoms, starts, others, vectors, nodes: as in :func:`sum_neighbours`.
        slopes: ``[n, 4, n_species, n_columns]``, derivatives of the energy by its sums.
        forces: ``[n_atoms, 3]``, eV/Å.
        virial: ``[6]``, eV: xx, yy, zz, yz, xz, xy.
    """
    n_species, n_nodes, _, n_columns = nodes.shape
    radial, angular, spacing = 1.0 / scales.radial, 1.0 / scales.angular, 1.0 / scales.step
    for a in range(len(atoms)):
        i = atoms[a]
        fx = fy = fz = 0.0
        for b in range(n_species):
            k = i * n_species + b
            by_0, by_1, by_2, by_3 = slopes[a, 0, b], slopes[a, 1, b], slopes[a, 2, b], slopes[a, 3, b]
            for e in range(starts[k], starts[k + 1]):
                x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
                r = math.sqrt(x * x + y * y + z * z)
                s, slope = _weighted_inverse(r, scales.inner_ang, scales.cutoff_ang)
                place = s * spacing
                n = min(int(place), n_nodes - 2)
                (v0, v1, v2, v3, v4, v5), (d0, d1, d2, d3, d4, d5) = _weights(place - n)
                at, to = nodes[b, n], nodes[b, n + 1]
                inverse = 1.0 / r
                across = s * inverse * angular
                r0 = (s - scales.mean) * radial
                r1, r2, r3 = across * x, across * y, across * z
                g0 = g1 = g2 = g3 = rise = 0.0
                for c in range(n_columns):
                    p0, p1, p2, q0, q1, q2 = at[0, c], at[1, c], at[2, c], to[0, c], to[1, c], to[2, c]
                    value = v0 * p0 + v1 * p1 + v2 * p2 + v3 * q0 + v4 * q1 + v5 * q2
                    steep = d0 * p0 + d1 * p1 + d2 * p2 + d3 * q0 + d4 * q1 + d5 * q2
                    b0, b1, b2, b3 = by_0[c], by_1[c], by_2[c], by_3[c]
                    g0 += value * b0
                    g1 += value * b1
                    g2 += value * b2
                    g3 += value * b3
                    rise += steep * (r0 * b0 + r1 * b1 + r2 * b2 + r3 * b3)
                # by the distance, with the direction kept, and by the direction
                along = (g1 * x + g2 * y + g3 * z) * inverse
                by_r = (g0 * radial + rise * spacing) * slope + along * (slope - s * inverse) * angular
                by_r *= inverse
                dx, dy, dz = by_r * x + across * g1, by_r * y + across * g2, by_r * z + across * g3
                fx += dx
                fy += dy
                fz += dz
                j = others[e]
                forces[j, 0] -= dx
                forces[j, 1] -= dy
                forces[j, 2] -= dz
                virial[0] += x * dx
                virial[1] += y * dy
                virial[2] += z * dz
                virial[3] += 0.5 * (y * dz + z * dy)
                virial[4] += 0.5 * (x * dz + z * dx)
                virial[5] += 0.5 * (x * dy + y * dx)
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz


@_compiled
def describe(moments: np.ndarray, means: np.ndarray, inverse_deviations: np.ndarray) -> np.ndarray:
    """Normalized descriptors.

    Args:
        moments: T of each atom, ``[n, 4, n_outputs]``.
        means, inverse_deviations: of the descriptors, ``[n_outputs, n_axis]``.

    Returns:
        ``[n, n_outputs, n_axis]``.
    """
    n_atoms, _, n_outputs = moments.shape
    n_axis = means.shape[1]
    found = np.empty((n_atoms, n_outputs, n_axis))
    for a in range(n_atoms):
        t0, t1, t2, t3 = moments[a, 0], moments[a, 1], moments[a, 2], moments[a, 3]
        for m in range(n_outputs):
            m0, m1, m2, m3 = t0[m], t1[m], t2[m], t3[m]
            for k in range(n_axis):
                product = m0 * t0[k] + m1 * t1[k] + m2 * t2[k] + m3 * t3[k]
                found[a, m, k] = (product - means[m, k]) * inverse_deviations[m, k]
    return found


@_compiled
def back_to_moments(moments: np.ndarray, slopes: np.ndarray, inverse_deviations: np.ndarray) -> np.ndarray:
    """Derivatives by the moments, ``[n, 4, n_outputs]``, from those by the descriptors that :func:`describe` gave."""
    n_atoms, _, n_outputs = moments.shape
    n_axis = slopes.shape[2]
    found = np.empty((n_atoms, 4, n_outputs))
    axis = np.empty((4, n_axis))
    for a in range(n_atoms):
        t0, t1, t2, t3 = moments[a, 0], moments[a, 1], moments[a, 2], moments[a, 3]
        axis[:] = 0.0
        for m in range(n_outputs):
            m0, m1, m2, m3 = t0[m], t1[m], t2[m], t3[m]
            b0 = b1 = b2 = b3 = 0.0
            for k in range(n_axis):
                slope = slopes[a, m, k] * inverse_deviations[m, k]
                b0 += t0[k] * slope
                b1 += t1[k] * slope
                b2 += t2[k] * slope
                b3 += t3[k] * slope
                axis[0, k] += m0 * slope
                axis[1, k] += m1 * slope
                axis[2, k] += m2 * slope
                axis[3, k] += m3 * slope
            found[a, 0, m], found[a, 1, m], found[a, 2, m], found[a, 3, m] = b0, b1, b2, b3
        for c in range(4):
            for k in range(n_axis):
                found[a, c, k] += axis[c, k]
    return found
