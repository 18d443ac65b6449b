"""What a worker does with one task, the same on every executor: do it, check what came of it, and never raise."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import AlloysmithError
from ...generators.base import Failure
from ...oracles.base import FailureKind, Label, Oracle, OracleError
from .base import Outcome, Progress, Runner, Task

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set to 1 in workers: there is a worker for each core, and threads would only fight over them."""


def perform(holder: Oracle | Runner, task: Task, worker: str, say: Callable[[Progress], bool]) -> Outcome:
    """Do ``task`` with what the worker holds.

    Args:
        say: passes a job's progress to the driver and returns its answer.
    """
    if isinstance(holder, Runner):
        return run_job(holder, task, worker, say)
    return run_task(holder, task, worker)


def run_job(runner: Runner, task: Task, worker: str, say: Callable[[Progress], bool]) -> Outcome:
    """Do a job; whatever it raises becomes a failure."""
    started_at = time.time()
    result: Any
    try:
        result = runner.run(task.request, lambda step, figures: say(Progress(task.task_id, step, dict(figures))))
    except AlloysmithError as error:
        result = Failure(FailureKind.NOT_CONVERGED, str(error), {})  # the default details cannot be pickled
    except Exception as error:  # noqa: BLE001 - a defect must cost one job, not the study
        result = Failure(
            FailureKind.CRASHED,
            f"the job raised {type(error).__name__}: {error}",
            {"traceback": "".join(traceback.format_exception(error))[-4000:]},
        )
    return Outcome(task.task_id, result, worker, started_at, time.time())


def release(holder: Oracle | Runner) -> None:
    """Close what the worker holds."""
    if not isinstance(holder, Runner):
        holder.close()


def run_task(oracle: Oracle, task: Task, worker: str) -> Outcome:
    """Evaluate ``task``; whatever the oracle raises becomes a failure."""
    started_at = time.time()
    result: Label | Failure
    try:
        result = _checked(oracle.evaluate(task.request), oracle)
    except OracleError as error:
        result = Failure(error.kind, error.message, error.details)
    except Exception as error:  # noqa: BLE001 - an oracle's defect must cost one evaluation, not the campaign
        result = Failure(
            FailureKind.CRASHED,
            f"the oracle raised {type(error).__name__}: {error}",
            {"traceback": "".join(traceback.format_exception(error))[-4000:]},
        )
    return Outcome(task.task_id, result, worker, started_at, time.time())


def _checked(label: Label, oracle: Oracle) -> Label | Failure:
    """The label if it keeps the promises of oracles, else a failure that says which one it broke."""
    missing = sorted(set(oracle.spec.properties) - set(label.values))
    if missing:
        return Failure(FailureKind.CORRUPT_OUTPUT, f"{oracle.spec.name} gave no value for {', '.join(missing)}")
    bad = [name for name, value in label.values.items() if not np.isfinite(value).all()]
    if bad or not np.isfinite(label.atoms.positions).all():
        what = ", ".join(sorted(bad)) or "the positions"
        return Failure(FailureKind.CORRUPT_OUTPUT, f"{oracle.spec.name} gave values of {what} that are not finite")
    return label


def cannot_build(error: BaseException) -> Failure:
    """The failure of a worker that could not make its oracle."""
    return Failure(
        FailureKind.UNAVAILABLE,
        f"the oracle cannot be built: {type(error).__name__}: {error}",
        {"traceback": "".join(traceback.format_exception(error))[-4000:]},
    )
