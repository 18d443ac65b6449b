"""The event loop of a campaign: decide, write down, submit, collect, write down, until it is over.

Everything that matters is in the log before it has consequences, and the state is made of the log alone: an event is
applied as it reads back from its line. So a campaign killed at any instant goes on as if nothing had happened.

In synchronous mode a decision is made when nothing is pending, and sees the evaluations in the order of their request
ids: it does not depend on the number of workers or on who was faster. In asynchronous mode a decision is made ahead of
need, in a thread, on a snapshot, while the workers are busy with what waits for them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from ..agents.base import Budget
from ..errors import AlloysmithError
from ..generators.base import Candidate, Failure, History
from ..oracles.base import Request, WarmStart
from .config import CampaignConfig
from .decision import Decider, Decision, Fit, Question, Thinking
from .encoding import peek_atoms
from .errors import RunDirectoryError
from .events import (
    Evaluated,
    Event,
    Failed,
    Requested,
    RequestRecord,
    Resumed,
    Retrained,
    Stopped,
    StopReason,
    Tuned,
)
from .execution.base import Executor, Outcome, Task
from .failure_policy import decide as decide_failure
from .generator_training import Trainings
from .outcome_check import recordable
from .signals import GracefulStop
from .state import CampaignState, PendingRequest
from .store.event_log import EventLog
from .store.lock import driver_name
from .tuning import Tuning

E = TypeVar("E", bound=Event)
OnEvent = Callable[[Event, CampaignState], None]
"""Called after each event was written and applied."""

_PATIENCE_S = 0.2
"""How long to wait for outcomes before looking at signals and clocks again."""
_PATIENCE_THINKING_S = 0.01
"""The same while a decision is on its way."""
_HANDED_OUT_PER_WORKER = 2
"""Tasks the executor holds for each worker: one that runs, one that follows without delay."""
_THINKING_MARGIN = 1.5


class Controller:
    """Drives one campaign from where its log ends. Used once.

    Args:
        config: the resolved configuration of this session.
        state: replayed from the log.
        log: open for appending.
        executor: runs the evaluations; the caller closes it.
        decider: asks the agent.
        signals: tells whether to stop.
        on_event: for whoever watches.
    """

    def __init__(
        self,
        config: CampaignConfig,
        state: CampaignState,
        log: EventLog,
        executor: Executor,
        decider: Decider,
        signals: GracefulStop,
        on_event: OnEvent | None = None,
    ) -> None:
        self._config = config
        self._state = state
        self._log = log
        self._executor = executor
        self._decider = decider
        self._signals = signals
        self._on_event = on_event
        self._is_synchronous = config.execution.mode == "synchronous"
        self._backlog: deque[str] = deque(state.pending)
        self._running: dict[str, str] = {}  # task id -> request id
        self._thinking: Thinking | None = None
        self._think_s = 0.0
        self._n_ended_when_asked = 0  # what the decision on its way knows of
        self._is_waiting = False  # the agent had nothing to say; ask again when something has ended
        self._fit: Fit | None = None
        self._tuning: Tuning | None = None
        self._trainings = Trainings(
            config.execution.training_workers,
            config.failure_policy,
            decider.models,
            lambda kind, **fields: self._write([self._event(kind, **fields)]),
            self._must_stop,
        )
        self._last_word: str | None = None  # why the agent wants no more; what it asked for before is still evaluated
        self._ending: tuple[StopReason, str] | None = None
        self._elapsed_before_s = state.elapsed_s
        self._session_started = time.monotonic()

    def run(self) -> Stopped:
        """Work until the campaign is over or told to stop.

        Raises:
            RunDirectoryError: the log cannot be written.
            AlloysmithError: a part failed in a way that repeating will not mend; it is in the log as well.
        """
        execution = self._config.execution.model_dump(mode="json")
        budget = self._config.budget.model_dump(mode="json")
        self._write([self._event(Resumed, driver=driver_name(), execution=execution, budget=budget)])
        try:
            self._load_fit()
            self._trainings.tidy(self._state.models)
            while self._ending is None:
                self._step()
            return self._end(*self._ending)
        except RunDirectoryError:
            raise
        except Exception as error:
            message = str(error) if isinstance(error, AlloysmithError) else f"{type(error).__name__}: {error}"
            self._write([self._event(Stopped, reason="error", message=message)])
            raise
        finally:
            self._decider.hurry.set()
            self._trainings.close()

    def _step(self) -> None:
        """One turn of the loop."""
        self._submit()
        if self._thinking is None and self._n_wanted() > 0:
            self._n_ended_when_asked = self._state.n_ended
            self._thinking = Thinking(self._decider, self._question())
        patience_s = _PATIENCE_S if self._thinking is None else _PATIENCE_THINKING_S
        if self._running:
            self._collect(patience_s)
        if self._trainings.is_busy:
            self._follow_trainings(_PATIENCE_THINKING_S if self._running else patience_s)
        is_busy = self._running or self._trainings.is_busy
        if self._thinking is not None and self._thinking.wait(0.0 if is_busy else _PATIENCE_S):
            decision, self._thinking = self._thinking.result(), None
            self._think_s = decision.wall_s
            self._act(decision)
        if self._ending is None:
            self._look_at_limits()

    def _follow_trainings(self, timeout_s: float) -> None:
        if self._trainings.follow(timeout_s):
            self._is_waiting = False
        if self._trainings.trouble is not None:
            self._ending = "failures", self._trainings.trouble

    def _must_stop(self) -> bool:
        """Whether work that can be gone on with later should end now."""
        return self._ending is not None or self._signals.received is not None or self._is_time_up()

    def _is_time_up(self) -> bool:
        return self._config.budget.wall_s is not None and self._elapsed_s() >= self._config.budget.wall_s

    def _look_at_limits(self) -> None:
        if self._signals.received is not None:
            self._ending = "interrupted", f"by {self._signals.received.name}"
        elif self._is_time_up():
            self._ending = "wall_time", f"{self._config.budget.wall_s:g} s are spent"
        elif self._state.pending:
            return
        elif self._last_word is not None:
            self._ending = "agent", self._last_word
        elif self._n_left() == 0:
            self._ending = "budget", f"{self._config.budget.n_evaluations} evaluations are spent"

    # Decisions

    def _n_left(self) -> int:
        return max(0, self._config.budget.n_evaluations - self._state.n_requested)

    def _n_wanted(self) -> int:
        """How many requests a decision should bring now; 0 when none is due."""
        if self._last_word is not None:
            return 0
        n_left, n_pending = self._n_left(), len(self._state.pending)
        if self._is_synchronous:
            return n_left if n_pending == 0 and not self._trainings.is_busy else 0
        if self._is_waiting:
            return 0
        n_workers = self._executor.n_workers
        n_while_thinking = 0
        if self._state.n_ended and self._state.busy_s:
            mean_s = max(1e-6, sum(self._state.busy_s.values()) / self._state.n_ended)
            n_while_thinking = math.ceil(min(1e6, _THINKING_MARGIN * self._think_s / mean_s * n_workers))
        most = n_workers * (1 + self._config.execution.max_queued_per_worker)
        return min(n_left, min(most, n_workers * _HANDED_OUT_PER_WORKER + n_while_thinking) - n_pending)

    def _question(self) -> Question:
        history = History(
            objective=self._state.objective,
            evaluations=self._state.snapshot(),
            pending=tuple(pending.candidate for pending in self._state.pending.values()),
            surrogate=self._fit.surrogate if self._fit is not None else None,
        )
        wall_s = self._config.budget.wall_s
        budget = Budget(
            n_evaluations=self._n_left(),
            wall_s=None if wall_s is None else max(0.0, wall_s - self._elapsed_s()),
            n_wanted=self._n_wanted(),
        )
        models = {name: dict(of_name) for name, of_name in self._state.models.items()}
        return Question(self._state.next_round, history, self._fit, budget, self._elapsed_s(), self._tuning, models)

    def _act(self, decision: Decision) -> None:
        """Write a decision down in one go, and let it have its consequences."""
        events: list[Event] = [
            self._event(Tuned, ahead=ahead, round=decision.round, **vars(tuning))
            for ahead, tuning in enumerate(decision.tunings)
        ]
        events += [
            self._event(
                Retrained,
                ahead=len(decision.tunings) + ahead,
                round=decision.round,
                n_train=fit.n_train,
                model=fit.model,
                metrics=dict(fit.metrics),
                wall_s=fit.wall_s,
                reason=fit.reason,
            )
            for ahead, fit in enumerate(decision.fits)
        ]
        candidates = decision.candidates[: self._n_left()]
        if candidates:
            requests = tuple(
                RequestRecord(f"{self._state.n_requested + index:07d}", candidate, self._warm_start_id(candidate))
                for index, candidate in enumerate(candidates)
            )
            events.append(self._event(Requested, ahead=len(events), round=decision.round, requests=requests))
        if events:
            self._write(events)
        if decision.tunings:
            self._tuning = decision.tunings[-1]
        if decision.fits:
            self._fit = decision.fits[-1]
        for wanted in decision.wanted:
            self._trainings.order(wanted, self._state.models)
        if candidates:
            self._backlog.extend(request.request_id for request in requests)
        elif decision.wanted and self._is_synchronous:
            pass  # decided again when they have ended
        elif decision.stop is not None:
            self._last_word = decision.stop
        elif self._state.n_ended != self._n_ended_when_asked:
            pass  # it would wait for what has ended meanwhile: the answer is out of date, and the agent is asked again
        elif self._state.pending or self._trainings.is_busy:
            self._is_waiting = True
        else:
            self._ending = "idle", "the agent had nothing to evaluate, and nothing was pending"

    def _warm_start_id(self, candidate: Candidate) -> str | None:
        """The first parent, if its result is on the same sites in the same phase."""
        for parent_id in candidate.lineage.parents[:1]:
            parent = self._state.by_id.get(parent_id)
            if parent is None or parent.label is None or parent.candidate.phase != candidate.phase:
                return None
            return parent_id if len(peek_atoms(parent.label)) == len(candidate.atoms) else None
        return None

    def _load_fit(self) -> None:
        if self._state.retrains:
            latest = self._state.retrains[-1]
            self._fit = self._decider.load(latest.model, latest.n_train, latest.metrics)
        if self._state.tunings:
            last = vars(self._state.tunings[-1])
            self._tuning = Tuning(**{field.name: last[field.name] for field in fields(Tuning)})

    # Evaluations

    def _submit(self) -> None:
        """Keep the executor supplied; the rest waits here, where it can be dropped without a trace."""
        limit = self._executor.n_workers * _HANDED_OUT_PER_WORKER
        while self._backlog and len(self._running) < limit:
            pending = self._state.pending[self._backlog.popleft()]
            task_id = f"{pending.request_id}#{pending.n_attempts + 1}"
            self._running[task_id] = pending.request_id
            self._executor.submit(Task(task_id, self._request(pending), self._config.execution.deadline_s))

    def _request(self, pending: PendingRequest) -> Request:
        warm_start = None
        if pending.warm_start is not None:
            label = self._state.by_id[pending.warm_start].label
            if label is not None:
                scalars = {name: float(value) for name, value in label.values.items() if np.ndim(value) == 0}
                warm_start = WarmStart(peek_atoms(label), scalars)
        return Request(pending.request_id, peek_atoms(pending.candidate), pending.candidate.phase, warm_start)

    def _collect(self, timeout_s: float) -> None:
        outcomes = list(self._executor.completed(timeout_s))
        if not outcomes:
            return
        self._is_waiting = False
        recent = list(self._state.recent)
        events: list[Event] = []
        for outcome in outcomes:
            event = self._outcome_event(outcome, recent, ahead=len(events))
            events.append(event)
            if isinstance(event, Evaluated):
                recent.append(None)
            elif event.action == "retry":
                self._backlog.appendleft(event.request_id)
            else:
                recent.append(event.failure.kind)
        self._write(events)

    def _outcome_event(self, outcome: Outcome, recent: Sequence[str | None], ahead: int) -> Evaluated | Failed:
        request_id = self._running.pop(outcome.task_id)
        attempt = self._state.pending[request_id].n_attempts + 1
        common: dict[str, Any] = {
            "request_id": request_id,
            "attempt": attempt,
            "worker": outcome.worker,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
        }
        result = recordable(outcome.result, self._state.objective.property)
        if not isinstance(result, Failure):
            return self._event(Evaluated, ahead=ahead, label=result, **common)
        decision = decide_failure(self._config.failure_policy, result.kind, attempt, recent)
        if decision.action == "abort":
            self._ending = "failures", f"{decision.reason}; the latest: {result.message}"
        return self._event(Failed, ahead=ahead, failure=result, action=decision.action, **common)

    # The end, and the log

    def _end(self, reason: StopReason, message: str) -> Stopped:
        """Let running evaluations end if there is reason to hope, then close the session."""
        self._decider.hurry.set()
        if reason != "failures":
            give_up_at = time.monotonic() + self._config.execution.grace_s
            while self._running and time.monotonic() < give_up_at:
                self._collect(min(_PATIENCE_S, max(0.0, give_up_at - time.monotonic())))
            while self._trainings.is_busy and time.monotonic() < give_up_at:
                self._follow_trainings(_PATIENCE_S)  # told to end, they leave their checkpoints
            if self._thinking is not None:  # nobody wants its decision, but an interpreter should not end under it
                self._thinking.wait(max(0.0, give_up_at - time.monotonic()))
        stopped = self._event(Stopped, reason=reason, message=message)
        self._write([stopped])
        return stopped

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._session_started

    def _event(self, kind: type[E], *, ahead: int = 0, **fields: Any) -> E:
        return kind(seq=self._log.n_events + ahead, at=time.time(), **fields)

    def _write(self, events: Sequence[Event]) -> None:
        """Append, then apply what a reader of the log would see."""
        for event in self._log.append(events):
            self._state.apply(event)
            if self._on_event is not None:
                self._on_event(event, self._state)
