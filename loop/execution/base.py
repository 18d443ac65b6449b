"""What an executor is: a pool of workers that survives anything a task does.

A worker holds an oracle, and its tasks are evaluations; or it holds a :class:`Runner`, and its tasks are longer jobs,
such as the trials of a study, that tell how far they are while they run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from ...errors import AlloysmithError
from ...generators.base import Failure
from ...oracles.base import Oracle

Tell = Callable[[int, Mapping[str, float]], bool]
"""How a running job tells its progress: called with (step, figures); ``False`` asks it to end with what it has."""


class Runner(ABC):
    """What a worker holds that runs jobs instead of evaluating an oracle."""

    @abstractmethod
    def run(self, request: Any, tell: Tell) -> Any:
        """Do a job.

        Args:
            request: the job, picklable.
            tell: to be called now and then; waits for the driver's answer.

        Returns:
            What came of it, picklable.
        """


WorkerFactory = Callable[[], Oracle | Runner]
"""Makes what a worker holds. Picklable; called once in each worker, again after a worker was replaced."""

P = TypeVar("P")
R = TypeVar("R")


class ExecutorError(AlloysmithError):
    """The executor itself cannot go on: no worker starts, the cluster is gone, resources that nobody has."""


@dataclass(frozen=True)
class Task(Generic[P]):
    """One evaluation, or one job, to run.

    Attributes:
        task_id: unique among running tasks; names request and attempt.
        request: what to evaluate or do.
        deadline_s: seconds from its start after which the worker is killed and the task ends as ``timed_out``.
    """

    task_id: str
    request: P
    deadline_s: float


@dataclass(frozen=True)
class Progress:
    """What a running job tells.

    Attributes:
        step: how far it is, in its own steps.
        figures: named figures of that step.
    """

    task_id: str
    step: int
    figures: Mapping[str, float]


Judge = Callable[[Progress], bool]
"""What the driver says to it, called in :meth:`Executor.completed`; ``False`` asks the job to end with what it has."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """How a task ended. Every submitted task that is not cancelled ends in exactly one outcome.

    Attributes:
        result: the label or what the job returned, or a failure (``timed_out`` after the deadline, ``crashed`` when the
            worker died, ``unavailable`` when no oracle could be built, ``not_converged`` when a job raised an error of
            this package).
        worker: name of the worker.
        started_at, ended_at: Unix times on the worker's side of the pool.
    """

    task_id: str
    result: R | Failure
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
