"""An oracle of vacancy hops whose barriers a formula gives; workers import little for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from alloysmith.oracles.base import FailureKind, Label, OracleError, OracleSpec, Request
from alloysmith.oracles.vacancy_migration import VacancyMigrationSettings
from alloysmith.structures.vacancy_hop import nearest_neighbours, read_hop
from ase import Atoms

MASS_EV = {0: 0.0, 41: 0.3, 42: 0.5, 73: 0.2}
"""What each species adds to a barrier."""


class FormulaSettings(VacancyMigrationSettings):
    """Barriers by a formula; some hops fail.

    ``max_steps`` tells how many milliseconds each takes, and every ``max_force_calls``-th hop fails.
    """

    def check(self, elements: Sequence[str]) -> None:
        """There is nothing that could be missing."""

    def build(self) -> Any:
        """The oracle."""
        return Formula(self)


class Formula:
    """The sum of what the moving atom and its neighbours add."""

    def __init__(self, settings: FormulaSettings) -> None:
        self._settings = settings

    @property
    def spec(self) -> OracleSpec:
        """See the protocol."""
        properties = {"barrier_forward_ev": "eV", "barrier_backward_ev": "eV"}
        return OracleSpec("formula", "1", properties, "formula-1")

    def evaluate(self, request: Request) -> Label:
        """See the protocol."""
        hop = read_hop(request.atoms)
        time.sleep(1e-3 * self._settings.max_steps)
        if (7 * hop.vacancy_site + hop.neighbour) % self._settings.max_force_calls == 0:
            raise OracleError(FailureKind.NOT_CONVERGED, "a hop that is meant to fail")
        energies = [self._surroundings_ev(request.atoms, site) for site in (hop.vacancy_site, hop.neighbour)]
        mover = MASS_EV[int(request.atoms.numbers[hop.neighbour])]
        values = {"barrier_forward_ev": 0.4 + mover + energies[0], "barrier_backward_ev": 0.4 + mover + energies[1]}
        return Label(values, request.atoms, self.spec.fingerprint, cpu_s=0.001, details={})

    def close(self) -> None:
        """See the protocol."""

    @staticmethod
    def _surroundings_ev(atoms: Atoms, site: int) -> float:
        near = nearest_neighbours(atoms, site, "bcc")
        return float(np.mean([MASS_EV[int(number)] for number in atoms.numbers[near]]))
