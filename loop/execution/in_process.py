"""Evaluations one after the other in the driver itself: for tests, debugging and quick oracles."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from ...oracles.base import Oracle
from .base import Judge, Outcome, Runner, Task, WorkerFactory
from .work import cannot_build, perform, release


class InProcess:
    """Runs one task on each call of :meth:`completed`.

    It cannot enforce deadlines nor survive a crash of the oracle, since it is the process that hangs or dies.
    """

    enforces_deadlines = False
    n_workers = 1

    def __init__(self, factory: WorkerFactory, judge: Judge | None = None) -> None:
        self._factory = factory
        self._judge = judge
        self._holder: Oracle | Runner | None = None
        self._queue: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)

    def completed(self, timeout_s: float | None) -> Iterator[Outcome]:
        """The outcome of the next task, evaluated now; with a timeout of 0 nothing is evaluated."""
        if not self._queue or timeout_s == 0:
            return
        task = self._queue.popleft()
        if self._holder is None:
            started_at = time.time()
            try:
                self._holder = self._factory()
            except Exception as error:  # noqa: BLE001 - whatever keeps the oracle from being made is the outcome
                yield Outcome(task.task_id, cannot_build(error), "driver", started_at, time.time())
                return
        yield perform(self._holder, task, "driver", self._judge or (lambda progress: True))

    def cancel(self, task_id: str) -> None:
        """Drop a queued task."""
        self._queue = deque(task for task in self._queue if task.task_id != task_id)

    def close(self) -> None:
        """Drop the queue and close the oracle."""
        self._queue.clear()
        if self._holder is not None:
            release(self._holder)
            self._holder = None
