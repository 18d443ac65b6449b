"""A steady-state genetic algorithm over orderings, compositions and phases.

The population is not stored: it is the best distinct structures of the history, whoever proposed them. There are
no generations, so that children can be asked for one by one while others are still being evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .moves import align, change_phase, cut_and_splice, mix_sites, swap, transmute
from .random_orderings import random_candidate
from .seen import Draft, Known, first_new, known_keys, read_history

_MAX_REPEATS = 4  # of a swap or a transmutation in one child


class GeneticSettings(Settings):
    """A steady-state genetic algorithm; never gives the same structure twice (modulo symmetry)."""

    kind: Literal["genetic"] = "genetic"
    population: int = Field(default=40, ge=2)
    """Number of the best distinct structures that parents are chosen from, and of random structures to begin with."""
    tournament: PositiveInt = 3
    """Structures drawn from the population for each parent; the best of them is taken. More means greedier."""
    crossover_weight: NonNegativeFloat = 0.35
    """Weight of children that mix two parents of one phase: a slab of one in the other, or site by site."""
    swap_weight: NonNegativeFloat = 0.35
    """Weight of children in which unlike atoms change places (once, or rarely up to four times)."""
    transmute_weight: NonNegativeFloat = 0.25
    """Weight of children in which atoms change their element (one, or rarely up to four)."""
    phase_weight: NonNegativeFloat = 0.05
    """Weight of children that carry their parent's arrangement to the lattice of another phase."""

    @model_validator(mode="after")
    def _has_moves(self) -> GeneticSettings:
        if sum(self.weights) <= 0.0:
            raise ValueError("at least one of the weights of crossover, swap, transmute and phase must be positive")
        return self

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """Weights of crossover, swap, transmute and phase."""
        return self.crossover_weight, self.swap_weight, self.transmute_weight, self.phase_weight

    def build(self, name: str, space: DesignSpace) -> Genetic:
        """The generator of these settings."""
        return Genetic(name, space, self)


@dataclass(frozen=True)
class Genetic:
    """Proposes random structures until there is a population, then children."""

    name: str
    space: DesignSpace
    settings: GeneticSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose up to ``n`` new structures; fewer only where the space is exhausted."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        seen = known_keys(history, self.space)
        population = index.best(self.settings.population)
        n_made = len(index.by_id) + len(history.pending)
        proposed: list[Candidate] = []
        for turn in range(n_made, n_made + n):
            candidate = None
            if turn >= self.settings.population and len(population) >= 2:
                candidate = first_new(self.space, seen, lambda: self._child(rng, population))
            if candidate is None:
                lattice = self.space.lattices[turn % len(self.space.lattices)]
                candidate = random_candidate(rng, self.space, lattice, seen, Lineage(self.name, "random"))
            if candidate is not None:
                proposed.append(candidate)
        return proposed

    def _child(self, rng: np.random.Generator, population: Sequence[Known]) -> Draft | None:
        parent = self._select(rng, population)
        weights = np.array(self.settings.weights)
        move = int(rng.choice(len(weights), p=weights / weights.sum()))
        if move == 0:
            return self._crossover(rng, population, parent)
        if move == 3:
            changed = change_phase(rng, self.space, parent.lattice, parent.occupation)
            return None if changed is None else (*changed, Lineage(self.name, "phase", parent.parents))
        child: np.ndarray | None = parent.occupation
        for _ in range(min(int(rng.geometric(0.7)), _MAX_REPEATS)):
            if child is not None:
                child = swap(rng, child) if move == 1 else transmute(rng, self.space, child)
        lineage = Lineage(self.name, "swap" if move == 1 else "transmute", parent.parents)
        return None if child is None else (parent.lattice, child, lineage)

    def _crossover(self, rng: np.random.Generator, population: Sequence[Known], parent: Known) -> Draft | None:
        partners = [k for k in population if k.lattice.phase == parent.lattice.phase and k is not parent]
        if not partners:
            return None
        partner = self._select(rng, partners)
        image = align(rng, parent.lattice, partner.occupation, parent.occupation)
        if rng.random() < 0.5:
            move, child = "splice", cut_and_splice(rng, self.space, parent.lattice, parent.occupation, image)
        else:
            move, child = "mix", mix_sites(rng, self.space, parent.occupation, image)
        # The first parent warm-starts the oracle: the one that shares more sites, as it stands.
        ordered = sorted((parent, partner), key=lambda k: -int((k.occupation == child).sum()))
        return parent.lattice, child, Lineage(self.name, move, (*ordered[0].parents, *ordered[1].parents))

    def _select(self, rng: np.random.Generator, ranked: Sequence[Known]) -> Known:
        """The best of a few drawn at random; ``ranked`` is best first."""
        return ranked[int(rng.integers(len(ranked), size=self.settings.tournament).min())]
