"""The loops of :mod:`.voxel_grids`, compiled by Numba on their first use and kept on the disk.

Each environment is drawn by one thread, so that the result does not depend on their number.
"""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, parallel=True)
def add_inside(
    vectors: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    low: np.ndarray,
    step: np.ndarray,
    gamma: float,
    grids: np.ndarray,
) -> None:
    """Add each atom to the voxel that it lies inside of by Eq. 2; atoms outside the box are left out.

    Args:
        vectors: float64 ``[n_pairs, 3]``, from the centre of the environment, Å.
        weights: float64 ``[n_pairs, n_channels]``, the factor of the Gaussian.
        starts: int64 ``[n_environments + 1]``, the first pair of each environment.
        rows: int64 ``[n]``, environments that are wanted.
        low, step: float64 ``[n, 3]``, lowest corner of the box and edges of a voxel, Å.
        gamma: width of the Gaussian, in half edges of the box.
        grids: float32 ``[n, n_channels, n_voxels, n_voxels, n_voxels]``, zeros.
    """
    n = grids.shape[2]
    for row in numba.prange(len(rows)):
        environment = rows[row]
        for pair in range(starts[environment], starts[environment + 1]):
            squared = 0.0
            place = np.empty(3, dtype=np.int64)
            is_inside = True
            for axis in range(3):
                t = (vectors[pair, axis] - low[row, axis]) / step[row, axis]
                k = math.ceil(t) - 1  # 0 < t - k <= 1
                is_inside = is_inside and 0 <= k < n
                place[axis] = k
                offset = (t - k - 0.5) * 2.0 / n
                squared += offset * offset
            if is_inside:
                factor = math.exp(-squared / (2.0 * gamma * gamma))
                for channel in range(grids.shape[1]):
                    grids[row, channel, place[0], place[1], place[2]] += weights[pair, channel] * factor


@numba.njit(cache=True, parallel=True)
def add_everywhere(
    vectors: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    low: np.ndarray,
    step: np.ndarray,
    gamma: float,
    grids: np.ndarray,
) -> None:
    """Add each atom inside the box to all voxels, as Eq. 3 says with N the atoms of the environment.

    A Gaussian is the outer product of three of one dimension. Arguments as in :func:`add_inside`.
    """
    n = grids.shape[2]
    for row in numba.prange(len(rows)):
        environment = rows[row]
        profiles = np.empty((3, n))
        for pair in range(starts[environment], starts[environment + 1]):
            is_inside = True
            for axis in range(3):
                t = (vectors[pair, axis] - low[row, axis]) / step[row, axis]
                is_inside = is_inside and 0.0 < t <= n
                for k in range(n):
                    offset = (t - k - 0.5) * 2.0 / n
                    profiles[axis, k] = math.exp(-offset * offset / (2.0 * gamma * gamma))
            if not is_inside:
                continue
            for channel in range(grids.shape[1]):
                weight = weights[pair, channel]
                if weight == 0.0:
                    continue
                for i in range(n):
                    for j in range(n):
                        factor = weight * profiles[0, i] * profiles[1, j]
                        for k in range(n):
                            grids[row, channel, i, j, k] += factor * profiles[2, k]
