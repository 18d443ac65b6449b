"""The default agent: an initial design, then rounds of retraining, searching on the surrogate, and choosing a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from ..generators.base import Candidate, Evaluation, History, Objective
from ..generators.seen import N_TRIES, candidate_key
from ..structures.settings import Settings
from ..structures.space import DesignSpace
from .base import Action, Budget, CampaignView, Evaluate, Generate, Retrain, Stop, Tune
from .batch import Selection, pose_batch_problem
from .initial_design import initial_design
from .selection import NoisyExpectedImprovementSettings, SelectionSettings
from .stopping import StoppingSettings, stop_reason
from .study_settings import RetuningSettings


class RetrainingSettings(Settings):
    """When to fit the surrogate again."""

    every: PositiveInt = 5
    """Fit after so many new labels."""
    drift: NonNegativeFloat = 3.0
    """Fit earlier when the new labels are, root mean square, so many predicted standard deviations off; 0 switches this
    off."""
    least_new: PositiveInt = 3
    """New labels that a drift is judged on at least."""


class BayesianSettings(Settings):
    """Bayesian optimization: learns from all labels, searches on what it has learned, and balances the promising
    against the unknown."""

    kind: Literal["bayesian"] = "bayesian"
    generators: tuple[str, ...] = Field(default=("search",), min_length=1)
    """Names of the generators whose candidates make up the pool, in shares as equal as possible."""
    n_initial: PositiveInt = 16
    """Random structures, spread over phases and compositions, evaluated before the first fit."""
    batch_size: PositiveInt = 5
    """Structures chosen in each round; fewer where the executor wants fewer. Small batches need fewer evaluations;
    large ones keep more workers busy in synchronous mode, and cost fewer fits."""
    n_pool: PositiveInt = 250
    """Candidates that are generated in each round."""
    selection: SelectionSettings = NoisyExpectedImprovementSettings()
    """How the batch is chosen from the pool."""
    retraining: RetrainingSettings = RetrainingSettings()
    """When the surrogate is fitted again."""
    retuning: RetuningSettings | None = None
    """When and how the surrogate's settings are searched, if they are."""
    stopping: StoppingSettings = StoppingSettings()
    """When to stop before the budget is spent."""

    def build(self, space: DesignSpace, objective: Objective) -> BayesianAgent:
        """The agent."""
        return BayesianAgent(self, space, self.selection.build())


@dataclass(frozen=True)
class BayesianAgent:
    """Decides as described by :class:`BayesianSettings`."""

    settings: BayesianSettings
    space: DesignSpace
    selection: Selection

    def decide(self, view: CampaignView, budget: Budget) -> Sequence[Action]:
        """See :class:`~alloysmith.agents.base.Agent`."""
        reason = stop_reason(self.settings.stopping, view, budget)
        if reason is not None:
            return (Stop(reason),)
        n_affordable = min(budget.n_evaluations, budget.n_wanted)
        if n_affordable < 1:
            return ()
        history = view.history
        n_started = len(history.evaluations) + len(history.pending)
        if n_started < self.settings.n_initial:
            n = min(self.settings.n_initial - n_started, budget.n_evaluations)
            return _evaluate(initial_design(self.space, n, history, seed=view.seed), history)
        labelled = [e for e in history.evaluations if e.label is not None]
        if not labelled:  # all failed so far, or none has ended
            if history.pending:
                return ()
            n = min(self.settings.batch_size, n_affordable)
            return _evaluate(initial_design(self.space, n, history, seed=view.seed), history)
        if (why := self._tune_reason(view, len(labelled))) is not None:
            return (Tune(why),)
        if view.n_trained < view.n_tuned:
            return (Retrain(f"settings searched on {view.n_tuned} labels"),)
        if len(labelled) > view.n_trained and (why := self._retrain_reason(view, labelled)) is not None:
            return (Retrain(why),)
        names = self.settings.generators
        if view.n_generated < len(names):
            share = -(-self.settings.n_pool // len(names))
            return tuple(Generate(name, share) for name in names)
        n = min(self.settings.batch_size, n_affordable)
        pool = self._distinct(view.pool)
        if not pool:
            return _evaluate(initial_design(self.space, n, history, seed=view.seed), history)
        chosen = self.selection.select(pose_batch_problem(self.space, pool, history, view.seed), n)
        return _evaluate([pool[i] for i in chosen], history)

    def _tune_reason(self, view: CampaignView, n_labels: int) -> str | None:
        settings = self.settings.retuning
        if settings is None or not settings.is_due(n_labels, view.n_tuned):
            return None
        return f"{n_labels} labels, {view.n_tuned} at the last search" if view.n_tuned else f"{n_labels} labels"

    def _retrain_reason(self, view: CampaignView, labelled: Sequence[Evaluation]) -> str | None:
        settings = self.settings.retraining
        n_new = len(labelled) - view.n_trained
        if view.n_trained == 0 or view.history.surrogate is None:
            return "first fit"
        if n_new >= settings.every:
            return f"schedule: {n_new} new labels"
        if settings.drift > 0.0 and n_new >= settings.least_new:
            # In asynchronous campaigns labels arrive in order, so the latest ones are those not learned from.
            z = standardized_residuals(view.history, labelled[view.n_trained :])
            if len(z) and (drift := float(np.sqrt(np.mean(z**2)))) > settings.drift:
                return f"drift: {n_new} new labels are {drift:.1f} standard deviations off"
        return None

    def _distinct(self, pool: Sequence[Candidate]) -> list[Candidate]:
        """The pool without the structures that two generators came upon."""
        found: dict[str, Candidate] = {}
        for candidate in pool:
            found.setdefault(candidate_key(self.space, candidate), candidate)
        return list(found.values())


def standardized_residuals(history: History, evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Residuals ``[n]`` of the surrogate at labels it has not seen, in predicted standard deviations."""
    surrogate = history.surrogate
    if surrogate is None or history.objective.property not in surrogate.spec.properties:
        return np.zeros(0)
    column = list(surrogate.spec.properties).index(history.objective.property)
    phases = getattr(surrogate, "phases", None)
    known = [e for e in evaluations if e.label is not None and (phases is None or e.candidate.phase in phases)]
    if not known:
        return np.zeros(0)
    prediction = surrogate.predict([e.candidate.atoms for e in known])
    labels = [float(e.label.values[history.objective.property]) for e in known if e.label is not None]
    return (np.array(labels) - prediction.mean[:, column]) / np.maximum(prediction.std[:, column], 1e-12)


def _evaluate(candidates: Sequence[Candidate], history: History) -> tuple[Action, ...]:
    """Evaluate them; without any, wait for pending work, or stop when there is none."""
    if candidates:
        return (Evaluate(tuple(candidates)),)
    return () if history.pending else (Stop(f"exhausted: no generator found a new structure in {N_TRIES} tries"),)
