"""Where evaluations fail: an estimate of the chance of success from the ones nearby.

It is kept simple on purpose: failures are few, cluster in composition and phase, and an oracle that fails at random
must not close a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from ..structures.base import Phase
from ..structures.space import DesignSpace
from .base import Candidate, Evaluation

_WIDTH = 0.06  # in atomic fraction: how far the memory of a failure reaches
_PRIOR = 1.0  # imagined successes
_PENALTY = 4.0  # spreads of scores that a certain failure costs


@dataclass(frozen=True)
class Feasibility:
    """Chance that an evaluation gives a label.

    Attributes:
        fractions: for each phase, compositions ``[n, n_elements]`` of what was evaluated.
        succeeded: for each phase, whether it gave a label, ``[n]``.
    """

    fractions: dict[Phase, np.ndarray]
    succeeded: dict[Phase, np.ndarray]

    def chance(self, phase: Phase, fractions: np.ndarray) -> np.ndarray:
        """Chance of success ``[n]`` at compositions ``[n, n_elements]``; 1 where nothing failed so far."""
        succeeded = self.succeeded.get(phase)
        if succeeded is None or succeeded.all():  # also where nothing was tried
            return np.ones(len(fractions))
        known = self.fractions[phase]
        squared = ((fractions[:, None] - known[None]) ** 2).sum(axis=2)
        weights = np.exp(-0.5 * squared / _WIDTH**2)
        return (_PRIOR + weights @ succeeded) / (_PRIOR + weights.sum(axis=1))

    def penalty(self, phase: Phase, fractions: np.ndarray, spread: float) -> np.ndarray:
        """What the risk of a failure takes off scores of the given spread, ``[n]``."""
        return _PENALTY * spread * (1.0 - self.chance(phase, fractions))


def chances(space: DesignSpace, evaluations: Sequence[Evaluation], candidates: Sequence[Candidate]) -> np.ndarray:
    """Chance of success ``[n]`` of candidates of any phases."""
    feasibility = learn_feasibility(space, evaluations)
    fractions = fractions_of(space, candidates)
    chance = np.ones(len(candidates))
    for phase in space.phases:
        rows = np.array([c.phase == phase for c in candidates], dtype=bool)
        chance[rows] = feasibility.chance(phase, fractions[rows])
    return chance


def fractions_of(space: DesignSpace, candidates: Sequence[Candidate]) -> np.ndarray:
    """Compositions ``[n, n_elements]``."""
    numbers = np.array([atomic_numbers[e] for e in space.elements])
    fractions = np.empty((len(candidates), len(numbers)))
    for i, candidate in enumerate(candidates):
        fractions[i] = (candidate.atoms.numbers[:, None] == numbers).mean(axis=0)
    return fractions


def learn_feasibility(space: DesignSpace, evaluations: Sequence[Evaluation]) -> Feasibility:
    """What the evaluations of a campaign say about the chance of success."""
    all_fractions = fractions_of(space, [e.candidate for e in evaluations])
    has_label = np.array([e.label is not None for e in evaluations], dtype=bool)
    phases = np.array([e.candidate.phase for e in evaluations])
    return Feasibility(
        {phase: all_fractions[phases == phase] for phase in space.phases},
        {phase: has_label[phases == phase] for phase in space.phases},
    )
