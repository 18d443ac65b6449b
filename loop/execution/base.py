"""What an executor is: a pool of workers, each with one oracle, that survives anything an evaluation does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...errors import AlloysmithError
from ...generators.base import Failure
from ...oracles.base import Label, Oracle, Request

OracleFactory = Callable[[], Oracle]
"""Picklable; called once in each worker, again after a worker was replaced."""


class ExecutorError(AlloysmithError):
    """The executor itself cannot go on: no worker starts, the cluster is gone, resources that nobody has."""


@dataclass(frozen=True)
class Task:
    """One evaluation to run.

    Attributes:
        task_id: unique among running tasks; names request and attempt.
        request: what to evaluate.
        deadline_s: seconds from its start after which the worker is killed and the task ends as ``timed_out``.
    """

    task_id: str
    request: Request
    deadline_s: float


@dataclass(frozen=True)
class Outcome:
    """How a task ended. Every submitted task that is not cancelled ends in exactly one outcome.

    Attributes:
        result: the label, or a failure (``timed_out`` after the deadline, ``crashed`` when the worker died,
            ``unavailable`` when no oracle could be built).
        worker: name of the worker.
        started_at, ended_at: Unix times on the worker's side of the pool.
    """

    task_id: str
    result: Label | Failure
    worker: str
    started_at: float
    ended_at: float


@runtime_checkable
class Executor(Protocol):
    """Runs tasks. Used from one thread, except :meth:`n_workers`.

    Attributes:
        enforces_deadlines: whether it kills an evaluation at its deadline; one that runs in the driver cannot.
    """

    enforces_deadlines: bool

    @property
    def n_workers(self) -> int: ...

    def submit(self, task: Task) -> None:
        """Queue a task; returns at once."""
        ...

    def completed(self, timeout_s: float | None) -> Iterator[Outcome]:
        """Outcomes that are ready. Waits up to ``timeout_s`` (``None``: for ever, 0: not at all) for the first one,
        then yields all that are there without further waiting; yields nothing when nothing is queued or running."""
        ...

    def cancel(self, task_id: str) -> None:
        """Drop a queued task or kill a running one; it gives no outcome."""
        ...

    def close(self) -> None:
        """Kill all workers and release everything; safe to call twice."""
        ...
