"""What a report is made from: a campaign's log read once, in the form that the sections need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...generators.base import Evaluation, Objective
from ..events import (
    Evaluated,
    Failed,
    GeneratorTrained,
    GeneratorTrainingFailed,
    Requested,
    Retrained,
    Tuned,
)
from ..state import CampaignState
from ..store.event_log import read_events
from ..texts import axis_label, unit_of


@dataclass(frozen=True)
class WorkSpan:
    """One attempt on one worker.

    Attributes:
        started_at, ended_at: Unix times.
        outcome: ``"label"``, or the kind of failure.
    """

    worker: str
    request_id: str
    started_at: float
    ended_at: float
    outcome: str


@dataclass(frozen=True)
class Forecast:
    """What the surrogate said about a request before its label was known, in the objective's unit."""

    request_id: str
    mean: float
    std: float


@dataclass(frozen=True)
class CampaignRecord:
    """A campaign as the report sees it.

    Attributes:
        name: as configured; runs of one name that differ in their seed only are drawn as one group.
        folder: run directory.
        objective: what is optimized.
        unit: of the objective's property; may be empty.
        elements: symbols, in the order of the configuration.
        evaluations: ended ones in order of ending (of request in synchronous campaigns).
        spans: every attempt, in order of ending.
        model_of: request id -> model file in force when it was requested.
        tunings: searches of the surrogate's settings.
        trainings: of generators, by how they ended.
        n_budget: evaluations that may be spent.
        elapsed_s: wall seconds of all sessions together.
        n_workers: workers seen.
        ending: in words, how the last session ended.
        config: the resolved configuration.
        software: name -> version.
    """

    name: str
    folder: Path
    objective: Objective
    unit: str
    elements: tuple[str, ...]
    evaluations: Sequence[Evaluation]
    spans: Sequence[WorkSpan] = ()
    model_of: Mapping[str, str] = field(default_factory=dict)
    tunings: Sequence[Tuned] = ()
    trainings: Sequence[GeneratorTrained | GeneratorTrainingFailed] = ()
    n_budget: int | None = None
    elapsed_s: float = 0.0
    n_workers: int = 1
    ending: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> list[Evaluation]:
        """Evaluations with a label, in order."""
        return [e for e in self.evaluations if e.label is not None]

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the oracle reported."""
        return sum(e.label.cpu_s for e in self.evaluations if e.label is not None)

    @property
    def property_label(self) -> str:
        """The objective for axes, such as ``bulk modulus (GPa)``."""
        return axis_label(self.objective.property, self.unit)

    def value(self, evaluation: Evaluation) -> float:
        """The objective's property of a labelled evaluation, in its unit."""
        label = evaluation.label
        return float("nan") if label is None else float(label.values[self.objective.property])

    def values(self) -> np.ndarray:
        """``[n_evaluations]`` of the property; NaN for failures."""
        return np.array([self.value(e) for e in self.evaluations], dtype=float)

    def best(self, n: int) -> list[Evaluation]:
        """The ``n`` best labelled evaluations, best first; the earlier one of equals."""
        sign = 1.0 if self.objective.direction == "maximize" else -1.0
        return sorted(self.labelled, key=lambda e: -sign * self.value(e))[:n]

    def best_so_far(self) -> np.ndarray:
        """``[n_evaluations]`` best property after each evaluation; NaN before the first label."""
        values = self.values()
        if self.objective.direction == "maximize":
            best = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))
        else:
            best = np.minimum.accumulate(np.where(np.isnan(values), np.inf, values))
        return np.where(np.isinf(best), np.nan, best)


def read_record(run_dir: Path, *, unit: str | None = None) -> CampaignRecord:
    """Read a run directory; also while a driver writes to it.

    Args:
        unit: of the objective's property; taken from the end of its name when left out.

    Raises:
        RunDirectoryError: there is no campaign, or its log is damaged.
    """
    state = CampaignState()
    spans: list[WorkSpan] = []
    trainings: list[GeneratorTrained | GeneratorTrainingFailed] = []
    model_of: dict[str, str] = {}
    model: str | None = None
    for event in read_events(run_dir):
        state.apply(event)
        if isinstance(event, Evaluated | Failed):
            outcome = "label" if isinstance(event, Evaluated) else str(event.failure.kind)
            spans.append(WorkSpan(event.worker, event.request_id, event.started_at, event.ended_at, outcome))
        elif isinstance(event, GeneratorTrained | GeneratorTrainingFailed):
            trainings.append(event)
        elif isinstance(event, Retrained):
            model = event.model
        elif isinstance(event, Requested) and model is not None:
            model_of.update({request.request_id: model for request in event.requests})
    config = state.config
    objective = state.objective
    return CampaignRecord(
        name=str(config.get("name", run_dir.name)),
        folder=run_dir,
        objective=objective,
        unit=unit if unit is not None else unit_of(objective.property),
        elements=tuple(config["system"]["elements"]),
        evaluations=state.evaluations,
        spans=spans,
        model_of=model_of,
        tunings=tuple(state.tunings),
        trainings=tuple(trainings),
        n_budget=state.budget.get("n_evaluations"),
        elapsed_s=state.elapsed_s,
        n_workers=max(1, len(state.busy_s)),
        ending=describe_ending(state),
        config=config,
        software=state.software,
    )


def describe_ending(state: CampaignState) -> str:
    """How the last session ended, in words."""
    if state.stop is None:
        return "no end on record: it is running, or was killed"
    template = {
        "agent": "the agent stopped: {}",
        "budget": "{}",
        "wall_time": "{}",
        "idle": "{}",
        "interrupted": "interrupted {}; it can be resumed",
        "failures": "aborted: {}",
        "error": "ended by an error: {}",
    }[state.stop.reason]
    return template.format(state.stop.message)
