"""Any potential as an ASE calculator."""

from __future__ import annotations

from ase import Atoms

from ...oracles.engine_calculator import EvaluationCalculator
from ...oracles.force_engine import Evaluation
from .base import Potential


class PotentialCalculator(EvaluationCalculator):
    """A potential for ASE's dynamics, optimizers and vibrations; structures may be periodic in any directions.

    Args:
        potential: what evaluates.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def evaluation(self, atoms: Atoms) -> Evaluation:
        """See :meth:`~.base.Potential.evaluate`."""
        (found,) = self.potential.evaluate([atoms])
        return found
