"""Molecular dynamics of crystal and melt in one cell, at native speed in LAMMPS, in stretches that can be repeated.

Each stretch starts a LAMMPS of its own from the restart file that the one before wrote. So a run that was killed and
goes on from the last file takes the same path, to the last bit, as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ...errors import ConfigError
from ...structures.whole_file import write_whole
from ..base import FailureKind, OracleError
from ..lammps_engine import potential_commands, try_potential
from ..lammps_library import LammpsUnavailableError, new_lammps
from ..potentials import LammpsPotential

_THERMOSTAT_PS = 0.1
_BAROSTAT_PS = 1.0
_BAR_PER_GPA = 1.0e4


@dataclass(frozen=True)
class Snapshot:
    """Where the atoms are.

    Attributes:
        positions: ``[n_atoms, 3]``, Å, by atom id.
        lengths_ang: ``[3]``, of the orthogonal cell.
        temperature_k: instantaneous temperature.
    """

    positions: np.ndarray
    lengths_ang: np.ndarray
    temperature_k: float


@dataclass(frozen=True)
class Protocol:
    """How dynamics are run.

    Attributes:
        potential: commands and masses.
        timestep_fs: time step.
        pressure_gpa: external pressure.
        seed: of velocities.
    """

    potential: LammpsPotential
    timestep_fs: float
    pressure_gpa: float
    seed: int

    def steps(self, time_ps: float) -> int:
        """Number of time steps in ``time_ps``, at least one."""
        return max(1, round(1000.0 * time_ps / self.timestep_fs))


def equilibrate_crystal(
    protocol: Protocol, crystal: Atoms, temperature_k: float, time_ps: float, n_samples: int
) -> list[Snapshot]:
    """Heat a perfect crystal at constant pressure, its shape kept, and look at it during the second half of the time.

    Args:
        crystal: orthogonal supercell.

    Raises:
        OracleError: ``unavailable`` when LAMMPS or the potential cannot be used; ``corrupt_output`` when it stops.
    """
    with _session(protocol) as lmp:
        _create(lmp, protocol, crystal)
        # half of the kinetic energy goes into the springs
        lmp.command(f"velocity all create {2.0 * temperature_k!r} {protocol.seed} mom yes dist gaussian")
        lmp.command(f"fix run all npt {_thermostat(temperature_k)} iso {_barostat(protocol)}")
        lmp.command(f"run {protocol.steps(0.5 * time_ps)} post no")
        return _sample(lmp, protocol.steps(0.5 * time_ps), n_samples, len(crystal))


def melt_half(
    protocol: Protocol, crystal: Atoms, temperature_k: float, hot_temperature_k: float, time_ps: float, target: Path
) -> Snapshot:
    """Melt the half of a crystal with the larger x, the other half held in place, and cool it to ``temperature_k``.

    The whole cell gets the velocities of ``temperature_k`` at the end.

    Args:
        crystal: orthogonal supercell, long along x.
        hot_temperature_k: where the half melts, for ``time_ps``; cooling takes as long again.
        target: restart file to write.

    Returns:
        The melt at its hottest.

    Raises:
        OracleError: as :func:`equilibrate_crystal`.
    """
    middle = 0.5 * float(crystal.cell[0, 0])
    spacing = 0.25 * float(crystal.cell[0, 0]) / len(np.unique(np.round(crystal.positions[:, 0], 6)))
    n_steps = protocol.steps(time_ps)
    with _session(protocol) as lmp:
        _create(lmp, protocol, crystal)
        lmp.command(f"region melt block {middle - spacing!r} INF INF INF INF INF units box")
        lmp.command("group melt region melt")
        lmp.command("group crystal subtract all melt")
        lmp.command(f"velocity melt create {2.0 * hot_temperature_k!r} {protocol.seed} mom yes dist gaussian")
        lmp.command(f"fix run melt nvt {_thermostat(hot_temperature_k)}")
        lmp.command(f"run {n_steps} post no")
        hot = _snapshot(lmp, len(crystal))
        lmp.command("unfix run")
        lmp.command(f"fix run melt nvt {_thermostat(hot_temperature_k, temperature_k)}")
        lmp.command(f"run {n_steps} post no")
        lmp.command("unfix run")
        lmp.command(f"velocity crystal create {2.0 * temperature_k!r} {protocol.seed + 1} mom yes dist gaussian")
        lmp.command("velocity all zero linear")
        _write_restart(lmp, target)
        return hot


def advance(
    protocol: Protocol,
    source: Path,
    target: Path,
    n_atoms: int,
    temperature_k: float,
    time_ps: float,
    n_samples: int,
) -> list[Snapshot]:
    """Go on from a restart file at constant temperature; only the length along x answers to the pressure.

    The cross-section stays that of the crystal at this temperature, so that the crystal is free of stress.

    Args:
        source, target: restart files to read and to write.

    Raises:
        OracleError: as :func:`equilibrate_crystal`.
    """
    with _session(protocol) as lmp:
        lmp.command(f'read_restart "{source}"')
        _prepare(lmp, protocol)
        lmp.command(f"fix run all npt {_thermostat(temperature_k)} x {_barostat(protocol)}")
        samples = _sample(lmp, protocol.steps(time_ps), n_samples, n_atoms)
        _write_restart(lmp, target)
        return samples


def _sample(lmp: Any, n_steps: int, n_samples: int, n_atoms: int) -> list[Snapshot]:
    ends = np.rint(np.linspace(0, n_steps, min(n_samples, n_steps) + 1)).astype(int)
    samples = []
    for number, stretch in enumerate(np.diff(ends).tolist()):
        lmp.command(f"run {stretch} {'post no' if number == 0 else 'pre no post no'}")
        samples.append(_snapshot(lmp, n_atoms))
    return samples


def _snapshot(lmp: Any, n_atoms: int) -> Snapshot:
    positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    low, high, *_ = lmp.extract_box()
    temperature = float(lmp.extract_compute("thermo_temp", 0, 0))
    if len(positions) != n_atoms or not np.isfinite(positions).all() or not np.isfinite(temperature):
        raise OracleError(FailureKind.CORRUPT_OUTPUT, "atoms are lost or not finite; the time step may be too long")
    return Snapshot(positions - np.asarray(low), np.asarray(high) - np.asarray(low), temperature)


def _create(lmp: Any, protocol: Protocol, atoms: Atoms) -> None:
    types = [protocol.potential.elements.index(symbol) + 1 for symbol in atoms.symbols]
    x, y, z = np.diag(atoms.cell.array).tolist()
    lmp.command("atom_style atomic")
    lmp.command("atom_modify map array")
    lmp.command("boundary p p p")
    lmp.command(f"region cell block 0 {x!r} 0 {y!r} 0 {z!r} units box")
    lmp.command(f"create_box {len(protocol.potential.elements)} cell")
    n_atoms = len(atoms)
    lmp.create_atoms(n_atoms, list(range(1, n_atoms + 1)), types, atoms.get_positions(wrap=True).ravel())
    _prepare(lmp, protocol)


def _prepare(lmp: Any, protocol: Protocol) -> None:
    for command in potential_commands(protocol.potential):
        lmp.command(command)
    lmp.command("thermo_modify lost error flush no")
    lmp.command("neighbor 0.5 bin")
    lmp.command("neigh_modify every 1 delay 0 check yes")
    lmp.command(f"timestep {protocol.timestep_fs / 1000.0!r}")


def _thermostat(start_k: float, end_k: float | None = None) -> str:
    return f"temp {start_k!r} {end_k if end_k is not None else start_k!r} {_THERMOSTAT_PS}"


def _barostat(protocol: Protocol) -> str:
    bar = protocol.pressure_gpa * _BAR_PER_GPA
    return f"{bar!r} {bar!r} {_BAROSTAT_PS}"


def _write_restart(lmp: Any, target: Path) -> None:
    """Write a restart file, complete before it has its name."""
    write_whole(target, lambda scratch: lmp.command(f'write_restart "{scratch}"'))


@contextmanager
def _session(protocol: Protocol) -> Iterator[Any]:
    try:
        try_potential(protocol.potential)
        lmp = new_lammps()
    except (ConfigError, LammpsUnavailableError) as error:
        raise OracleError(FailureKind.UNAVAILABLE, str(error)) from error
    try:
        lmp.command("units metal")
        lmp.command("suffix opt")  # a fifth faster for EAM
        yield lmp
    except OracleError:
        raise
    except Exception as error:  # LAMMPS raises bare Exception
        raise OracleError(FailureKind.CORRUPT_OUTPUT, f"LAMMPS stopped: {error}") from error
    finally:
        lmp.close()
