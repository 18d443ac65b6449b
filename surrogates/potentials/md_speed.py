"""What molecular dynamics with a potential costs: the CPU time of a short run of a stated cell."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat

from ...oracles.md_settings import MdLimits, MdSettings
from ...oracles.molecular_dynamics import MolecularDynamics
from ...oracles.trajectory import Trajectory
from ...structures.lattice import parent_lattice
from ...structures.settings import CellSettings, Settings
from ...structures.space import DesignSpace
from ..base import SurrogateError
from .base import Potential
from .native import force_field_of

MD_SPEED_METRICS = ("md_us_per_atom_step", "md_ns_per_day")
"""CPU microseconds per atom and step; nanoseconds in a day of one core."""

_MAX_STEPS = 5000
_SECONDS_A_DAY = 86_400.0


class MdSpeedSettings(Settings):
    """The run that tells how fast a potential is: the elements in equal parts at random on a face-centred cubic crystal
    of their crystals' mean volume, at constant energy."""

    cell: CellSettings = CellSettings(kind="cubic", repeat=(4, 4, 4))
    """Its cell; 4 × 4 × 4 cubic cells hold 256 atoms."""
    temperature_k: PositiveFloat = 1000.0
    """Of the velocities at the start."""
    timestep_fs: PositiveFloat = 2.0
    """Time step, which the nanoseconds in a day depend on."""
    cpu_s: float = Field(default=1.0, gt=0.0)
    """CPU seconds that are measured, about; as many are spent before."""


def md_speed(potential: Potential, settings: MdSpeedSettings) -> Mapping[str, float]:
    """Measure a potential, run as `alloysmith md` runs it: natively where LAMMPS has a pair style for it.

    CPU time of all threads counts, the start of LAMMPS does not.

    Returns:
        :data:`MD_SPEED_METRICS`.

    Raises:
        SurrogateError: the run stops being physics.
        OracleError: LAMMPS cannot be used.
    """
    elements = potential.spec.elements
    lattice = parent_lattice("fcc", settings.cell.kind, settings.cell.repeat)
    space = DesignSpace(elements, (lattice,))
    kinds = np.resize(np.arange(len(elements), dtype=np.int8), lattice.n_sites)
    atoms = space.atoms(lattice, np.random.default_rng(0).permutation(kinds))
    with force_field_of(potential) as force_field:
        few = _step_s(force_field, atoms, settings, 5)  # also wakes what sleeps until the first step
        n_steps = min(_MAX_STEPS, max(5, math.ceil(settings.cpu_s / max(few, 1e-9))))
        step_s = _step_s(force_field, atoms, settings, n_steps)
    per_atom = 1e6 * step_s / len(atoms)
    return {
        "md_us_per_atom_step": per_atom,
        "md_ns_per_day": _SECONDS_A_DAY / step_s * settings.timestep_fs * 1e-6,
    }


def _step_s(force_field: Any, atoms: Any, settings: MdSpeedSettings, n_steps: int) -> float:
    """CPU seconds of a step, over the second half of twice as many; observers see no step 0."""
    clock: list[float] = []

    def look(frame: Trajectory) -> bool:
        clock.append(time.process_time())
        return True

    md = MdSettings(
        ensemble="nve",
        temperature_k=settings.temperature_k,
        timestep_fs=settings.timestep_fs,
        n_steps=2 * n_steps,
        stride=n_steps,
        block_steps=2 * n_steps,
        limits=MdLimits(max_temperature_k=1e6, max_force_ev_ang=1e6, min_distance_ang=0.0),
    )
    stop = MolecularDynamics(force_field, md).run(atoms, look).stop
    if stop is not None:
        raise SurrogateError(f"the run that measures the speed stopped at step {stop.step}: {stop.message}")
    return (clock[1] - clock[0]) / n_steps
