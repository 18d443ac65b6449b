"""The simplest agent: it evaluates what one generator proposes. Baselines run with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt

from ..generators.base import Objective
from ..generators.seen import N_TRIES
from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Action, Budget, CampaignView, Evaluate, Generate, Stop
from .stopping import StoppingSettings, stop_reason


class DirectSettings(Settings):
    """Evaluates whatever one generator proposes, without a surrogate: random search, local search, a genetic algorithm
    or annealing by themselves."""

    kind: Literal["direct"] = "direct"
    generator: str
    """Name of the generator."""
    batch_size: PositiveInt = 20
    """Candidates evaluated in each round at most."""
    stopping: StoppingSettings = StoppingSettings()
    """When to stop before the budget is spent."""

    def build(self, space: DesignSpace, objective: Objective) -> DirectAgent:
        """The agent."""
        return DirectAgent(self)


@dataclass(frozen=True)
class DirectAgent:
    """Decides as described by :class:`DirectSettings`."""

    settings: DirectSettings

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        """See :class:`~alloysmith.agents.base.Agent`."""
        reason = stop_reason(self.settings.stopping, view, budget)
        if reason is not None:
            return (Stop(reason),)
        n = min(self.settings.batch_size, budget.n_evaluations, budget.n_wanted)
        if n < 1:
            return ()
        if view.n_generated == 0:
            return (Generate(self.settings.generator, n),)
        if view.pool:
            return (Evaluate(tuple(view.pool[:n])),)
        if view.history.pending:
            return ()
        return (Stop(f"exhausted: generator {self.settings.generator!r} found no new structure in {N_TRIES} tries"),)
