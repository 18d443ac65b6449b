"""What pools of expendable workers have in common: who does what, deadlines, and what becomes of a lost worker's tasks.

A worker holds one task and, when tasks are so quick that waiting for the driver would matter, the next one. A task's
deadline runs from the moment its worker turns to it; a worker that misses one is killed and replaced. How workers are
started, reached and killed is for the concrete pools.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ...generators.base import Failure
from ...oracles.base import FailureKind
from .base import Judge, Outcome, Progress, Task

START_LIMIT_S = 300.0
"""Seconds a worker may take to start and to build its oracle."""
_QUICK_S = 1.0
"""Evaluations shorter than this are worth handing out one ahead; a longer one might hold up the task behind it while
another worker is idle."""


@dataclass(frozen=True)
class Ready:
    """A worker's message: the oracle is built."""


@dataclass(frozen=True)
class Death:
    """A worker's last message: it died by itself.

    Attributes:
        cause: continues "the worker …".
        was_idle: whether it had died before its task reached it.
    """

    cause: str
    details: Mapping[str, Any] = field(default_factory=dict)
    was_idle: bool = False


@dataclass(frozen=True)
class Verdict:
    """The driver's answer to a job's progress."""

    goes_on: bool


Message = Ready | Progress | Outcome | Failure | Death
"""What comes from a worker; a bare failure says that no oracle could be built."""


