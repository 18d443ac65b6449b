"""Learnings of barriers that a formula gives, in a process of their own where they are to be killed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from alloysmith.loop.barrier_learning.config import BarrierLearningConfig
from alloysmith.loop.barrier_learning.learning import learn_barriers
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
        return Label(values, request.atoms, self.spec.fingerprint, cpu_s=0.001)

    def close(self) -> None:
        """See the protocol."""

    @staticmethod
    def _surroundings_ev(atoms: Atoms, site: int) -> float:
        near = nearest_neighbours(atoms, site, "bcc")
        return float(np.mean([MASS_EV[int(number)] for number in atoms.numbers[near]]))


def formula_config(**changes: Any) -> BarrierLearningConfig:
    """A small learning."""
    oracle = {"potential": {"kind": "zjw04", "elements": ["Ta", "Nb", "Mo"]}, "max_steps": 1, "max_force_calls": 29}
    cell = {"kind": "cubic", "repeat": [3, 3, 3]}
    small: dict[str, Any] = {
        "pool": {"alloys": {"elements": ["Ta", "Nb", "Mo"], "cell": cell, "n_train": 7, "n_test": 2}, "n_hops": 40},
        "barrier": {"kind": "ridge", "n_shells": 1},
        "committee": {"n_members": 3, "share": 0.7},
        "first": {"n_hops": 16, "n_validation": 12},
        "selection": {"batch_size": 8},
        "feature_shells": 1,
        "n_spectrum": 100,
        "stopping": {"max_rounds": 3, "error_change": None, "spectrum_change_ev": None},
        "budget": {"n_labels": 200},
        "execution": {"executor": "in_process"},
    }
    settings = FormulaSettings.model_validate({**oracle, **changes.pop("oracle", {})})
    return BarrierLearningConfig.model_validate({**small, **changes, "oracle": settings})


def run_barrier_learning(config: BarrierLearningConfig, run_dir: Path) -> None:
    """Learn, and end the process."""
    os._exit(learn_barriers(config, run_dir).exit_code)
