"""A small pair potential and frames labelled by it, for tests of training."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alloysmith.surrogates.base import SurrogateError
from alloysmith.surrogates.potentials.base import PotentialSpec
from alloysmith.surrogates.potentials.frame import Frame
from alloysmith.surrogates.potentials.graph import Batch
from alloysmith.surrogates.potentials.model import PotentialModel
from alloysmith.surrogates.potentials.torch_potential import TorchPotential
from ase.build import bulk
from torch import Tensor, nn

TRUE = (0.35, 1.4, 2.85)


class MorseModel(PotentialModel):
    """Morse's pair energy, smooth at the cutoff, plus a many-body term so that forces are not of pairs alone."""

    def __init__(self, depth: float, width: float, length: float, *, many_body: float = 0.1) -> None:
        super().__init__(("Cu",), 5.0)
        self.depth = nn.Parameter(torch.tensor(depth, dtype=torch.float64))
        self.shape = nn.Parameter(torch.tensor([width, length], dtype=torch.float64))
        self.many_body = nn.Parameter(torch.tensor(many_body, dtype=torch.float64))

    def settings(self) -> Mapping[str, Any]:
        return {}

    def _curves(self, distances: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width, length = self.shape
        decay = torch.exp(-width * (distances - length))
        end = (1.0 - distances / self.cutoff_ang) ** 2
        end_slope = -2.0 * (1.0 - distances / self.cutoff_ang) / self.cutoff_ang
        pair = self.depth * (decay**2 - 2.0 * decay)
        pair_slope = self.depth * -2.0 * width * (decay**2 - decay)
        return pair * end, pair_slope * end + pair * end_slope, decay * end, -width * decay * end + decay * end_slope

    def energies(self, batch: Batch) -> Tensor:
        pair, _, density, _ = self._curves(batch.vectors.norm(dim=1))
        totals = torch.zeros(len(batch.types), dtype=pair.dtype).index_add(0, batch.first, density)
        totals = totals.index_add(0, batch.second, density)
        energies = torch.zeros(batch.n_frames, dtype=pair.dtype).index_add(0, batch.frame_of_pair, pair)
        return energies.index_add(0, batch.frame_of_atom, -self.many_body * (1.0 + totals).sqrt())


class ClosedMorseModel(MorseModel):
    """The same with forces in closed form."""

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        distances = batch.vectors.norm(dim=1)
        _, pair_slope, density, density_slope = self._curves(distances)
        totals = torch.zeros(len(batch.types), dtype=density.dtype).index_add(0, batch.first, density)
        totals = totals.index_add(0, batch.second, density)
        by_density = -0.5 * self.many_body / (1.0 + totals).sqrt()
        slopes = pair_slope + (by_density[batch.first] + by_density[batch.second]) * density_slope
        return self.energies(batch), (slopes / distances)[:, None] * batch.vectors


class FragileModel(ClosedMorseModel):
    """Kills its process at an evaluation while there is a file, which it takes away; or raises errors."""

    def __init__(self, path: Path, does: str) -> None:
        super().__init__(0.3, 1.2, 2.7)
        self.path, self.does = path, does

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.path.exists():
            if self.does == "dies":
                self.path.unlink(missing_ok=True)
                os.kill(os.getpid(), signal.SIGKILL)
            raise SurrogateError("no sums today") if self.does == "refuses" else RuntimeError("a defect")
        return super().energies_and_pair_forces(batch)


def start_model() -> ClosedMorseModel:
    """A model that is well away from the labels'."""
    return ClosedMorseModel(0.3, 1.2, 2.7)


def labelled_frames(n: int, *, seed: int = 0, noise: float = 0.0) -> list[Frame]:
    """Rattled and strained copper cells of 1 to 8 atoms, labelled by the model with :data:`TRUE`."""
    rng = np.random.default_rng(seed)
    potential = TorchPotential(PotentialSpec("morse", ("Cu",), 5.0), ClosedMorseModel(*TRUE))
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=k % 3 != 0) * ((2, 1, 1) if k % 4 == 1 else (1, 1, 1))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.12, seed=int(rng.integers(2**31)))
        found = potential.evaluate([atoms])[0]
        frames.append(
            Frame(
                atoms,
                found.energy_ev + noise * rng.normal(),
                found.forces + noise * rng.normal(size=found.forces.shape),
                found.stress,
                "odd" if k % 2 else "even",
                f"morse:{k}",
            )
        )
    return frames
