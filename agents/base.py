"""What an agent is: it looks at the campaign and says what to do next.

The controller asks again and again within a decision round until the agent answers with :class:`Evaluate`,
:class:`Stop` or nothing (wait for pending work): first perhaps :class:`Tune` and :class:`Retrain`, then
:class:`Generate`, then a choice from the pool that was generated. Agents hold settings only; everything they may know
is in the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..generators.base import Candidate, History
from ..surrogates.base import Metrics


@dataclass(frozen=True)
class Generate:
    """Ask ``generator`` (by configured name) for ``n`` candidates, to be added to the round's pool."""

    generator: str
    n: int


@dataclass(frozen=True)
class Evaluate:
    """Submit these candidates; ends the round's decisions."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Retrain:
    """Fit the surrogate on all labels so far."""

    reason: str


@dataclass(frozen=True)
class Tune:
    """Search the surrogate's settings on all labels so far; fits from now on use the best ones."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """End the campaign."""

    reason: str


Action = Generate | Evaluate | Retrain | Tune | Stop


@dataclass(frozen=True)
class Budget:
    """What may still be spent.

    Attributes:
        n_evaluations: evaluations that may still be submitted.
        wall_s: seconds left; ``None`` without a limit.
        n_wanted: how many requests the executor could take right now.
    """

    n_evaluations: int
    wall_s: float | None = None
    n_wanted: int = 1


@dataclass(frozen=True)
class CampaignView:
    """What an agent sees.

    Attributes:
        round: index of this decision round, from 0.
        history: evaluations, pending candidates, objective and the latest surrogate.
        n_trained: number of labels the latest surrogate was fitted on (0 without one).
        metrics: figures of the latest fit.
        pool: candidates generated in this round so far.
        n_generated: calls of :class:`Generate` answered in this round (an empty answer counts).
        elapsed_s: wall seconds spent on the campaign, all sessions together.
        seed: of this round; derive everything random from it.
        n_tuned: number of labels that the surrogate's settings were searched on the last time (0 if they never were).
    """

    round: int
    history: History
    n_trained: int
    metrics: Metrics
    pool: Sequence[Candidate]
    n_generated: int
    elapsed_s: float
    seed: int
    n_tuned: int = 0


@runtime_checkable
class Agent(Protocol):
    """Decides."""

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        """What to do next; deterministic in its arguments. Nothing means: wait until pending work ends."""
        ...
