"""Candidates that a surrogate finds promising, searched over phases, compositions and orderings together.

Two levels of optimism and more share one evolving population per phase: what is best by ``mean + optimism × std`` for
any of them survives. The agent chooses from the pool that results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from ..structures.lattice import ParentLattice
from ..structures.settings import Settings
from ..structures.space import DesignSpace
from ..surrogates.lattice_surrogate import LatticeSurrogate
from .base import Candidate, History, Lineage
from .feasibility import Feasibility, learn_feasibility
from .ordering_search import OrderingSearch, Scored, by_turns
from .random_orderings import filled_up
from .relatives import Relatives
from .seen import HistoryIndex, Known, known_keys, make_candidate, read_history

_PRINT_DIGITS = 9


@dataclass(frozen=True)
class SurrogateSearch:
    """Maximizes an optimistic surrogate; random solid solutions as long as there is none.

    Attributes:
        name: as configured.
        space: where to search.
        optimism: levels of optimism, in standard deviations.
        n_survivors, n_steps: see :class:`~alloysmith.generators.ordering_search.OrderingSearch`.
        n_starts: best evaluated structures of each phase to start from; as many random ones are added.
    """

    name: str
    space: DesignSpace
    optimism: tuple[float, ...]
    n_survivors: int
    n_steps: int
    n_starts: int

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """See :class:`~alloysmith.generators.base.Generator`."""
        surrogate = history.surrogate
        if not isinstance(surrogate, LatticeSurrogate) or history.objective.property not in surrogate.spec.properties:
            return filled_up(self.name, self.space, [], n, history, seed=seed)
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        feasibility = learn_feasibility(self.space, history.evaluations)
        lattices = [lattice for lattice in self.space.lattices if lattice.phase in surrogate.phases]
        ranked = index.best(len(history.evaluations))
        found = []
        for lattice in lattices:
            known = [k for k in ranked if k.lattice is lattice]
            score = _scorer(surrogate, history, lattice, self.optimism, feasibility, _spread(ranked))
            search = OrderingSearch(self.space, lattice, score, self.n_survivors, self.n_steps)
            starts = [k.occupation for k in known[: self.n_starts]]
            starts += [self.space.random_occupation(rng, lattice) for _ in range(self.n_starts)]
            found.append(search.run(np.array(starts), rng))
        return self._candidates(n, lattices, found, history, index)

    def _candidates(
        self, n: int, lattices: Sequence[ParentLattice], found: Sequence[Scored], history: History, index: HistoryIndex
    ) -> list[Candidate]:
        """The ``n`` best new ones, taking turns between levels of optimism across all phases."""
        seen = known_keys(history, self.space)
        relatives = {lattice.phase: Relatives(index, lattice) for lattice in lattices}
        candidates: list[Candidate] = []
        for which, row, level in by_turns(found):
            if len(candidates) == n:
                break
            lattice, occupation = lattices[which], found[which].occupations[row]
            key = seen.take(lattice, occupation)
            if key is None:
                continue
            lineage = Lineage(
                self.name,
                "surrogate_optimum",
                relatives[lattice.phase].nearest(occupation),
                {"optimism": self.optimism[level]},
            )
            candidates.append(make_candidate(self.space, lattice, occupation, lineage, key))
        return candidates


def _spread(ranked: Sequence[Known]) -> float:
    """Spread of the labels, by quartiles, so that a few wild ones do not matter."""
    scores = [k.score for k in ranked if k.score is not None]
    if len(scores) < 2:
        return 1.0
    low, high = np.percentile(scores, [25, 75])
    return float(high - low) / 1.349


def _scorer(
    surrogate: LatticeSurrogate,
    history: History,
    lattice: ParentLattice,
    optimism: Sequence[float],
    feasibility: Feasibility,
    spread: float,
) -> _Score:
    column = list(surrogate.spec.properties).index(history.objective.property)
    sign = 1.0 if history.objective.direction == "maximize" else -1.0
    return _Score(surrogate, lattice, column, sign, np.array(optimism), feasibility, spread)


@dataclass(frozen=True)
class _Score:
    """Scores occupations: optimism about the objective, less the risk of a failure."""

    surrogate: LatticeSurrogate
    lattice: ParentLattice
    column: int
    sign: float
    optimism: np.ndarray
    feasibility: Feasibility
    spread: float

    def __call__(self, occupations: np.ndarray) -> Scored:
        features = self.surrogate.features(self.lattice, occupations)
        prediction = self.surrogate.predict_features(self.lattice.phase, features)
        mean = self.sign * prediction.mean[:, self.column]
        scores = mean + self.optimism[:, None] * prediction.std[:, self.column]
        fractions = features[:, : len(self.surrogate.spec.elements)]
        scores = scores - self.feasibility.penalty(self.lattice.phase, fractions, self.spread)
        weights = np.sqrt(np.arange(2.0, 2.0 + features.shape[1]))  # no small whole-number relation between them
        return Scored(occupations, scores, np.round(features @ weights, _PRINT_DIGITS))


class SurrogateSearchSettings(Settings):
    """Candidates that the surrogate finds promising, searched over phases, compositions and orderings together by an
    evolutionary search on the surrogate; random ones as long as there is no surrogate."""

    kind: Literal["surrogate_search"] = "surrogate_search"
    optimism: tuple[float, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    """Levels of optimism to search with, in standard deviations of the surrogate: 0 trusts its mean, 2 looks where it
    knows little."""
    n_survivors: PositiveInt = 50
    """Structures of each phase that each level of optimism keeps from one step to the next."""
    n_steps: PositiveInt = 30
    """Steps of the evolution. Three children a survivor are scored in each."""
    n_starts: PositiveInt = 20
    """Best evaluated structures of each phase that the search starts from, beside as many random ones."""

    def build(self, name: str, space: DesignSpace) -> SurrogateSearch:
        """The generator."""
        return SurrogateSearch(name, space, self.optimism, self.n_survivors, self.n_steps, self.n_starts)
