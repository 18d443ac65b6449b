"""The driver's side of a learning's jobs: hand them to an executor, follow them, take in what they give."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ...generators.base import Failure
from ...oracles.base import FailureKind
from ..execution.base import Executor, Judge, Progress, Task, WorkerFactory
from ..execution.build import build_executor
from ..execution.settings import WorkerSettings

_LOOK_EVERY_S = 0.2
"""How soon a signal is noticed."""
_MAX_ATTEMPTS = 2
_WORTH_ANOTHER_ATTEMPT = (FailureKind.CRASHED, FailureKind.UNAVAILABLE)


class Crew:
    """Workers for a learning's jobs, kept from stage to stage: each has to import all that it needs.

    Args:
        workers: where they are; started with the first jobs, and again with the first ones after :meth:`close`.
        runner: makes what does the jobs in a worker.
        deadline_s: seconds that each job may take before its worker is killed and it has failed.
    """

    def __init__(self, workers: WorkerSettings, runner: WorkerFactory, deadline_s: float) -> None:
        self._workers, self._runner, self._deadline_s = workers, runner, deadline_s
        self._executor: Executor | None = None
        self._judge: Judge = _goes_on

    def do(
        self,
        jobs: Mapping[str, object],
        *,
        on_end: Callable[[str, object], None],
        share_done: Callable[[Progress], float],
        on_progress: Callable[[int, float], None],
        must_stop: Callable[[], bool],
    ) -> bool:
        """Do jobs, those that crash a second time.

        Args:
            jobs: name -> request.
            on_end: given the name of each that has ended, and its result or its failure.
            share_done: how far a running one is, from 0 to 1, by what it tells.
            on_progress: given the number of jobs that have ended, and the share of all work that is done.
            must_stop: asked again and again; ``True`` ends all that run, whose work is then lost but for checkpoints.

        Returns:
            Whether all have ended.

        Raises:
            ExecutorError: no worker can be started.
        """
        if not jobs:
            return True
        shares: dict[str, float] = {}
        n_attempts = dict.fromkeys(jobs, 1)
        n_ended = 0

        def tell() -> None:
            on_progress(n_ended, (n_ended + sum(shares.values())) / len(jobs))

        def judge(progress: Progress) -> bool:
            shares[progress.task_id.partition("#")[0]] = share_done(progress)
            tell()
            return not must_stop()

        self._judge = judge
        if self._executor is None:
            self._executor = build_executor(self._workers, self._runner, lambda progress: self._judge(progress))
        executor = self._executor
        try:
            for name, job in jobs.items():
                executor.submit(Task(f"{name}#1", job, self._deadline_s))
            while n_ended < len(jobs):
                for outcome in executor.completed(_LOOK_EVERY_S):
                    name = outcome.task_id.partition("#")[0]
                    shares.pop(name, None)
                    failure = outcome.result if isinstance(outcome.result, Failure) else None
                    is_curable = failure is not None and failure.kind in _WORTH_ANOTHER_ATTEMPT
                    if is_curable and n_attempts[name] < _MAX_ATTEMPTS:
                        n_attempts[name] += 1
                        executor.submit(Task(f"{name}#{n_attempts[name]}", jobs[name], self._deadline_s))
                    elif outcome.result is not None:  # else it was asked to end
                        n_ended += 1
                        on_end(name, outcome.result)
                        tell()
                if must_stop():
                    return n_ended == len(jobs)
        finally:
            if n_ended < len(jobs):
                self.close()  # ends those that run
        return True

    def close(self) -> None:
        """End the workers, which hold what they reserve of a cluster; safe to call twice."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


def _goes_on(progress: Progress) -> bool:
    return True


class TimeLeft:
    """How long something will go on, from how long it took so far."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def words(self, share: float) -> str:
        """For a share of the work that is done; empty before there is anything to say."""
        spent_s = time.monotonic() - self._began
        if share <= 0.02 or spent_s < 2.0:
            return ""
        left_s = spent_s * (1.0 - share) / share
        return f", about {left_s:.0f} s left" if left_s < 120.0 else f", about {left_s / 60.0:.0f} min left"
