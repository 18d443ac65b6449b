"""Where a campaign stands, in one small immutable record: what `status`, the live view and scripts read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .state import CampaignState
from .store.lock import lock_holder
from .texts import composition_text

SCHEMA_VERSION = 1
"""Of :meth:`CampaignSummary.as_json`; raised when a key changes its meaning or goes away."""

N_RECENT = 100
"""Latest evaluations that the shares of generators are counted in."""

Condition = Literal["running", "finished", "interrupted", "aborted", "failed", "killed"]
"""``running``: a driver is at work; ``finished``: agent or budget ended it; ``interrupted``: a signal did; ``aborted``:
too many evaluations failed; ``failed``: an error ended it; ``killed``: the driver is gone without a word. All but
the first can be resumed, ``finished`` with a larger budget."""

_CONDITION_OF_STOP: dict[str, Condition] = {
    "agent": "finished",
    "budget": "finished",
    "wall_time": "finished",
    "idle": "finished",
    "interrupted": "interrupted",
    "failures": "aborted",
    "error": "failed",
}


@dataclass(frozen=True)
class BestSummary:
    """The best evaluation: ``value`` in the unit of the objective's property."""

    value: float
    request_id: str
    phase: str
    composition: str
    generator: str
    move: str


@dataclass(frozen=True)
class WorkerSummary:
    """What a worker did: attempts ended, seconds occupied."""

    n_ended: int
    busy_s: float


@dataclass(frozen=True)
class TrainingSummary:
    """A generator's training under way: ``share`` of it is done; ``loss`` where one is told."""

    generator: str
    n_train: int
    share: float
    loss: float | None
    time_left_s: float | None


@dataclass(frozen=True)
class CampaignSummary:
    """Where a campaign stands.

    Attributes:
        n_evaluations: requests that have ended, labels and failures.
        n_budget: requests that may be made in all.
        n_failed: kind -> requests that ended with such a failure.
        n_retried: kind -> attempts that failed so and were tried again.
        n_in_session, session_elapsed_s: of the present session, for rates; no seconds when none runs.
        surrogate: labels and figures of the latest fit; empty without one.
        recent_generators: generator -> how many of the latest :data:`N_RECENT` evaluations it proposed.
        generator_models: generator that learns -> labels that its latest model was trained on.
        trainings: of generators, under way.
    """

    name: str
    condition: Condition
    condition_message: str
    driver: str
    mode: str
    elements: tuple[str, ...]
    objective_property: str
    objective_direction: str
    n_evaluations: int
    n_budget: int
    n_labels: int
    n_failed: Mapping[str, int]
    n_retried: Mapping[str, int]
    n_requested: int
    n_pending: int
    n_rounds: int
    n_sessions: int
    n_in_session: int
    session_elapsed_s: float
    elapsed_s: float
    wall_budget_s: float | None
    updated_at: float
    best: BestSummary | None
    workers: Mapping[str, WorkerSummary]
    surrogate: Mapping[str, float]
    recent_generators: Mapping[str, int]
    generator_models: Mapping[str, int]
    trainings: tuple[TrainingSummary, ...]

    @property
    def rate_per_hour(self) -> float | None:
        """Evaluations an hour: of the present session while one runs, of all together afterwards."""
        n, seconds = self.n_in_session, self.session_elapsed_s
        if seconds <= 0.0 or n == 0:
            n, seconds = self.n_evaluations, self.elapsed_s
        return 3600.0 * n / seconds if n > 0 and seconds > 0.0 else None

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the budget is spent at the present rate; ``None`` before there is a rate."""
        rate = self.rate_per_hour
        left_s = None if rate is None else 3600.0 * (self.n_budget - self.n_evaluations) / rate
        if self.wall_budget_s is None:
            return left_s
        wall_left_s = max(0.0, self.wall_budget_s - self.elapsed_s)
        return wall_left_s if left_s is None else min(left_s, wall_left_s)

    def utilization(self, worker: str) -> float:
        """Share of the campaign's wall time that a worker was occupied."""
        return min(1.0, self.workers[worker].busy_s / self.elapsed_s) if self.elapsed_s > 0.0 else 0.0

    def as_json(self, run_dir: Path) -> dict[str, Any]:
        """Plain data for scripts; see docs/cli.md for its keys."""
        record = asdict(self)
        for worker, entry in record["workers"].items():
            entry["utilization"] = self.utilization(worker)
        return {
            "schema_version": SCHEMA_VERSION,
            "run_dir": str(run_dir.resolve()),
            **record,
            "rate_per_hour": self.rate_per_hour,
            "time_left_s": self.time_left_s if self.condition == "running" else None,
        }


def summarize(state: CampaignState, condition: Condition = "running", driver: str = "") -> CampaignSummary:
    """The summary of a state; costs the same however long the campaign is."""
    objective = state.objective
    best = state.best
    retrain = state.retrains[-1] if state.retrains else None
    return CampaignSummary(
        name=str(state.config["name"]),
        condition=condition,
        condition_message=state.stop.message if state.stop is not None else "",
        driver=driver or state.driver,
        mode=str(state.config["execution"]["mode"]),
        elements=tuple(state.config["system"]["elements"]),
        objective_property=objective.property,
        objective_direction=objective.direction,
        n_evaluations=state.n_ended,
        n_budget=int(state.budget["n_evaluations"]),
        n_labels=state.n_labels,
        n_failed={str(kind): n for kind, n in state.n_failed.items()},
        n_retried={str(kind): n for kind, n in state.n_retried.items()},
        n_requested=state.n_requested,
        n_pending=len(state.pending),
        n_rounds=state.next_round,
        n_sessions=state.n_sessions,
        n_in_session=state.n_ended - state.n_ended_before_session,
        session_elapsed_s=state.session_elapsed_s,
        elapsed_s=state.elapsed_s,
        wall_budget_s=state.budget.get("wall_s"),
        updated_at=state.updated_at,
        best=None
        if best is None or state.best_value is None
        else BestSummary(
            value=state.best_value,
            request_id=best.request_id,
            phase=best.candidate.phase,
            composition=composition_text(best.candidate.atoms, state.config["system"]["elements"]),
            generator=best.candidate.lineage.generator,
            move=best.candidate.lineage.move,
        ),
        workers={w: WorkerSummary(state.n_ended_by_worker[w], float(state.busy_s[w])) for w in sorted(state.busy_s)},
        surrogate={} if retrain is None else {"n_train": float(retrain.n_train), **retrain.metrics},
        recent_generators=dict(Counter(e.candidate.lineage.generator for e in state.evaluations[-N_RECENT:])),
        generator_models={
            name: max(trained)
            for name, models in state.models.items()
            if (trained := [n_labels for n_labels, model in models.items() if model is not None])
        },
        trainings=tuple(
            TrainingSummary(
                name,
                training.latest.n_train,
                training.latest.figures["share"],
                training.latest.figures.get("loss"),
                training.time_left_s,
            )
            for name, training in state.trainings.items()
        ),
    )


def summarize_run_dir(state: CampaignState, run_dir: Path) -> CampaignSummary:
    """The summary of a replayed state, with a look at whether its driver is alive."""
    holder = lock_holder(run_dir)
    if holder is not None:
        return summarize(state, "running", f"{holder['host']}:{holder['pid']}")
    return summarize(state, "killed" if state.stop is None else _CONDITION_OF_STOP[state.stop.reason])
