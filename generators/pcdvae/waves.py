"""Density waves: what all atoms of a noisy cell say together about the lattice that they come from.

A crystal under noise σ has density waves ρ_k = Σ_j exp(i k·x_j) that stand out at its reciprocal lattice vectors long
before any neighbourhood looks like one: N atoms tell where the lattice is up to σ |k| ~ (ln N)^½, where σ is almost a
third of the distance between neighbours. Messages between neighbours hardly see that, and what is cooled down from
anywhere in the cell freezes like a glass. For the posterior mean of one wave's phase, the score of an atom is

    s(x) = - c k sin(k·x - φ),   φ the phase of ρ_k,

and the c of each wave follow from its length, its amplitude and the noise. That is what is learnt here; sums over
structure factors in networks are those of Kosmala, Gasteiger, Gao, Günnemann, "Ewald-based long-range message passing
for molecular graphs" (ICML 2023), there for energies.

Waves are those of the cell's reciprocal lattice up to a length, which vanish smoothly there. Lengths are in units of
the volume per atom, amplitudes are per atom: rotations, translations, permutations, and other cells of the same
crystal, larger ones too, change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from ase.geometry import minkowski_reduce
from torch import Tensor, nn
from torch.nn.functional import silu

from .basis import envelope

_Q_MAX = 9.0
"""Longest wave vector times the cube root of the volume per atom: FCC has reflections at 6.9 and 7.9, BCC at 7.1."""
_N_LENGTHS = 48
_FAINT = 0.02
"""Amplitude per atom below which a wave fades instead of keeping its phase."""


@dataclass(frozen=True)
class Waves:
    """Density waves of structures, padded to as many atoms and waves as the largest one has.

    Attributes:
        vectors: ``[n_structures, n_waves, 3]``, times the cube root of the volume per atom; one of each pair ±k.
        lengths: of these, ``[n_structures, n_waves]``; beyond the cutoff where there is no wave.
        amplitudes: |ρ_k| / N, ``[n_structures, n_waves]``.
        cosines, sines: of k·x - φ_k, faded with faint waves, ``[n_structures, most_atoms, n_waves]``.
        places: int64 ``[n_atoms]``, where each atom lies in the padded form, flattened.
    """

    vectors: Tensor
    lengths: Tensor
    amplitudes: Tensor
    cosines: Tensor
    sines: Tensor
    places: Tensor

    def of_atoms(self, padded: Tensor) -> Tensor:
        """Values ``[n_structures, most_atoms, ...]`` of the atoms, ``[n_atoms, ...]``."""
        return padded.flatten(0, 1)[self.places]


def find_waves(
    positions: Sequence[np.ndarray], cells: Sequence[np.ndarray], *, dtype: torch.dtype, device: str
) -> Waves:
    """Density waves of periodic structures.

    Args:
        positions: of each structure ``[n_atoms, 3]``, Å.
        cells: of each structure ``[3, 3]``, rows are cell vectors, Å.
        dtype: of the results; they are computed in float64.
        device: where the tensors go.
    """
    found = [_wave_vectors(cell, len(points)) for points, cell in zip(positions, cells, strict=True)]
    n, n_waves, n_most = len(found), max(len(k) for k, _ in found), max(len(points) for points in positions)
    vectors = np.zeros((n, n_waves, 3))
    lengths, amplitudes = np.full((n, n_waves), 2.0 * _Q_MAX), np.zeros((n, n_waves))
    turns = np.zeros((n, n_most, n_waves), dtype=complex)
    for row, (points, (k, unit)) in enumerate(zip(positions, found, strict=True)):
        phases = np.exp(1j * (points @ k.T))
        mean = phases.mean(0)
        amplitude = np.abs(mean)
        vectors[row, : len(k)] = k * unit
        lengths[row, : len(k)] = np.linalg.norm(k, axis=1) * unit
        amplitudes[row, : len(k)] = amplitude
        turns[row, : len(points), : len(k)] = phases * (mean.conj() / np.hypot(amplitude, _FAINT))
    places = [row * n_most + np.arange(len(points)) for row, points in enumerate(positions)]

    def tensor(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(device, dtype)

    return Waves(
        tensor(vectors),
        tensor(lengths),
        tensor(amplitudes),
        tensor(turns.real),
        tensor(turns.imag),
        torch.from_numpy(np.concatenate(places)).to(device),
    )


def _wave_vectors(cell: np.ndarray, n_atoms: int) -> tuple[np.ndarray, float]:
    """Half of the reciprocal lattice within the cutoff ``[n_waves, 3]``, 1/Å, and the unit of length, Å."""
    reduced = np.asarray(minkowski_reduce(cell)[0])
    unit = (abs(float(np.linalg.det(reduced))) / n_atoms) ** (1.0 / 3.0)
    reciprocal = 2.0 * pi * np.linalg.inv(reduced).T
    most = np.floor(_Q_MAX / unit / (2.0 * pi) * np.linalg.norm(reduced, axis=1)).astype(int)
    first, second, third = (np.arange(-m, m + 1) for m in most)
    numbers = np.stack(np.meshgrid(first, second, third, indexing="ij"), -1).reshape(-1, 3)
    numbers = numbers[len(numbers) // 2 + 1 :]  # in this order the second half mirrors the first
    k = numbers @ reciprocal
    return k[np.linalg.norm(k, axis=1) * unit < _Q_MAX], unit


class WaveLayer(nn.Module):
    """What density waves say of each atom.

    Args:
        n_given: length of what is known of each structure: latent vector, phase, noise.
        n_channels: combinations of waves that are made.
        n_hidden: width of the hidden layers.
    """

    def __init__(self, n_given: int, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.given = nn.Linear(n_given, n_hidden)
        self.waves = nn.Linear(_N_LENGTHS + 2, n_hidden, bias=False)
        self.hidden = nn.Linear(n_hidden, n_hidden)
        self.weights = nn.Linear(n_hidden, 2 * n_channels)
        self.centers: Tensor
        self.register_buffer("centers", torch.linspace(0.0, _Q_MAX, _N_LENGTHS))

    def forward(self, waves: Waves, given: Tensor) -> tuple[Tensor, Tensor]:
        """Combinations of waves at each atom.

        Args:
            waves: of the noisy structures.
            given: ``[n_structures, n_given]``.

        Returns:
            Numbers ``[n_atoms, n_channels]``, and vectors ``[n_atoms, n_channels, 3]`` that turn with the structure.
        """
        x = waves.lengths.unsqueeze(-1)
        lengths = torch.exp(-0.5 * ((x - self.centers) * ((_N_LENGTHS - 1) / _Q_MAX)) ** 2)
        square = waves.amplitudes.square().unsqueeze(-1)
        features = torch.cat([lengths, square, torch.log(square + _FAINT**2) / 4.0], -1)
        hidden = silu(self.waves(features) + self.given(given).unsqueeze(1))
        hidden = silu(self.hidden(hidden))
        weights = self.weights(hidden) * envelope(x / _Q_MAX)
        for_numbers, for_vectors = weights.split(self.n_channels, -1)
        numbers = waves.cosines @ for_numbers
        pulls = (for_vectors.unsqueeze(-1) * waves.vectors.unsqueeze(2)).flatten(2)
        vectors = (waves.sines @ pulls).unflatten(-1, (self.n_channels, 3))
        return waves.of_atoms(numbers), waves.of_atoms(vectors)
