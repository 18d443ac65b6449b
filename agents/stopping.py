"""When a campaign has done enough. Each policy looks at the view alone and gives its reason, or none."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ..generators.base import History
from ..structures.settings import Settings
from .base import Budget, CampaignView


class PlateauSettings(Settings):
    """Stop when nothing better turns up."""

    n_evaluations: PositiveInt
    """Labels in a row without a gain after which to stop."""
    least_gain: NonNegativeFloat = 0.0
    """Improvements of the best value up to this size, in the objective's unit, do not count."""


class StoppingSettings(Settings):
    """When to stop, beside the budget. Whatever comes first counts; left out, a limit does not apply."""

    target: float | None = None
    """Stop once a label of the objective is at least as good as this value, in its unit."""
    plateau: PlateauSettings | None = None
    """Stop when nothing better turns up."""
    wall_s: PositiveFloat | None = Field(default=None)
    """Stop after so many seconds, all sessions together."""


def stop_reason(settings: StoppingSettings, view: CampaignView, budget: Budget) -> str | None:
    """Why the campaign should end now; ``None`` if it should go on.

    A spent budget is a reason only when nothing is pending: what was paid for is waited for.
    """
    if settings.target is not None and (reached := _target_reached(settings.target, view.history)) is not None:
        return reached
    if settings.plateau is not None and (idle := _labels_since_gain(view.history, settings.plateau.least_gain)) >= (
        settings.plateau.n_evaluations
    ):
        return f"plateau: no gain above {settings.plateau.least_gain:g} in {idle} labels"
    if settings.wall_s is not None and view.elapsed_s >= settings.wall_s:
        return f"wall time: {view.elapsed_s:.0f} s of {settings.wall_s:g} s are spent"
    if view.history.pending:
        return None
    if budget.n_evaluations <= 0:
        return "budget: all evaluations are spent"
    if budget.wall_s is not None and budget.wall_s <= 0.0:
        return "budget: the wall time is spent"
    return None


def _target_reached(target: float, history: History) -> str | None:
    sign = 1.0 if history.objective.direction == "maximize" else -1.0
    best = history.best(1)
    score = history.score(best[0]) if best else None
    if score is None or score < sign * target:
        return None
    return f"target: {history.objective.property} {sign * score:g} reached {target:g}"


def _labels_since_gain(history: History, least_gain: float) -> int:
    """Labels since the best one improved by more than ``least_gain``; 0 without labels."""
    reference, since = None, 0
    for evaluation in history.evaluations:
        score = history.score(evaluation)
        if score is None:
            continue
        if reference is None or score > reference + least_gain:
            reference, since = score, 0
        else:
            since += 1
    return since
