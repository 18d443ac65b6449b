"""The state of a campaign: the one mutable class, and a function of the events alone."""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from ..generators.base import Candidate, Evaluation, Objective
from .errors import RunDirectoryError
from .events import (
    Evaluated,
    Event,
    Failed,
    GeneratorTrained,
    GeneratorTraining,
    GeneratorTrainingFailed,
    Requested,
    Resumed,
    Retrained,
    Started,
    Stopped,
    Tuned,
)
from .store.event_log import LogPosition, read_log

RECENT_WINDOW = 1000
"""How many of the latest outcomes are remembered for the failure policy."""


@dataclass
class PendingRequest:
    """A request that has not ended.

    Attributes:
        warm_start: request id of the evaluation to start from.
        n_attempts: attempts that failed so far.
        wall_s: seconds spent on them.
    """

    request_id: str
    round: int
    candidate: Candidate
    warm_start: str | None
    n_attempts: int = 0
    wall_s: float = 0.0


@dataclass(frozen=True)
class TrainingUnderWay:
    """A generator's training by two events: the first that is not its beginning, if there is one, and the latest."""

    first: GeneratorTraining
    latest: GeneratorTraining

    @property
    def time_left_s(self) -> float | None:
        """Seconds it will take from the latest event on; ``None`` before anything tells."""
        gain = self.latest.figures["share"] - self.first.figures["share"]
        if gain <= 0.0:
            return None
        return (1.0 - self.latest.figures["share"]) / gain * (self.latest.at - self.first.at)


class HistoryWindow(Sequence[Evaluation]):
    """The first ``n`` evaluations of a list that only grows: a snapshot without a copy."""

    def __init__(self, evaluations: list[Evaluation], n: int) -> None:
        self._evaluations = evaluations
        self._n = n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Evaluation]: ...

    def __getitem__(self, index: int | slice) -> Evaluation | Sequence[Evaluation]:
        if isinstance(index, slice):
            return [self._evaluations[i] for i in range(*index.indices(self._n))]
        if not -self._n <= index < self._n:
            raise IndexError(f"evaluation {index} of {self._n}")
        return self._evaluations[index if index >= 0 else index + self._n]


