"""A force engine as an ASE calculator, for ASE's algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .force_engine import ForceEngine


class EngineCalculator(Calculator):
    """Energies (eV), forces (eV/Å) and stresses (eV/Å^3, Voigt) of an engine, kept until the structure changes.

    It is light: give each image of a band one of its own, on one engine. Sharing a calculator costs a force call
    whenever ASE asks another image.

    Args:
        engine: evaluates; it stays the caller's to close. What it raises comes through ASE unchanged.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, engine: ForceEngine) -> None:
        super().__init__()
        self._engine = engine

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``; everything at once, because the engine does.

        Raises:
            OracleError: what the engine raises.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        found = self._engine.compute(self.atoms)
        results: dict[str, Any] = {
            "energy": found.energy_ev,
            "free_energy": found.energy_ev,
            "forces": found.forces,
            "stress": full_3x3_to_voigt_6_stress(found.stress),
        }
        self.results = results
