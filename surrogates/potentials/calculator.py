"""Any potential as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .base import Potential


class PotentialCalculator(Calculator):
    """Energies (eV), forces (eV/Å) and stresses (eV/Å^3, Voigt) for ASE's dynamics, optimizers and vibrations.

    Structures may be periodic in any number of directions; stresses are given where all three are.

    Args:
        potential: what evaluates.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``, everything at once.

        Raises:
            SurrogateError: an element that the potential lacks, or coordinates that are not finite.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        (found,) = self.potential.evaluate([self.atoms])
        results: dict[str, Any] = {
            "energy": found.energy_ev,
            "free_energy": found.energy_ev,
            "forces": found.forces,
        }
        if self.atoms.pbc.all() and np.isfinite(found.stress).all():
            results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
        self.results = results
