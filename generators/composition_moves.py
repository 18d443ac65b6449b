"""Steps in composition: the best structures so far with some of their atoms replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .moves import shift_composition, transmute
from .random_orderings import filled_up
from .seen import Draft, first_new, known_keys, read_history


class CompositionMovesSettings(Settings):
    """Replaces atoms of the best structures, never giving the same structure twice (modulo symmetry)."""

    kind: Literal["composition_moves"] = "composition_moves"
    n_parents: PositiveInt = 20
    """The best structures so far that moves start from, each as likely as the others."""
    max_sites: PositiveInt = 4
    """Most atoms replaced in one move; the number is drawn evenly from 1 to this."""
    shift_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of moves that replace atoms of one element by one other (a step along the composition simplex); the others
    choose the elements anew for each atom."""

    def build(self, name: str, space: DesignSpace) -> CompositionMoves:
        """The generator of these settings."""
        return CompositionMoves(name, space, self)


@dataclass(frozen=True)
class CompositionMoves:
    """Proposes the best structures with some atoms replaced; random orderings as long as there are no labels."""

    name: str
    space: DesignSpace
    settings: CompositionMovesSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose up to ``n`` new structures; fewer only where all neighbours of the parents are known."""
        parents = read_history(history, self.space).best(self.settings.n_parents)
        if not parents:
            return filled_up(self.name, self.space, [], n, history, seed=seed)
        rng = np.random.default_rng(seed)
        seen = known_keys(history, self.space)

        def draw() -> Draft | None:
            parent = parents[rng.integers(len(parents))]
            n_sites = int(rng.integers(1, self.settings.max_sites + 1))
            if rng.random() < self.settings.shift_share:
                move, child = "shift", shift_composition(rng, self.space, parent.occupation, n_sites)
            else:
                move, child = "transmute", transmute(rng, self.space, parent.occupation, n_sites)
            return None if child is None else (parent.lattice, child, Lineage(self.name, move, parent.parents))

        proposed: list[Candidate] = []
        while len(proposed) < n and (candidate := first_new(self.space, seen, draw)) is not None:
            proposed.append(candidate)
        return proposed
