"""The loops of :mod:`.density_maps`, compiled by Numba on their first use and kept on the disk."""

from __future__ import annotations

import math

import numba
import numpy as np

_ROW = 16  # voxels; at least 2 reach + 1
_NOTHING = np.float32(1e-8)


@numba.njit(cache=True, inline="always", fastmath={"contract"})
def _add_atom(picture: np.ndarray, profiles: np.ndarray, first: np.ndarray, last: np.ndarray, is_full: bool) -> None:
    start = first[2]
    for i in range(first[0], last[0]):
        for j in range(first[1], last[1]):
            weight = profiles[0, i] * profiles[1, j]
            if weight < _NOTHING:
                continue
            if is_full:
                for k in range(_ROW):
                    picture[i, j, start + k] += weight * profiles[2, start + k]
            else:
                for k in range(start, last[2]):
                    picture[i, j, k] += weight * profiles[2, k]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def add_maps(
    vectors: np.ndarray,
    species: np.ndarray,
    angles: np.ndarray,
    half_ang: float,
    sigma: float,
    reach: int,
    maps: np.ndarray,
) -> None:
    """Add the Gaussians of all atoms to maps of zeros.

    A Gaussian is the outer product of three of one dimension; only some ``2 reach + 1`` voxels about the atom are
    visited along each axis, ``reach`` being 7 at most.

    Args:
        vectors: float64 ``[n_hops, n_atoms, 3]``, Å, the hop along x.
        species: int8 ``[n_hops, n_atoms]``; atoms below 0 are left out.
        angles: float64 ``[n_hops]``, rotation about x, radian.
        half_ang: half the edge of the map, Å.
        sigma: standard deviation of the Gaussians, voxels.
        maps: float32 ``[n_hops, n_species, n, n, n]``, over z, y and x.
    """
    n = maps.shape[2]
    step = 2.0 * half_ang / n
    width = min(n, _ROW)
    profiles = np.empty((3, n), dtype=np.float32)
    first = np.empty(3, dtype=np.int64)
    last = np.empty(3, dtype=np.int64)
    for h in range(vectors.shape[0]):
        cosine, sine = math.cos(angles[h]), math.sin(angles[h])
        for a in range(vectors.shape[1]):
            if species[h, a] < 0:
                continue
            x, y, z = vectors[h, a, 0], vectors[h, a, 1], vectors[h, a, 2]
            place = (cosine * z + sine * y, cosine * y - sine * z, x)
            for axis in range(3):
                nearest = math.floor((place[axis] + half_ang) / step)
                first[axis] = max(0, nearest - reach)
                last[axis] = min(n, nearest + reach + 1)
                if axis == 2:  # rows of one length, which the compiler turns into vector instructions
                    first[axis] = max(0, min(first[axis], n - width))
                    last[axis] = first[axis] + width
                for k in range(first[axis], last[axis]):
                    distance = ((k + 0.5) * step - half_ang - place[axis]) / (step * sigma)
                    profiles[axis, k] = math.exp(-0.5 * distance * distance)
            _add_atom(maps[h, species[h, a]], profiles, first, last, width == _ROW)
