"""Where a molecular dynamics run is at the end of a block: all it takes to go on from there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from ..errors import ConfigError
from ..structures.whole_file import write_whole
from .cell_frame import CellFrame
from .md_settings import MdSettings
from .trajectory import ANG_PER_PS

_VERSION = 1


@dataclass(frozen=True)
class CellHistory:
    """How a structure's own cell and LAMMPS' box belong together, through all flips of the box so far.

    The structure's cell is ``basis @ box @ rotation``; an atom's unwrapped position is that in the box with its image
    flags, plus ``shifts`` of the structure's cell.

    Attributes:
        rotation: ``[3, 3]``, orthogonal; from LAMMPS' axes to the structure's.
        basis: ``[3, 3]``, whole numbers, determinant 1.
        shifts: ``[n_atoms, 3]``, whole cells by which the atoms were outside LAMMPS' box at the start.
        box: ``[3, 3]``, Å, the latest box that was seen.
    """

    rotation: np.ndarray
    basis: np.ndarray
    shifts: np.ndarray
    box: np.ndarray

    @classmethod
    def of_start(cls, atoms: Atoms) -> tuple[CellHistory, np.ndarray]:
        """The history of a structure, still without shifts, and its positions ``[n_atoms, 3]``, Å, in the box."""
        frame = CellFrame.of_cell(atoms.cell.array)
        basis = np.rint(atoms.cell.array @ frame.rotation.T @ np.linalg.inv(frame.box))
        return cls(frame.rotation, basis, np.zeros_like(atoms.positions), frame.box), frame.wrapped(atoms.positions)

    def with_shifts(self, atoms: Atoms, inside: np.ndarray, images: np.ndarray) -> CellHistory:
        """The history with the shifts that make LAMMPS' positions those of the structure.

        Args:
            inside, images: as LAMMPS has them; it may move an atom on a face of the box to the face opposite.
        """
        apart = atoms.positions - self.unwrapped(inside, images)
        return CellHistory(self.rotation, self.basis, np.rint(apart @ np.linalg.inv(self.cell())), self.box)

    def moved_to(self, box: np.ndarray) -> CellHistory:
        """The history with a later box ``[3, 3]``, which differs by strain and by flips.

        A flip adds a whole box vector to another; the strain from one step to the next is far smaller than that, so
        rounding tells them apart.
        """
        if np.abs(box - self.box).max() < 0.25 * box.diagonal().min():
            return CellHistory(self.rotation, self.basis, self.shifts, box)
        flips = np.rint(box @ np.linalg.inv(self.box))
        return CellHistory(self.rotation, np.rint(self.basis @ np.linalg.inv(flips)), self.shifts, box)

    def cell(self) -> np.ndarray:
        """The structure's cell, ``[3, 3]``, Å."""
        return self.basis @ self.box @ self.rotation

    def unwrapped(self, inside: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Positions ``[n_atoms, 3]``, Å, in the structure's axes, of positions in LAMMPS' box and image flags."""
        return (inside + images @ self.box) @ self.rotation + self.shifts @ self.cell()


@dataclass(frozen=True)
class MdState:
    """The state of a run at the end of a block.

    Attributes:
        settings: of the run.
        force_field: fingerprint of what gave the forces; ``""`` where it had none.
        step: steps done.
        numbers: ``[n_atoms]``, atomic numbers.
        positions: ``[n_atoms, 3]``, Å, not wrapped.
        velocities: ``[n_atoms, 3]``, Å/ps.
        history: how the structure's cell belongs to LAMMPS' box.
        start_volume_ang3: volume at the start of the run, which the limits refer to.
        bath_energy_ev: what a Langevin thermostat took so far, which LAMMPS does not keep.
        restart: LAMMPS' own restart file, with positions, velocities, thermostat and barostat to the last bit. It can
            be read by the same version of LAMMPS only.
    """

    settings: MdSettings
    force_field: str
    step: int
    numbers: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    history: CellHistory
    start_volume_ang3: float
    bath_energy_ev: float
    restart: bytes

    def atoms(self) -> Atoms:
        """The structure with its velocities, for a new run with other settings (``velocities: keep``)."""
        atoms = Atoms(self.numbers, positions=self.positions, cell=self.history.cell(), pbc=True)
        atoms.set_velocities(self.velocities * ANG_PER_PS)
        return atoms

    def save(self, path: Path, *, n_output_bytes: int = 0) -> None:
        """Write the state to a file, which is replaced only when all is written.

        Args:
            n_output_bytes: length of the trajectory file that belongs to the state, for :meth:`load`.
        """

        def fill(scratch: Path) -> None:
            with scratch.open("wb") as file:
                np.savez(
                    file,
                    version=_VERSION,
                    settings=self.settings.model_dump_json(),
                    force_field=self.force_field,
                    step=self.step,
                    numbers=self.numbers,
                    positions=self.positions,
                    velocities=self.velocities,
                    rotation=self.history.rotation,
                    basis=self.history.basis,
                    shifts=self.history.shifts,
                    box=self.history.box,
                    start_volume_ang3=self.start_volume_ang3,
                    bath_energy_ev=self.bath_energy_ev,
                    restart=np.frombuffer(self.restart, dtype=np.uint8),
                    n_output_bytes=n_output_bytes,
                )

        write_whole(path, fill)

    @classmethod
    def load(cls, path: Path) -> tuple[MdState, int]:
        """The state in a file, and the length of the trajectory file that belongs to it.

        Raises:
            ConfigError: no such file, or one that is damaged or of another version.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if int(stored["version"]) != _VERSION:
                    raise ConfigError(f"{path} has version {int(stored['version'])}, this program reads {_VERSION}")
                state = cls(
                    settings=MdSettings.model_validate_json(str(stored["settings"])),
                    force_field=str(stored["force_field"]),
                    step=int(stored["step"]),
                    numbers=stored["numbers"],
                    positions=stored["positions"],
                    velocities=stored["velocities"],
                    history=CellHistory(stored["rotation"], stored["basis"], stored["shifts"], stored["box"]),
                    start_volume_ang3=float(stored["start_volume_ang3"]),
                    bath_energy_ev=float(stored["bath_energy_ev"]),
                    restart=stored["restart"].tobytes(),
                )
                return state, int(stored["n_output_bytes"])
        except FileNotFoundError as error:
            raise ConfigError(f"there is no state {path} of a run to go on with; start one") from error
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, ValidationError) as error:
            raise ConfigError(f"{path} is damaged or no state of a run ({error}); start the run anew") from error
