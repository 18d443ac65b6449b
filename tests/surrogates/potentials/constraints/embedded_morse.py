"""A small many-body potential of Morse pairs and a root of the density, and the same as a table for LAMMPS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alloysmith.oracles.potentials import FilesPotentialSettings, LammpsPotential
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.model import PotentialModel
from ase.data import atomic_masses, atomic_numbers
from torch import Tensor, nn

CUTOFF_ANG = 6.0
_N = 4000


class EmbeddedMorse(PotentialModel):
    """Σ D (e^{-2a(r - r0)} - 2 e^{-a(r - r0)}) - Σ A √ρ, ρ = Σ e^{-b(r - r0)}, smooth to the cutoff.

    Pairs of different elements take the mean parameters.
    """

    def __init__(self, elements: tuple[str, ...], rows: Sequence[Sequence[float]]) -> None:
        super().__init__(elements, CUTOFF_ANG)
        self.table = nn.Parameter(torch.tensor(rows, dtype=torch.float64))  # [n_elements, (D, a, r0, A, b)]

    def energies(self, batch: Batch) -> Tensor:
        r = torch.linalg.vector_norm(batch.vectors, dim=1)
        one, two = batch.types[batch.first], batch.types[batch.second]
        phi = self.pair(r, one, two)
        rho = torch.zeros(len(batch.types), dtype=r.dtype)
        rho = rho.index_add(0, batch.first, self.density(r, two)).index_add(0, batch.second, self.density(r, one))
        atomic = self.embedding(rho, batch.types)
        zero = torch.zeros(batch.n_frames, dtype=r.dtype)
        return zero.index_add(0, batch.frame_of_atom, atomic).index_add(0, batch.frame_of_pair, phi)

    def settings(self) -> Mapping[str, Any]:
        return {}

    def pair(self, r: Tensor, one: Tensor, two: Tensor) -> Tensor:
        depth, steep, r0 = (0.5 * (self.table[one] + self.table[two])).unbind(1)[:3]
        decay = torch.exp(-steep * (r - r0))
        return depth * (decay**2 - 2.0 * decay) * _taper(r)

    def density(self, r: Tensor, kind: Tensor) -> Tensor:
        return torch.exp(-self.table[kind, 4] * (r - self.table[kind, 2])) * _taper(r)

    def embedding(self, rho: Tensor, kind: Tensor) -> Tensor:
        return -self.table[kind, 3] * torch.sqrt(rho + 1e-3)


def nickel_like() -> EmbeddedMorse:
    """Face-centred cubic at about 3.5 Å, 190 GPa."""
    return EmbeddedMorse(("Ni",), [[0.12, 1.5, 2.95, 0.6, 1.5]])


def alloy_like() -> EmbeddedMorse:
    """Two elements of different size."""
    return EmbeddedMorse(("Ni", "Mo"), [[0.12, 1.5, 2.95, 0.6, 1.5], [0.2, 1.4, 3.25, 0.9, 1.4]])


def lammps_potential(model: EmbeddedMorse, folder: Path) -> LammpsPotential:
    """The model as a setfl table."""
    r = torch.arange(_N, dtype=torch.float64) * (CUTOFF_ANG / (_N - 1))
    rho = torch.arange(_N, dtype=torch.float64) * (120.0 / (_N - 1))
    inner = r.clamp(min=0.4)  # nothing comes so near; an exponential would only spoil the splines
    lines = ["made for a test", "", "", f"{len(model.elements)} {' '.join(model.elements)}"]
    lines.append(f"{_N} {float(rho[1])!r} {_N} {float(r[1])!r} {CUTOFF_ANG!r}")
    with torch.no_grad():
        kinds = [torch.full((_N,), k) for k in range(len(model.elements))]
        for kind, symbol in zip(kinds, model.elements, strict=True):
            number = atomic_numbers[symbol]
            lines.append(f"{number} {atomic_masses[number]} 3.5 fcc")
            lines += _numbers(model.embedding(rho, kind)) + _numbers(model.density(inner, kind))
        for i, one in enumerate(kinds):
            for two in kinds[: i + 1]:
                lines += _numbers(r * model.pair(inner, one, two))
    (folder / "embedded_morse.eam.alloy").write_text("\n".join(lines) + "\n")
    return FilesPotentialSettings(
        pair_style="eam/alloy",
        pair_coeff=(f"* * embedded_morse.eam.alloy {' '.join(model.elements)}",),
        elements=model.elements,
        base_dir=folder,
    ).load()


def _numbers(values: Tensor) -> list[str]:
    return [" ".join(f"{value:.16e}" for value in row) for row in np.asarray(values).reshape(-1, 5)]


def _taper(r: Tensor) -> Tensor:
    """1 up to 4 Å, 0 from the cutoff, with three continuous derivatives."""
    x = ((r - 4.0) / (CUTOFF_ANG - 4.0)).clamp(0.0, 1.0)
    return 1.0 - x**4 * (35.0 - 84.0 * x + 70.0 * x**2 - 20.0 * x**3)
