"""The Python side of a step of LAMMPS: forces from any function, and a look at every step.

LAMMPS' `fix external pf/callback` calls back at each step, after its own forces are known. Facts about it that
matter here: an exception that leaves the callback is printed and otherwise lost, so it is stored, the run is ended
at the same step, and the exception is raised again afterwards; atoms come in LAMMPS' own order, which changes
whenever atoms are sorted; the box' lower corner moves under a barostat; the virial of the function counts in the
pressure only when it is set at every step and `fix_modify … virial yes` is on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .force_engine import Evaluation
from .md_guard import MdStop, MdStopReason

ForceFunction = Callable[[np.ndarray, np.ndarray], Evaluation]
"""Positions ``[n_atoms, 3]`` by atom id and box ``[3, 3]`` (Å, LAMMPS' axes) -> energy, forces and stress there."""

StepCheck = Callable[[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray], MdStop | None]
"""Step, positions, velocities, forces (all by atom id), box -> why to stop now, if so."""

_FIX_ID = "alloysmith_step"


class ExternalForces:
    """The callback of one LAMMPS instance.

    Args:
        lmp: a LAMMPS instance with a box and atoms.
        n_atoms: how many.
        function: gives forces that LAMMPS adds to its own; ``None`` where a pair style does it all.
        check: looked at after the forces of each step are known.

    Attributes:
        stop: what the check found, if anything; the run has then ended at that step.
    """

    def __init__(self, lmp: Any, n_atoms: int, function: ForceFunction | None, check: StepCheck) -> None:
        self._lmp = lmp
        self._n_atoms = n_atoms
        self._function = function
        self._check = check
        self._error: BaseException | None = None
        self.stop: MdStop | None = None
        lmp.command(f"fix {_FIX_ID} all external pf/callback 1 1")
        flag = "yes" if function is not None else "no"
        lmp.command(f"fix_modify {_FIX_ID} energy {flag} virial {flag}")
        lmp.set_fix_external_callback(_FIX_ID, self._called, None)

    def raise_error(self) -> None:
        """Raise what the force function or the check raised during the run."""
        if self._error is not None:
            raise self._error

    def _called(
        self, _caller: Any, step: int, n_local: int, tags: np.ndarray, x: np.ndarray, external: np.ndarray
    ) -> None:
        if self._error is not None or self.stop is not None:
            return
        try:
            self._step(step, n_local, tags.ravel() - 1, x, external)
        except BaseException as error:  # noqa: BLE001 - LAMMPS would swallow it, a KeyboardInterrupt too
            self._error = error
        if self._error is not None or self.stop is not None:
            external[:] = 0.0
            self._lmp.force_timeout()

    def _step(self, step: int, n_local: int, index: np.ndarray, x: np.ndarray, external: np.ndarray) -> None:
        if n_local != self._n_atoms:  # the rows beyond are no atoms any more
            lost = self._n_atoms - n_local
            message = f"LAMMPS has lost {lost} of {self._n_atoms} atoms, which flew further than the box in one step"
            self.stop = MdStop(MdStopReason.LOST_ATOMS, step, message, {"n_lost": lost})
            return
        low, high, xy, yz, xz, _, _ = self._lmp.extract_box()
        box = np.array([[high[0] - low[0], 0.0, 0.0], [xy, high[1] - low[1], 0.0], [xz, yz, high[2] - low[2]]])
        positions = np.empty((n_local, 3))
        positions[index] = x - np.asarray(low)
        velocities = np.empty((n_local, 3))
        velocities[index] = self._lmp.numpy.extract_atom("v")[:n_local]
        if self._function is None:
            forces = np.empty((n_local, 3))
            forces[index] = self._lmp.numpy.extract_atom("f")[:n_local]
        else:
            found = self._function(positions, box)
            forces = found.forces
            external[:] = forces[index]
            work = -found.stress * (box[0, 0] * box[1, 1] * box[2, 2])
            self._lmp.fix_external_set_energy_global(_FIX_ID, found.energy_ev)
            self._lmp.fix_external_set_virial_global(
                _FIX_ID, [work[0, 0], work[1, 1], work[2, 2], work[0, 1], work[0, 2], work[1, 2]]
            )
        self.stop = self._check(step, positions, velocities, forces, box)
