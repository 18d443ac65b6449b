"""Simulated annealing: Metropolis chains over orderings and compositions that cool as evaluations are spent.

The state of a chain is in the lineage of its candidates. A proposal notes its ``chain``, ``step``, the ``temperature``
and the random number ``threshold`` it will be judged with, and its parent is the structure the chain then stood at. So
the structure accepted last follows from the last evaluation of the chain alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Candidate, History, Lineage
from .moves import swap, transmute
from .random_orderings import random_start
from .seen import Draft, HistoryIndex, Known, SeenKeys, first_new, known_keys, read_history

_N_SCALE = 100  # first moves that the scale of the temperature is taken from


class AnnealingSettings(Settings):
    """Simulated annealing in several chains; a structure that is known already is not proposed again."""

    kind: Literal["annealing"] = "annealing"
    n_chains: PositiveInt = 4
    """Chains side by side; each has at most one candidate under way. Phases alternate from chain to chain."""
    n_evaluations: PositiveInt = 1000
    """Evaluations over which the temperature falls (geometrically) from its start to its end; set it to the budget."""
    start_temperature: NonNegativeFloat = 0.5
    """Temperature at the start, in units of the mean change of the objective in the first moves; a move that worsens it
    by x is accepted with probability exp(-x / temperature)."""
    end_temperature: NonNegativeFloat = 0.01
    """Temperature at the end and ever after, in the same units."""
    transmute_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of moves that change one atom's element; the others swap two unlike atoms."""

    def build(self, name: str, space: DesignSpace) -> Annealing:
        """The generator of these settings."""
        return Annealing(name, space, self)


@dataclass(frozen=True)
class Annealing:
    """Proposes one move for each chain that waits for none."""

    name: str
    space: DesignSpace
    settings: AnnealingSettings

    def propose(self, n: int, history: History, *, seed: int) -> Sequence[Candidate]:
        """Propose the next move of up to ``n`` chains, those with the fewest evaluations first."""
        rng = np.random.default_rng(seed)
        index = read_history(history, self.space)
        seen = known_keys(history, self.space)
        chains = index.chains(self.name)
        busy = {int(c.lineage.facts["chain"]) for c in history.pending if c.lineage.generator == self.name}
        free = [chain for chain in range(self.settings.n_chains) if chain not in busy]
        free.sort(key=lambda chain: len(chains.get(chain, ())))
        temperature = self._temperature(index)
        moves = (self._move(rng, index, seen, chain, chains.get(chain, []), temperature) for chain in free)
        return list(islice((candidate for candidate in moves if candidate is not None), n))

    def _move(
        self,
        rng: np.random.Generator,
        index: HistoryIndex,
        seen: SeenKeys,
        chain: int,
        known: Sequence[Known],
        temperature: float,
    ) -> Candidate | None:
        state = _accepted(index, known[-1]) if known else None
        if state is not None:
            here = state
            facts = {
                "chain": chain,
                "step": int(known[-1].evaluation.candidate.lineage.facts["step"]) + 1,
                "temperature": temperature,
                "threshold": float(rng.random()),
            }

            def draw() -> Draft | None:
                is_transmute = rng.random() < self.settings.transmute_share
                child = transmute(rng, self.space, here.occupation) if is_transmute else swap(rng, here.occupation)
                lineage = Lineage(self.name, "transmute" if is_transmute else "swap", here.parents, facts)
                return None if child is None else (here.lattice, child, lineage)

            candidate = first_new(self.space, seen, draw)
            if candidate is not None:
                return candidate
        return random_start(rng, self.space, seen, self.name, {"chain": chain, "step": 0})

    def _temperature(self, index: HistoryIndex) -> float:
        """In units of the objective, for the number of evaluations done; 0 before any move has been judged."""
        start, end = self.settings.start_temperature, self.settings.end_temperature
        progress = min(1.0, index.n_of(self.name) / self.settings.n_evaluations)
        relative = start ** (1.0 - progress) * end**progress if min(start, end) > 0.0 else start * (1.0 - progress)
        n_each = -(-_N_SCALE // self.settings.n_chains)
        changes = [
            abs(known.score - before.score)
            for moves in index.chains(self.name).values()
            for known in moves[:n_each]
            if known.score is not None and (before := _parent(index, known)) is not None and before.score is not None
        ]
        return relative * float(np.mean(changes)) if changes else 0.0


def _parent(index: HistoryIndex, known: Known) -> Known | None:
    parents = known.evaluation.candidate.lineage.parents
    return index.by_id[parents[0]] if parents else None


def _accepted(index: HistoryIndex, last: Known) -> Known | None:
    """Where a chain stands after its last evaluation; ``None`` if that was a start that failed."""
    before = _parent(index, last)
    if last.score is None:
        return before
    if before is None or before.score is None or last.score >= before.score:
        return last
    facts = last.evaluation.candidate.lineage.facts
    temperature = float(facts["temperature"])
    is_accepted = temperature > 0.0 and float(facts["threshold"]) < np.exp((last.score - before.score) / temperature)
    return last if is_accepted else before
