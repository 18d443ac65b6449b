"""What training minimizes: errors of energies, forces and virials, weighted in one of two forms.

``rmse`` is Eq. 34 of Chen et al., Comput. Phys. Commun. 2021 (TensorAlloy ML-EAM): a sum of root mean square errors.
``squared`` is DeePMD-kit's: a sum of mean square errors whose prefactors follow the learning rate. Quantities that a
frame does not have are left out of the sums and of their counts; they are never replaced by zeros.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...structures.settings import Settings
from .graph import Batch
from .model import ModelOutput

TERMS = ("energy", "force", "virial")
"""The terms of a loss, in the order of all tuples of this module."""

_SMALLEST = 1e-30  # keeps the slope of a square root finite where a term fits exactly


@dataclass(frozen=True)
class Labels:
    """What is known about the frames of a batch.

    Attributes:
        energies: ``[n_frames]``, eV.
        weights: ``[n_frames]``, weight of each frame's squared errors.
        forces: ``[n_known_atoms, 3]``, eV/Å.
        virials: ``[n_known_frames, 3, 3]``, eV, volume times stress (tension is positive).
        atoms_with_forces: int64 ``[n_known_atoms]``, atoms of the batch whose forces are known; ``None`` for all.
        frames_with_virial: int64 ``[n_known_frames]``, frames whose virial is known; ``None`` for all.
    """

    energies: Tensor
    weights: Tensor
    forces: Tensor
    virials: Tensor
    atoms_with_forces: Tensor | None = None
    frames_with_virial: Tensor | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of known energies, force components and virial components."""
        return self.energies.numel(), self.forces.numel(), self.virials.numel()


@dataclass(frozen=True)
class LabelledBatch:
    """Structures laid end to end, and their labels."""

    batch: Batch
    labels: Labels


