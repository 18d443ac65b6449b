"""What relaxations, elastic constants and validations need of a potential, whoever evaluates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Evaluation:
    """Energy and its derivatives at one structure.

    Attributes:
        energy_ev: potential energy of the cell, eV.
        forces: ``[n_atoms, 3]``, eV/Å.
        stress: ``[3, 3]``, eV/Å^3, symmetric; ASE's sign (tension is positive).
    """

    energy_ev: float
    forces: np.ndarray
    stress: np.ndarray

    @property
    def pressure_ev_ang3(self) -> float:
        """Hydrostatic pressure, eV/Å^3 (compression is positive)."""
        return -float(np.trace(self.stress)) / 3.0


class ForceEngine(Protocol):
    """Evaluates structures with one potential.

    Attributes:
        n_calls: force evaluations so far.
    """

    n_calls: int

    def compute(self, atoms: Atoms) -> Evaluation:
        """Energy, forces and stress of a structure as it is.

        Raises:
            OracleError: see :meth:`load` and :meth:`evaluate`.
        """
        ...

    def load(self, atoms: Atoms) -> None:
        """Check a structure and make its species the current ones.

        Raises:
            OracleError: ``bad_structure`` or ``unavailable``.
        """
        ...

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and stress of the loaded species at other positions and in another cell.

        Args:
            positions: ``[n_atoms, 3]``, Å, in the order of the loaded structure.
            cell: rows are vectors, ``[3, 3]``, Å.

        Raises:
            OracleError: ``bad_structure`` for an impossible geometry, ``corrupt_output`` for a result that is not
                finite.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds."""
        ...