@dataclass
class CampaignState:
    """Everything that is known about a campaign. Changed by :meth:`apply` only.

    Attributes:
        config: the resolved configuration, as plain data.
        config_hash: hash of the part of it that decides the results.
        software: versions it was started with.
        oracle_fingerprint: of the oracle that makes its labels; empty when nothing tells yet.
        created_at, updated_at: Unix times of the first and the latest event.
        evaluations: requests that have ended; in order of request id in synchronous campaigns, of ending in others.
        by_id: request id -> evaluation.
        pending: request id -> request that has not ended, in order of submission.
        best: the best labelled evaluation, the earlier one of equals.
        n_failed: kind -> requests that ended with such a failure.
        n_retried: kind -> attempts that failed so and were tried again.
        n_labels: evaluations with a label.
        n_requested: requests made.
        next_round: index of the next decision round.
        retrains: all fits of the surrogate that count.
        tunings: all searches of its settings that count.
        models: generator -> number of labels -> file of the model trained on them; ``None`` where that was given up.
        trainings: generator -> its training under way.
        busy_s: worker -> seconds it was occupied.
        n_ended_by_worker: worker -> attempts it ended.
        elapsed_s: wall seconds of all sessions together.
        n_sessions: how often a driver took it up.
        session_started_at: Unix time the present session began.
        n_ended_before_session: evaluations that had ended by then.
        driver: host and process of the latest driver.
        execution, budget: settings of the latest session.
        recent: how the latest requests of this session ended, for the failure policy: kinds of failure, or ``None``.
        stop: how the last session ended; ``None`` while one runs (or died).
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    oracle_fingerprint: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    by_id: dict[str, Evaluation] = field(default_factory=dict)
    pending: dict[str, PendingRequest] = field(default_factory=dict)
    best: Evaluation | None = None
    n_failed: Counter[str] = field(default_factory=Counter)
    n_retried: Counter[str] = field(default_factory=Counter)
    n_labels: int = 0
    n_requested: int = 0
    next_round: int = 0
    retrains: list[Retrained] = field(default_factory=list)
    tunings: list[Tuned] = field(default_factory=list)
    models: dict[str, dict[int, str | None]] = field(default_factory=dict)
    trainings: dict[str, TrainingUnderWay] = field(default_factory=dict)
    busy_s: dict[str, float] = field(default_factory=dict)
    n_ended_by_worker: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    n_sessions: int = 0
    session_started_at: float | None = None
    n_ended_before_session: int = 0
    driver: str = ""
    execution: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    recent: deque[str | None] = field(default_factory=lambda: deque(maxlen=RECENT_WINDOW))
    stop: Stopped | None = None
    n_events: int = 0
    _elapsed_before_session_s: float = 0.0
    _best_rank: tuple[float, str] | None = None
    _objective: Objective = field(default_factory=lambda: Objective(""))

    @property
    def objective(self) -> Objective:
        """What the campaign optimizes."""
        return self._objective

    @property
    def is_synchronous(self) -> bool:
        """Whether rounds wait for each other."""
        return bool(self.config["execution"]["mode"] == "synchronous")

    @property
    def best_value(self) -> float | None:
        """The objective's property of the best evaluation, in the oracle's unit."""
        label = self.best.label if self.best is not None else None
        return float(label.values[self.objective.property]) if label is not None else None

    @property
    def n_ended(self) -> int:
        """Requests that have ended, labels and failures."""
        return len(self.evaluations)

    @property
    def session_elapsed_s(self) -> float:
        """Wall seconds of the present or last session, up to its latest event."""
        return self.elapsed_s - self._elapsed_before_session_s

    def snapshot(self) -> HistoryWindow:
        """The evaluations so far, unaffected by later ones."""
        return HistoryWindow(self.evaluations, len(self.evaluations))

    def apply(self, event: Event) -> None:
        """Take one event into account; events come in the order of the log."""
        self.n_events += 1
        self.updated_at = event.at
        if self.session_started_at is not None:
            self.elapsed_s = self._elapsed_before_session_s + max(0.0, event.at - self.session_started_at)
        match event:
            case Evaluated() | Failed():
                self._apply_ended(event)
            case Requested():
                for request in event.requests:
                    self.pending[request.request_id] = PendingRequest(
                        request.request_id, event.round, request.candidate, request.warm_start
                    )
                self.n_requested += len(event.requests)
                self.next_round = event.round + 1
            case Retrained():
                self.retrains.append(event)
            case Tuned():
                self.tunings.append(event)
            case GeneratorTraining():
                before = self.trainings.get(event.generator)
                first = event if before is None or before.first.step == 0 else before.first
                self.trainings[event.generator] = TrainingUnderWay(first, event)
            case GeneratorTrained():
                self.trainings.pop(event.generator, None)
                self.models.setdefault(event.generator, {})[event.n_train] = event.model
            case GeneratorTrainingFailed():
                self.trainings.pop(event.generator, None)
                if event.action == "quarantine":
                    self.models.setdefault(event.generator, {})[event.n_train] = None
            case Resumed():
                self._apply_resumed(event)
            case Stopped():
                self.stop = event
                self.session_started_at = None
                self.trainings.clear()
            case Started():
                self.config, self.config_hash, self.software = event.config, event.config_hash, event.software
                self.oracle_fingerprint = event.oracle_fingerprint
                self.created_at = event.at
                self.execution, self.budget = event.config["execution"], event.config["budget"]
                self._objective = Objective(**event.config["objective"])

    def _apply_resumed(self, event: Resumed) -> None:
        self._elapsed_before_session_s = self.elapsed_s
        self.session_started_at = event.at
        self.n_sessions += 1
        self.n_ended_before_session = len(self.evaluations)
        self.driver = event.driver
        self.execution, self.budget = event.execution, event.budget
        self.recent.clear()
        self.trainings.clear()
        self.stop = None
        # A fit whose decision was torn off the log did not happen: the decision is made again, fit included.
        while self.is_synchronous and self.retrains and self.retrains[-1].round >= self.next_round:
            self.retrains.pop()
        while self.is_synchronous and self.tunings and self.tunings[-1].round >= self.next_round:
            self.tunings.pop()

    def _apply_ended(self, event: Evaluated | Failed) -> None:
        wall_s = max(0.0, event.ended_at - event.started_at)
        self.busy_s[event.worker] = self.busy_s.get(event.worker, 0.0) + wall_s
        self.n_ended_by_worker[event.worker] += 1
        pending = self.pending[event.request_id]
        if isinstance(event, Failed) and event.action == "retry":
            pending.n_attempts += 1
            pending.wall_s += wall_s
            self.n_retried[event.failure.kind] += 1
            return
        del self.pending[event.request_id]
        result = event.label if isinstance(event, Evaluated) else event.failure
        evaluation = Evaluation(
            event.request_id, pending.round, pending.candidate, result, pending.wall_s + wall_s, event.worker
        )
        self.by_id[event.request_id] = evaluation
        if self.is_synchronous:
            insort(self.evaluations, evaluation, key=lambda e: e.request_id)
        else:
            self.evaluations.append(evaluation)
        if isinstance(event, Failed):
            self.n_failed[event.failure.kind] += 1
            self.recent.append(event.failure.kind)
            return
        self.n_labels += 1
        self.oracle_fingerprint = self.oracle_fingerprint or event.label.fingerprint
        self.recent.append(None)
        rank = (-self._objective.score(event.label), event.request_id)
        if self._best_rank is None or rank < self._best_rank:
            self.best, self._best_rank = evaluation, rank


def replay(run_dir: Path) -> CampaignState:
    """The state of the campaign in ``run_dir``, read without touching anything; also while a driver writes.

    Raises:
        RunDirectoryError: there is no campaign, or its log is damaged.
    """
    state = CampaignState()
    catch_up(state, run_dir, LogPosition())
    if state.n_events == 0:
        raise RunDirectoryError(f"{run_dir} holds no campaign; `alloysmith run CONFIG --run-dir {run_dir}` starts one")
    return state


def catch_up(state: CampaignState, run_dir: Path, start: LogPosition) -> LogPosition:
    """Apply to ``state`` what the log holds beyond ``start``, which it has seen; return the position it has now seen.

    Raises:
        RunDirectoryError: no log, or a damaged line.
    """
    for event, position in read_log(run_dir, start):
        try:
            state.apply(event)
        except KeyError as error:
            raise RunDirectoryError(
                f"event {event.seq} of {run_dir} ends a request {error} that was not pending: the log is not one "
                "campaign's; restore it from a copy"
            ) from error
        start = position
    return start
