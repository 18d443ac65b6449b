"""Anything that evaluates structures as an ASE calculator, for ASE's algorithms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .force_engine import Evaluation, ForceEngine


class EvaluationCalculator(Calculator, ABC):
    """Energies (eV), forces (eV/Å) and stresses (eV/Å^3, Voigt), kept until the structure changes.

    Stresses are given where the structure is periodic in all three directions.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    @abstractmethod
    def evaluation(self, atoms: Atoms) -> Evaluation:
        """Energy, forces and stress of a structure; what it raises comes through ASE unchanged."""

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``, everything at once.

        Raises:
            AlloysmithError: what :meth:`evaluation` raises.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        found = self.evaluation(self.atoms)
        results: dict[str, Any] = {
            "energy": found.energy_ev,
            "free_energy": found.energy_ev,
            "forces": found.forces,
        }
        if self.atoms.pbc.all() and np.isfinite(found.stress).all():
            results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
        self.results = results


class EngineCalculator(EvaluationCalculator):
    """An engine's calculator.

    It is light: give each image of a band one of its own, on one engine. Sharing a calculator costs a force call
    whenever ASE asks another image.

    Args:
        engine: evaluates; it stays the caller's to close.
    """

    def __init__(self, engine: ForceEngine) -> None:
        super().__init__()
        self._engine = engine

    def evaluation(self, atoms: Atoms) -> Evaluation:
        """See :meth:`~.force_engine.ForceEngine.compute`."""
        return self._engine.compute(atoms)
