"""What a stretch of a trajectory says about structure and motion: distribution functions, autocorrelation, spectrum.

freud counts pairs for the radial distribution functions and averages displacements over all time origins; SciPy's
FFTs correlate velocities and give their power spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import freud
import numpy as np
from ase.data import atomic_numbers
from scipy.integrate import trapezoid
from scipy.signal import fftconvolve, welch

from ..cell_frame import CellFrame
from ..trajectory import Trajectory

RDF_WIDTH_ANG = 0.05
_MAX_FREQUENCY_THZ = 25.0


@dataclass(frozen=True)
class Windows:
    """Where observables are taken.

    Attributes:
        step_ps: time between two frames.
        r_max_ang: reach of the distribution functions; at most half of the cell's smallest height.
        rdf_every: frames from one that pairs are counted in to the next.
        n_lags: frames that velocity autocorrelations reach.
        n_displacements: frames that mean square displacements reach.
        n_spectrum: frames of a segment of the spectrum; its length in time is the inverse of the resolution.
    """

    step_ps: float
    r_max_ang: float
    rdf_every: int
    n_lags: int
    n_displacements: int
    n_spectrum: int

    @property
    def radii_ang(self) -> np.ndarray:
        """Middles of the bins, ``[n_bins]``."""
        return (np.arange(self.n_bins) + 0.5) * (self.r_max_ang / self.n_bins)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return max(1, round(self.r_max_ang / RDF_WIDTH_ANG))

    @property
    def lags_ps(self) -> np.ndarray:
        """Times of velocity autocorrelations, ``[n_lags]``."""
        return np.arange(self.n_lags) * self.step_ps

    @property
    def displacement_times_ps(self) -> np.ndarray:
        """Times of mean square displacements, ``[n_displacements]``."""
        return np.arange(self.n_displacements) * self.step_ps

    @property
    def frequencies_thz(self) -> np.ndarray:
        """Frequencies of spectra, up to 25 THz."""
        found = np.fft.rfftfreq(self.n_spectrum, self.step_ps)
        return found[found <= _MAX_FREQUENCY_THZ + 1e-6]


def longest_reach_ang(cell: np.ndarray) -> float:
    """Half of the cell's smallest height, Å, a hair less."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return 0.499 * float(heights.min())


def species_pairs(species: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of species, each once."""
    return [(a, b) for i, a in enumerate(species) for b in species[i:]]


def observables(frames: Trajectory, species: Sequence[str], windows: Windows) -> Mapping[str, np.ndarray]:
    """Averages over a block at constant volume.

    Args:
        frames: at equal distances in time, with velocities.
        species: chemical symbols, in the order of the results.

    Returns:
        ``rdf [n_pairs, n_bins]``; ``vacf [n_species, n_lags]``, Å²/ps²; ``vdos [n_species, n_frequencies]``, 1/THz,
        of unit integral; ``msd [n_species, n_displacements]``, Å²; ``temperature`` (K) and ``pressure`` (GPa).
    """
    assert frames.velocities is not None
    members = [np.flatnonzero(frames.numbers == atomic_numbers[symbol]) for symbol in species]
    with freud.parallel.NumThreads(1):
        return {
            "rdf": partial_rdfs(frames, members, windows),
            "vacf": np.array([autocorrelation(frames.velocities[:, own], windows.n_lags) for own in members]),
            "vdos": np.array([spectrum(frames.velocities[:, own], windows) for own in members]),
            "msd": np.array([_displacements(frames.positions[:, own], windows.n_displacements) for own in members]),
            "temperature": frames.temperatures_k.mean(),
            "pressure": frames.pressures_gpa.mean(),
        }


def partial_rdfs(frames: Trajectory, members: Sequence[np.ndarray], windows: Windows) -> np.ndarray:
    """Radial distribution functions of all pairs of species, ``[n_pairs, n_bins]``; 1 far away.

    Between atoms of one species the density of the others counts, (n - 1) / V, so that small cells have no bias.
    """
    pairs = [(i, j) for i in range(len(members)) for j in range(i, len(members))]
    counts = [
        freud.density.RDF(windows.n_bins, windows.r_max_ang, normalization_mode="finite_size" if i == j else "exact")
        for i, j in pairs
    ]
    for k in range(0, len(frames), windows.rdf_every):
        frame = CellFrame.of_cell(frames.cells[k])
        box = freud.box.Box.from_matrix(frame.box.T)
        inside = box.wrap(frame.wrapped(frames.positions[k]))
        for count, (i, j) in zip(counts, pairs, strict=True):
            search = {"mode": "ball", "r_max": windows.r_max_ang, "exclude_ii": i == j}
            count.compute((box, inside[members[j]]), query_points=inside[members[i]], neighbors=search, reset=False)
    return np.array([count.rdf for count in counts], dtype=float)


def autocorrelation(velocities: np.ndarray, n_lags: int) -> np.ndarray:
    """``<v(0) v(t)>`` over atoms and all time origins, ``[n_lags]``, Å²/ps².

    Args:
        velocities: ``[n_frames, n_atoms, 3]``, Å/ps.
    """
    n = len(velocities)
    products = fftconvolve(velocities, velocities[::-1], axes=0)[n - 1 : n - 1 + n_lags]
    origins = n - np.arange(n_lags)
    return products.sum(axis=2).mean(axis=1) / origins


def spectrum(velocities: np.ndarray, windows: Windows) -> np.ndarray:
    """Vibrational density of states: the power spectrum of the velocities by Welch's method.

    The value at zero is proportional to the diffusion coefficient.

    Args:
        velocities: ``[n_frames, n_atoms, 3]``, at least a segment of frames.

    Returns:
        Densities of unit integral at ``windows.frequencies_thz``, 1/THz.
    """
    frequencies, powers = welch(velocities, fs=1.0 / windows.step_ps, nperseg=windows.n_spectrum, detrend=False, axis=0)
    powers[0] *= 2.0  # SciPy's one-sided spectra count zero once and others twice
    density = powers.sum(axis=(1, 2))
    return density[: len(windows.frequencies_thz)] / trapezoid(density, frequencies)


def _displacements(positions: np.ndarray, n_lags: int) -> np.ndarray:
    """Mean square displacement over atoms and all time origins, ``[n_lags]``, Å²."""
    moved = positions - positions[0]  # freud computes in single precision
    return np.asarray(freud.msd.MSD(mode="window").compute(moved).msd[:n_lags], dtype=float)


def einstein_diffusion(times_ps: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Self-diffusion coefficient, Å²/ps, from the slope of mean square displacements in the later half of the lags.

    Args:
        times_ps: ``[n_lags]``.
        displacements: ``[..., n_lags]``, Å².
    """
    late = times_ps >= 0.5 * times_ps[-1]
    centred = times_ps[late] - times_ps[late].mean()
    return displacements[..., late] @ centred / (centred @ centred) / 6.0


def green_kubo_diffusion(times_ps: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """Self-diffusion coefficient, Å²/ps, from the integral of velocity autocorrelations ``[..., n_lags]``, Å²/ps²."""
    return trapezoid(correlations, times_ps, axis=-1) / 3.0