class Worker(ABC):
    """A worker as its pool sees it.

    Attributes:
        tasks: in its hands; the first one runs, a second one waits.
        is_ready: whether its oracle is built.
        turned_at: monotonic time at which it turned to what it does now: starting, or its first task.
        turned_at_unix: the same as Unix time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: deque[Task] = deque()
        self.is_ready = False
        self.turn()

    def turn(self) -> None:
        """It turns to its next task now."""
        self.turned_at, self.turned_at_unix = time.monotonic(), time.time()

    @property
    def due_at(self) -> float:
        """Monotonic time at which there must be a message."""
        if not self.is_ready:
            return self.turned_at + START_LIMIT_S
        return self.turned_at + self.tasks[0].deadline_s if self.tasks else float("inf")

    @abstractmethod
    def send(self, task: Task) -> bool:
        """Pass a task on; ``False`` if that has to wait until the worker is idle. Never blocks on a busy worker."""

    @abstractmethod
    def receive(self) -> Message:
        """The next message, which is known to be there."""

    @abstractmethod
    def answer(self, verdict: Verdict) -> None:
        """Answer the progress that was received; its job waits for it. Never raises if the worker died meanwhile."""

    @abstractmethod
    def kill(self) -> None:
        """End it, whatever it does."""


W = TypeVar("W", bound=Worker)


class WorkerPool(ABC, Generic[W]):
    """A pool of workers; see :class:`~.base.Executor` for the methods.

    Args:
        n_workers: how many.
        judge: answers the progress of jobs; ``None`` where tasks are evaluations, which have none.
    """

    enforces_deadlines = True

    def __init__(self, n_workers: int, judge: Judge | None = None) -> None:
        self._n_workers = n_workers
        self._judge = judge
        self._what = "evaluation" if judge is None else "job"
        self._queue: deque[Task] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._cancelled: set[str] = set()
        self._resent: set[str] = set()
        self._workers: dict[str, W] = {}
        self._typical_s = float("inf")

    @abstractmethod
    def _hire(self, name: str) -> W:
        """Start a worker, without waiting for it."""

    @abstractmethod
    def _wait(self, workers: Sequence[W], timeout_s: float | None) -> list[W]:
        """Those that have a message, after waiting for the first one."""

    @abstractmethod
    def _dismiss(self, workers: Sequence[W]) -> None:
        """End all workers, for good."""

    @property
    def n_workers(self) -> int:
        """Number of workers."""
        return self._n_workers

    def submit(self, task: Task) -> None:
        """Queue a task, or hand it to a worker that has room."""
        self._queue.append(task)
        self._feed()

    def completed(self, timeout_s: float | None) -> Iterator[Outcome]:
        """Outcomes that are ready, after waiting for the first one."""
        give_up_at = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not self._outcomes and (self._queue or any(worker.tasks for worker in self._workers.values())):
            self._feed()
            self._listen(give_up_at)
            if time.monotonic() >= give_up_at:
                break
        while self._outcomes:
            yield self._outcomes.popleft()

    def cancel(self, task_id: str) -> None:
        """Drop a queued task, or kill the worker that runs it."""
        self._queue = deque(task for task in self._queue if task.task_id != task_id)
        self._outcomes = deque(outcome for outcome in self._outcomes if outcome.task_id != task_id)
        for worker in list(self._workers.values()):
            if worker.tasks and worker.tasks[0].task_id == task_id:
                worker.tasks.popleft()
                self._replace(worker)
            elif any(task.task_id == task_id for task in worker.tasks):
                self._cancelled.add(task_id)  # it is on its way already: let it run, and drop its outcome

    def close(self) -> None:
        """End all workers; safe to call twice."""
        self._queue.clear()
        self._outcomes.clear()
        workers, self._workers = list(self._workers.values()), {}
        self._dismiss(workers)

    def _staff(self) -> None:
        for number in range(self._n_workers):
            name = f"worker-{number}"
            if name not in self._workers:
                self._workers[name] = self._hire(name)

    def _feed(self) -> None:
        """Hand out tasks: to idle workers first, then one ahead, unless they are jobs, which wait for answers."""
        if self._queue:
            self._staff()
        for depth in range(2 if self._typical_s < _QUICK_S and self._judge is None else 1):
            for worker in list(self._workers.values()):
                if not self._queue:
                    return
                if worker.is_ready and len(worker.tasks) == depth and worker.send(self._queue[0]):
                    if not worker.tasks:
                        worker.turn()
                    worker.tasks.append(self._queue.popleft())

    def _listen(self, give_up_at: float) -> None:
        """Wait for the first message or deadline, and act on all that are there."""
        workers = list(self._workers.values())
        wait_s = min([give_up_at, *(worker.due_at for worker in workers)]) - time.monotonic()
        ready = self._wait(workers, None if wait_s == float("inf") else max(0.0, wait_s))
        for worker in ready:
            self._act_on(worker, worker.receive())
        now = time.monotonic()
        for worker in workers:
            if worker not in ready and now >= worker.due_at:
                self._miss_deadline(worker)
        self._feed()

    def _act_on(self, worker: W, message: Message) -> None:
        match message:
            case Ready():
                worker.is_ready = True
            case Progress():
                worker.answer(Verdict(self._judge is None or self._judge(message)))
            case Outcome():
                worker.tasks.popleft()
                worker.turn()
                took_s = message.ended_at - message.started_at
                self._typical_s = 0.5 * (took_s + (took_s if self._typical_s == float("inf") else self._typical_s))
                self._give(message)
            case Failure():
                self._fail_to_start(worker, message)
            case Death(cause, details) if not worker.is_ready:
                reason = f"the worker {cause} while it built the oracle"
                self._fail_to_start(worker, Failure(FailureKind.UNAVAILABLE, reason, details))
            case Death(was_idle=True) if worker.tasks and worker.tasks[0].task_id not in self._resent:
                self._resent.add(worker.tasks[0].task_id)  # once: a worker may die idle every time
                self._replace(worker)
            case Death(cause, details):
                reason = f"the worker {cause} during the {self._what}"
                self._fail_running(worker, Failure(FailureKind.CRASHED, reason, details))
                self._replace(worker)

    def _miss_deadline(self, worker: W) -> None:
        waited_s = time.monotonic() - worker.turned_at
        if not worker.is_ready:
            message = f"the worker was not ready after {waited_s:.0f} s"
            self._fail_to_start(worker, Failure(FailureKind.UNAVAILABLE, message))
            return
        deadline_s = worker.tasks[0].deadline_s
        message = f"the {self._what} was killed after {waited_s:.1f} s; its deadline was {deadline_s:g} s"
        self._fail_running(worker, Failure(FailureKind.TIMED_OUT, message, {"deadline_s": deadline_s}))
        self._replace(worker)

    def _give(self, outcome: Outcome) -> None:
        self._resent.discard(outcome.task_id)
        if outcome.task_id in self._cancelled:
            self._cancelled.discard(outcome.task_id)
        else:
            self._outcomes.append(outcome)

    def _fail_running(self, worker: W, failure: Failure) -> None:
        if worker.tasks:
            task = worker.tasks.popleft()
            self._give(Outcome(task.task_id, failure, worker.name, worker.turned_at_unix, time.time()))

    def _fail_to_start(self, worker: W, failure: Failure) -> None:
        """No oracle: a task pays for it, and the next attempt waits until there is another task."""
        worker.kill()
        del self._workers[worker.name]
        if self._queue:
            task = self._queue.popleft()
            self._give(Outcome(task.task_id, failure, worker.name, worker.turned_at_unix, time.time()))

    def _replace(self, worker: W) -> None:
        """Kill a worker and start a fresh one; what it had not begun goes back to the head of the queue."""
        self._queue.extendleft(task for task in reversed(worker.tasks) if task.task_id not in self._cancelled)
        self._cancelled.difference_update(task.task_id for task in worker.tasks)
        worker.kill()
        self._workers[worker.name] = self._hire(worker.name)
