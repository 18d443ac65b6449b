"""Stops a molecular dynamics run at the step at which it stops being physics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from vesin import NeighborList

from .md_settings import MdSettings

BOLTZMANN_EV_K = 8.617343e-5
"""LAMMPS' own value in `units metal`."""
MVV_TO_EV = 1.0364269e-4
"""LAMMPS' own conversion of u (Å/ps)^2 to eV in `units metal`."""


class MdStopReason(StrEnum):
    """Why a run ended before its last step."""

    TEMPERATURE = "temperature"
    FORCE = "force"
    NOT_FINITE = "not_finite"
    TOO_CLOSE = "too_close"
    VOLUME = "volume"
    LOST_ATOMS = "lost_atoms"
    UNSTABLE = "unstable"
    """LAMMPS itself gave up: a box that is not finite, or tilted too far in one step."""
    WALL_TIME = "wall_time"
    OBSERVER = "observer"
    """The caller's own function asked for it."""


@dataclass(frozen=True)
class MdStop:
    """Why and when a run ended early.

    Attributes:
        reason: the class of reason.
        step: the step at which it was found.
        message: what was got and what is allowed.
        details: the numbers behind the message, JSON-able.
    """

    reason: MdStopReason
    step: int
    message: str
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_explosion(self) -> bool:
        """Whether the potential, or the time step, failed; rather than somebody's patience."""
        return self.reason not in (MdStopReason.WALL_TIME, MdStopReason.OBSERVER)


class StepGuard:
    """Checks one step after another.

    Args:
        settings: the run's settings with its limits.
        masses: ``[n_atoms]``, u.
        volume_ang3: volume at the start of the run.
    """

    def __init__(self, settings: MdSettings, masses: np.ndarray, volume_ang3: float) -> None:
        limits = settings.limits
        self._masses = masses
        self._max_temperature_k = settings.max_temperature_k
        self._max_force = limits.max_force_ev_ang
        self._min_distance = limits.min_distance_ang
        self._distance_steps = (limits.check_steps, settings.stride)
        self._volumes = (volume_ang3 * limits.min_volume_ratio, volume_ang3 * limits.max_volume_ratio)
        self._search = NeighborList(cutoff=max(limits.min_distance_ang, 1.0), full_list=False)
        self._degrees = max(3 * len(masses) - 3, 1)

    def check(
        self, step: int, positions: np.ndarray, velocities: np.ndarray, forces: np.ndarray, box: np.ndarray
    ) -> MdStop | None:
        """The reason to stop at this step, or ``None``.

        Args:
            positions, velocities, forces: ``[n_atoms, 3]``, in the order of the masses; Å, Å/ps, eV/Å.
            box: ``[3, 3]``, Å, rows are vectors.
        """
        volume = float(abs(box[0, 0] * box[1, 1] * box[2, 2]))  # lower triangular
        if not self._volumes[0] <= volume <= self._volumes[1]:
            return MdStop(
                MdStopReason.VOLUME,
                step,
                f"the cell has {volume:.5g} Å^3; {self._volumes[0]:.5g} to {self._volumes[1]:.5g} are allowed",
                {"volume_ang3": volume},
            )
        force = float(np.abs(forces).max())
        kinetic = 0.5 * MVV_TO_EV * float(self._masses @ np.einsum("ij,ij->i", velocities, velocities))
        temperature = 2.0 * kinetic / (self._degrees * BOLTZMANN_EV_K)
        if not (np.isfinite(force) and np.isfinite(temperature) and np.isfinite(positions).all()):
            return MdStop(MdStopReason.NOT_FINITE, step, "positions, velocities or forces are NaN or infinite")
        if force > self._max_force:
            return MdStop(
                MdStopReason.FORCE,
                step,
                f"a force of {force:.4g} eV/Å; at most {self._max_force:g} is allowed",
                {"force_ev_ang": force, "atom": int(np.argmax(np.abs(forces).max(axis=1)))},
            )
        if temperature > self._max_temperature_k:
            return MdStop(
                MdStopReason.TEMPERATURE,
                step,
                f"the temperature is {temperature:.5g} K; at most {self._max_temperature_k:g} K is allowed",
                {"temperature_k": temperature},
            )
        if self._min_distance > 0.0 and any(step % n == 0 for n in self._distance_steps):
            return self._check_distances(step, positions, box)
        return None

    def _check_distances(self, step: int, positions: np.ndarray, box: np.ndarray) -> MdStop | None:
        first, second, distances = self._search.compute(points=positions, box=box, periodic=True, quantities="ijd")
        if len(distances) == 0 or (shortest := float(distances.min())) >= self._min_distance:
            return None
        k = int(np.argmin(distances))
        return MdStop(
            MdStopReason.TOO_CLOSE,
            step,
            f"atoms {int(first[k])} and {int(second[k])} are {shortest:.3g} Å apart; at least "
            f"{self._min_distance:g} Å is allowed",
            {"distance_ang": shortest, "atom": int(first[k]), "neighbour": int(second[k])},
        )
