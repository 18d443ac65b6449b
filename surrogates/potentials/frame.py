"""A labelled structure that a potential learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Frame:
    """A structure with energy, and forces and stress where they are known.

    Attributes:
        atoms: the structure, without calculator.
        energy_ev: total energy of the cell as labelled, eV.
        forces: ``[n_atoms, 3]``, eV/Å.
        stress: ``[3, 3]``, eV/Å^3, symmetric; ASE's sign (tension is positive).
        group: name of the part of the data it belongs to (``AIMD``, ``Surface``, …).
        source: file and row, for messages.
    """

    atoms: Atoms
    energy_ev: float
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    group: str = ""
    source: str = ""
