"""What a molecular dynamics run leaves: frames as arrays, and files of them that grow block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import ase.units
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from ..errors import ConfigError, StructureError
from ..structures.extxyz import append_extxyz
from .md_settings import MdSettings

ANG_PER_PS = 1.0 / (1000.0 * ase.units.fs)
"""One Å/ps in ASE's unit of velocity."""


@dataclass(frozen=True)
class Trajectory:
    """Frames of a run; all arrays but ``numbers`` have the frames along their first axis.

    Atoms are not wrapped into the cell, and the cell keeps its vectors where LAMMPS flips a box that is tilted too
    far: both change continuously, so displacements are plain differences.

    Attributes:
        numbers: ``[n_atoms]``, atomic numbers.
        steps: ``[n]``, steps since the start of the run.
        times_ps: ``[n]``.
        positions: ``[n, n_atoms, 3]``, Å.
        cells: ``[n, 3, 3]``, Å, rows are vectors.
        energies_ev: ``[n]``, potential energy of the cell.
        kinetic_energies_ev: ``[n]``.
        temperatures_k: ``[n]``, with 3 n_atoms - 3 degrees of freedom.
        stresses: ``[n, 3, 3]``, eV/Å^3, of the potential alone; ASE's sign (tension is positive).
        pressures_gpa: ``[n]``, with the kinetic part.
        conserved_ev: ``[n]``, what the equations of motion conserve: the total energy, plus what thermostat and
            barostat took. Under the barostat `iso` LAMMPS' own value wanders while the pressure equilibrates (3e-4 eV
            per atom from 3 GPa), with any time step; under `aniso` and `tri` it is exact.
        velocities: ``[n, n_atoms, 3]``, Å/ps, if they were asked for.
        forces: ``[n, n_atoms, 3]``, eV/Å, if they were asked for.
    """

    numbers: np.ndarray
    steps: np.ndarray
    times_ps: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    energies_ev: np.ndarray
    kinetic_energies_ev: np.ndarray
    temperatures_k: np.ndarray
    stresses: np.ndarray
    pressures_gpa: np.ndarray
    conserved_ev: np.ndarray
    velocities: np.ndarray | None = None
    forces: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def volumes_ang3(self) -> np.ndarray:
        """Volume of each frame's cell, ``[n]``, Å^3."""
        return np.abs(np.linalg.det(self.cells))

    def atoms(self, index: int) -> Atoms:
        """A frame as a structure, with velocities if they were kept, and its values in ``info`` and ``arrays``."""
        atoms = Atoms(self.numbers, positions=self.positions[index], cell=self.cells[index], pbc=True)
        atoms.info = {
            "energy": float(self.energies_ev[index]),
            "stress": full_3x3_to_voigt_6_stress(self.stresses[index]),
            "step": int(self.steps[index]),
            "time_ps": float(self.times_ps[index]),
            "temperature_k": float(self.temperatures_k[index]),
            "pressure_gpa": float(self.pressures_gpa[index]),
        }
        if self.forces is not None:
            atoms.set_array("forces", self.forces[index])
        if self.velocities is not None:
            atoms.set_velocities(self.velocities[index] * ANG_PER_PS)
        return atoms

    @classmethod
    def empty(cls, numbers: np.ndarray, settings: MdSettings) -> Trajectory:
        """No frames of a run."""
        scalars, tensors, vectors = np.zeros(0), np.zeros((0, 3, 3)), np.zeros((0, len(numbers), 3))
        return cls(
            numbers=numbers,
            steps=np.zeros(0, dtype=int),
            times_ps=scalars,
            positions=vectors,
            cells=tensors,
            energies_ev=scalars,
            kinetic_energies_ev=scalars,
            temperatures_k=scalars,
            stresses=tensors,
            pressures_gpa=scalars,
            conserved_ev=scalars,
            velocities=vectors if settings.with_velocities else None,
            forces=vectors if settings.with_forces else None,
        )

    def selected(self, rows: slice) -> Trajectory:
        """Some of the frames."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "numbers"}
        return replace(self, **{name: array[rows] for name, array in arrays.items() if array is not None})

    @classmethod
    def joined(cls, parts: Sequence[Trajectory]) -> Trajectory:
        """Trajectories of one run, one after the other; at least one."""
        values = {}
        for name in (f.name for f in fields(cls)):
            arrays = [getattr(part, name) for part in parts]
            values[name] = arrays[0] if name == "numbers" or arrays[0] is None else np.concatenate(arrays)
        return cls(**values)


class TrajectoryFile:
    """An extended XYZ file that frames are appended to, with energies, forces, stresses and momenta as ASE reads them.

    Args:
        path: ends with ``.extxyz`` or ``.xyz``.
        n_bytes: length of what is kept of a file that is there: frames beyond it were written by a run that was
            killed before it could say so. 0 starts a new file.

    Raises:
        ConfigError: another ending, or a file shorter than ``n_bytes``.
    """

    def __init__(self, path: Path, n_bytes: int = 0) -> None:
        check_trajectory_name(path)
        self.path = path
        if n_bytes > 0:
            size = path.stat().st_size if path.is_file() else 0
            if size < n_bytes:
                raise ConfigError(
                    f"{path} has {size} bytes, but the run that is to go on had written {n_bytes}; it was changed or "
                    "removed: start the run anew"
                )
            os.truncate(path, n_bytes)
        else:
            path.unlink(missing_ok=True)

    @property
    def n_bytes(self) -> int:
        """Length of the file."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def append(self, frames: Trajectory) -> None:
        """Write frames at the end.

        Raises:
            StructureError: the file cannot be written.
        """
        try:
            append_extxyz(self.path, [frames.atoms(i) for i in range(len(frames))])
        except OSError as error:
            raise StructureError(f"{self.path}: cannot be written ({error})") from error


def check_trajectory_name(path: Path) -> None:
    """Check that a name stands for a format that can grow.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"{path}: a trajectory is written as .extxyz or .xyz")