def errors(output: ModelOutput, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """Model minus label for what is known.

    Returns:
        energies ``[n_frames]`` (eV), forces ``[n_known_atoms, 3]`` (eV/Å), virials ``[n_known_frames, 3, 3]`` (eV).
    """
    forces, virials = output.forces, output.virials
    if labels.atoms_with_forces is not None:
        forces = forces[labels.atoms_with_forces]
    if labels.frames_with_virial is not None:
        virials = virials[labels.frames_with_virial]
    return output.energies - labels.energies, forces - labels.forces, virials - labels.virials


class _LossSettings(Settings):
    group_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of the squared errors of each group of frames, 1 for groups that are not named; the weights are scaled so
    that their mean over the training frames is 1."""

    def residuals(self, output: ModelOutput, labelled: LabelledBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted errors whose squares this loss sums: flat tensors for energy, force and virial."""
        batch, labels = labelled.batch, labelled.labels
        energies, forces, virials = errors(output, labels)
        per_size, per_frame = self.scales(labelled)
        per_atom = per_frame[batch.frame_of_atom]
        per_virial = per_size
        if labels.atoms_with_forces is not None:
            per_atom = per_atom[labels.atoms_with_forces]
        if labels.frames_with_virial is not None:
            per_virial = per_virial[labels.frames_with_virial]
        return (
            energies * per_size,
            (forces * per_atom[:, None]).reshape(-1),
            (virials * per_virial[:, None, None]).reshape(-1),
        )

    def scales(self, labelled: LabelledBatch) -> tuple[Tensor, Tensor]:
        """What errors of energy and virial, and errors of forces, are multiplied by in each frame, ``[n_frames]``."""
        per_frame = labelled.labels.weights.sqrt()
        return per_frame / self._size(labelled.batch.n_atoms), per_frame

    @abstractmethod
    def _size(self, n_atoms: Tensor) -> Tensor:
        """What a frame's energy and virial are divided by, ``[n_frames]``."""


class RmseLossSettings(_LossSettings):
    """Sum of root mean square errors, Eq. 34 of the TensorAlloy ML-EAM paper, with a virial term beside it.

    ``energy * RMSE(E / N) + force * RMSE(F) + virial * RMSE(V / N)``: energy and virial per atom (eV), force components
    in eV/Å. The paper writes total energies; per atom, cells of different size count alike, and the weight of the
    energy takes the place of the number of atoms.
    """

    kind: Literal["rmse"] = "rmse"
    energy: float = Field(default=10.0, ge=0.0)
    """Weight of the energy per atom; the paper's total energies are about 50 to 100."""
    force: float = Field(default=1.0, ge=0.0)
    """Weight of the force components, χ_f of the paper."""
    virial: float = Field(default=0.1, ge=0.0)
    """Weight of the virial per atom (volume times stress, divided by the number of atoms); the paper has none."""

    def prefactors(self, rate_ratio: float) -> tuple[float, float, float]:
        """Weights of (energy, force, virial); they do not depend on the learning rate."""
        return self.energy, self.force, self.virial

    def total(self, means: tuple[Tensor, Tensor, Tensor], prefactors: tuple[float, float, float]) -> Tensor:
        """The loss from the mean squares of the residuals (energy, force, virial)."""
        roots = [mean.clamp_min(_SMALLEST).sqrt() for mean in means]
        return prefactors[0] * roots[0] + prefactors[1] * roots[1] + prefactors[2] * roots[2]

    def slopes(self, means: tuple[float, float, float], prefactors: tuple[float, float, float]) -> tuple[float, ...]:
        """Derivatives of the loss by the mean squares."""
        return tuple(p / (2.0 * max(mean, _SMALLEST) ** 0.5) for p, mean in zip(prefactors, means, strict=True))

    def _size(self, n_atoms: Tensor) -> Tensor:
        return n_atoms


class SquaredLossSettings(_LossSettings):
    """Sum of mean square errors as in DeePMD-kit, whose prefactors go with the learning rate.

    ``p_e mean(dE^2 / N) + p_f mean(dF^2) + p_v mean(dV^2 / N)`` with ``p = limit + (start - limit) lr(t) / lr(0)``;
    means run over frames, force components and the nine virial components. Full-batch optimizers have no learning
    rate and use the limits from the start.
    """

    kind: Literal["squared"] = "squared"
    start_energy: float = Field(default=0.02, ge=0.0)
    """Prefactor of the energy at the first step."""
    limit_energy: float = Field(default=1.0, ge=0.0)
    """Prefactor of the energy where the learning rate has gone to zero."""
    start_force: float = Field(default=1000.0, ge=0.0)
    """Prefactor of the forces at the first step."""
    limit_force: float = Field(default=1.0, ge=0.0)
    """Prefactor of the forces in the end."""
    start_virial: float = Field(default=0.0, ge=0.0)
    """Prefactor of the virial at the first step."""
    limit_virial: float = Field(default=0.0, ge=0.0)
    """Prefactor of the virial in the end."""

    def prefactors(self, rate_ratio: float) -> tuple[float, float, float]:
        """Prefactors of (energy, force, virial).

        Args:
            rate_ratio: present learning rate over that of the first step; 0 gives the limits.
        """
        return (
            self.limit_energy + (self.start_energy - self.limit_energy) * rate_ratio,
            self.limit_force + (self.start_force - self.limit_force) * rate_ratio,
            self.limit_virial + (self.start_virial - self.limit_virial) * rate_ratio,
        )

    def total(self, means: tuple[Tensor, Tensor, Tensor], prefactors: tuple[float, float, float]) -> Tensor:
        """The loss from the mean squares of the residuals (energy, force, virial)."""
        return prefactors[0] * means[0] + prefactors[1] * means[1] + prefactors[2] * means[2]

    def slopes(self, means: tuple[float, float, float], prefactors: tuple[float, float, float]) -> tuple[float, ...]:
        """Derivatives of the loss by the mean squares."""
        return prefactors

    def _size(self, n_atoms: Tensor) -> Tensor:
        return n_atoms.sqrt()


LossSettings = Annotated[RmseLossSettings | SquaredLossSettings, Field(discriminator="kind")]
"""How errors make up the loss, by ``kind``."""


def sums_of_squares(residuals: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of squares of each term, scalars; 0 for a term that no frame has."""
    energy, force, virial = (torch.dot(flat, flat) for flat in residuals)
    return energy, force, virial
