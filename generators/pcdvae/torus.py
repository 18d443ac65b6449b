"""The normal distribution wrapped around a periodic cell, and its score.

Displacing an atom by normal noise and folding it back into the cell gives the density

    p(r) = Σ_n N(r + n L; 0, σ² 1)   over all lattice vectors n L,

whose score ∇ log p is what denoising learns. (Xie et al., CDVAE, ICLR 2022, take the nearest image alone, which is
wrong where σ is not small beside the cell.) Where σ is large the same density is summed over reciprocal
lattice vectors G instead, p(r) = Σ_G exp(-σ² G² / 2) cos(G·r) / V; each sum is used where it takes few terms.
"""

from __future__ import annotations

from itertools import product
from math import log, pi, sqrt

import numpy as np
from ase.geometry import minkowski_reduce

_REACH = 9.0  # standard deviations behind which exp(-x² / 2) < 3e-18 of what is in front
_FOURIER_FROM = 2.5  # σ times the shortest |G|: here both sums take few hundred terms
_UNEVENNESS = 0.01  # of the density where a cell counts as evenly covered


class Torus:
    """A periodic cell.

    Args:
        cell: ``[3, 3]``, rows are cell vectors, Å. Any cell of the same lattice gives the same results.
    """

    def __init__(self, cell: np.ndarray) -> None:
        self._cell = np.asarray(minkowski_reduce(cell)[0])
        self._inverse = np.linalg.inv(self._cell)
        self._reciprocal = 2.0 * pi * self._inverse.T
        shells = np.array([n for n in product((-1, 0, 1), repeat=3) if any(n)]) @ self._reciprocal
        self._shortest = float(np.linalg.norm(shells, axis=1).min())

    @property
    def sigma_even_ang(self) -> float:
        """Noise, Å, that spreads atoms evenly over the cell: the density's slowest wave has an amplitude of 1 %.

        With it p V lies between about 0.95 and 1.05 in a cubic cell, three such waves of both signs.
        """
        return sqrt(2.0 * log(1.0 / _UNEVENNESS)) / self._shortest

    def log_density(self, displacements: np.ndarray, sigma_ang: float) -> np.ndarray:
        """Log density ``[n]``, 1/Å^3, of displacements ``[n, 3]``, Å."""
        return self._evaluate(displacements, sigma_ang)[0]

    def score(self, displacements: np.ndarray, sigma_ang: float) -> np.ndarray:
        """Gradient ``[n, 3]``, 1/Å, of :meth:`log_density` with respect to the displacements ``[n, 3]``, Å."""
        return self._evaluate(displacements, sigma_ang)[1]

    def nearest(self, displacements: np.ndarray) -> np.ndarray:
        """The same displacements ``[n, 3]``, Å, between -1/2 and 1/2 of the reduced cell."""
        scaled = displacements @ self._inverse
        return np.asarray((scaled - np.round(scaled)) @ self._cell)

    def _evaluate(self, displacements: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        near = self.nearest(displacements)
        if sigma * self._shortest > _FOURIER_FROM:
            return self._by_waves(near, sigma)
        return self._by_images(near, sigma)

    def _by_images(self, near: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        # the nearest image is no further than half the sum of the reduced cell's vectors
        radius = 0.5 * np.linalg.norm(self._cell, axis=1).sum()
        images = _lattice_vectors(self._cell, radius + sqrt(radius**2 + (_REACH * sigma) ** 2))
        square = np.sum(near * near, 1)[:, None] + 2.0 * near @ images.T + np.sum(images * images, 1)
        least = square.min(1, keepdims=True)
        weights = np.exp((least - square) / (2.0 * sigma**2))
        total = weights.sum(1)
        log_density = np.log(total) - least[:, 0] / (2.0 * sigma**2) - 1.5 * log(2.0 * pi * sigma**2)
        mean = near + weights @ images / total[:, None]
        return log_density, -mean / sigma**2

    def _by_waves(self, near: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        waves = _lattice_vectors(self._reciprocal, _REACH / sigma)
        amplitudes = np.exp(-0.5 * sigma**2 * np.sum(waves * waves, 1))
        phases = near @ waves.T
        total = np.cos(phases) @ amplitudes
        log_density = np.log(total) - log(abs(np.linalg.det(self._cell)))
        return log_density, -(np.sin(phases) * amplitudes) @ waves / total[:, None]


def _lattice_vectors(basis: np.ndarray, radius: float) -> np.ndarray:
    """All vectors ``[n, 3]`` of a lattice that are no longer than ``radius``."""
    most = np.floor(radius * np.linalg.norm(np.linalg.inv(basis), axis=0) + 1e-9).astype(int)
    numbers = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), -1).reshape(-1, 3)
    vectors = numbers @ basis
    return np.asarray(vectors[np.sum(vectors * vectors, 1) <= radius**2])
