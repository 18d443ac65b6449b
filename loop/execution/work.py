"""What a worker does with one task, the same on every executor: evaluate, check, and never raise."""

from __future__ import annotations

import time
import traceback

import numpy as np

from ...generators.base import Failure
from ...oracles.base import FailureKind, Label, Oracle, OracleError
from .base import Outcome, Task

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set to 1 in workers: there is a worker for each core, and threads would only fight over them."""


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
