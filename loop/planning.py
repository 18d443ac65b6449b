"""What a campaign would do and spend, found out without starting it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..generators.base import Failure
from ..oracles.base import OracleSpec, Request
from ..structures.base import Phase
from ..structures.lattice import ParentLattice
from ..structures.space import DesignSpace
from .config import CampaignConfig, oracle_spec
from .execution.base import Task
from .execution.build import usable_cores
from .execution.process_pool import ProcessPool


@dataclass(frozen=True)
class LatticePlan:
    """A lattice that would be searched.

    Attributes:
        n_compositions: compositions that the bounds allow.
        n_orderings: occupations they have together, symmetric images counted apart.
    """

    description: str
    n_sites: int
    n_compositions: int
    n_orderings: int


@dataclass(frozen=True)
class Trial:
    """One evaluation made to see what it costs. ``failure`` is empty when it gave a label."""

    atoms: Atoms
    phase: Phase
    wall_s: float
    failure: str = ""


@dataclass(frozen=True)
class Plan:
    """What a campaign would spend.

    Attributes:
        evaluation_s: wall seconds of an evaluation: measured, or the oracle's hint.
        evaluations_s: wall seconds of all evaluations on these workers, fully busy; the agent's thinking comes on top.
    """

    lattices: tuple[LatticePlan, ...]
    oracle: OracleSpec
    n_evaluations: int
    n_workers: int
    trials: tuple[Trial, ...]
    evaluation_s: float
    evaluations_s: float


def make_plan(config: CampaignConfig, *, with_trials: bool) -> Plan:
    """Work a plan out; with trials, evaluate two random structures of each phase in a process of their own.

    Raises:
        ExecutorError: the process cannot be started.
    """
    space = config.system.space()
    spec = oracle_spec(config.oracle)
    trials = _try(config, space) if with_trials else ()
    measured = [trial.wall_s for trial in trials if not trial.failure]
    evaluation_s = float(np.mean(measured)) if measured else spec.cost_hint_s
    n_workers = 1 if config.execution.executor == "in_process" else config.execution.n_workers or usable_cores()
    n = config.budget.n_evaluations
    return Plan(
        lattices=tuple(_lattice_plan(space, lattice) for lattice in space.lattices),
        oracle=spec,
        n_evaluations=n,
        n_workers=n_workers,
        trials=trials,
        evaluation_s=evaluation_s,
        evaluations_s=math.ceil(n / n_workers) * evaluation_s,
    )


def _lattice_plan(space: DesignSpace, lattice: ParentLattice) -> LatticePlan:
    low, high = space.count_bounds(lattice.n_sites)
    n_compositions, n_orderings = count_occupations(low.tolist(), high.tolist(), lattice.n_sites)
    return LatticePlan(lattice.describe(), lattice.n_sites, n_compositions, n_orderings)


def count_occupations(low: Sequence[int], high: Sequence[int], n_sites: int) -> tuple[int, int]:
    """How many compositions, and how many occupations, have between ``low[k]`` and ``high[k]`` atoms of element k."""
    compositions = {0: 1}
    orderings = {0: 1}
    for least, most in zip(low, high, strict=True):
        next_compositions: dict[int, int] = {}
        next_orderings: dict[int, int] = {}
        for n_filled in compositions:
            for n in range(least, min(most, n_sites - n_filled) + 1):
                total = n_filled + n
                next_compositions[total] = next_compositions.get(total, 0) + compositions[n_filled]
                ways = orderings[n_filled] * math.comb(total, n)
                next_orderings[total] = next_orderings.get(total, 0) + ways
        compositions, orderings = next_compositions, next_orderings
    return compositions.get(n_sites, 0), orderings.get(n_sites, 0)


def _try(config: CampaignConfig, space: DesignSpace) -> tuple[Trial, ...]:
    """Two random structures of each phase, behind one that warms the worker up."""
    rng = np.random.default_rng(config.seed)
    lattices = [space.lattices[0], *(lattice for lattice in space.lattices for _ in range(2))]
    structures = [space.atoms(lattice, space.random_occupation(rng, lattice)) for lattice in lattices]
    pool = ProcessPool(config.oracle.build, 1)
    trials = []
    try:
        for index, (lattice, atoms) in enumerate(zip(lattices, structures, strict=True)):
            request = Request(f"trial-{index}", atoms, lattice.phase)
            pool.submit(Task(request.request_id, request, config.execution.deadline_s))
            for outcome in pool.completed(None):
                failure = outcome.result.message if isinstance(outcome.result, Failure) else ""
                trials.append(Trial(atoms, lattice.phase, outcome.ended_at - outcome.started_at, failure))
    finally:
        pool.close()
    return tuple(trials[1:])
