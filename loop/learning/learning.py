"""Learning a potential: rounds of training a committee, exploring, choosing, labelling, until nothing new is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..execution.build import usable_cores
from ..execution.settings import WorkerSettings
from ..rounds.learning import LearningEnd, learn_in
from ..rounds.site import OnProgress, Stage
from .config import LearningConfig
from .jobs import LearningRunner
from .rounds import RoundRecord
from .session import Session

PotentialEnd = LearningEnd[RoundRecord]
"""How a session of a potential's learning ended."""


def learn(
    config: LearningConfig,
    run_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> PotentialEnd:
    """Begin a learning in a new run directory, or go on with the one that is there.

    Args:
        on_progress: told what is going on.
        on_round: given each round as it is done.

    Raises:
        RunDirectoryError: the folder holds something else, a learning of another configuration, or cannot be written.
        LearningError: there is nothing to learn from.
        ExecutorError: no worker can be started, or there is no such cluster.
    """
    return learn_in(
        run_dir,
        config,
        _workers(config),
        LearningRunner,
        config.execution.job_deadline_s,
        lambda crew, signals: Session(config, run_dir, crew, signals, on_progress or _silent, on_round),
    )


def _workers(config: LearningConfig) -> WorkerSettings:
    """Workers for as many jobs as there ever are at once."""
    execution, retuning = config.execution, config.retuning
    n_trials = 0 if retuning is None else 1 + min(retuning.batch_size, retuning.n_trials)
    n_jobs = max(config.committee.n_members, config.exploration.n_trajectories, n_trials)
    n_workers = min(execution.n_workers or usable_cores(), n_jobs)
    return WorkerSettings(executor=execution.executor, n_workers=n_workers, ray=execution.ray)


def _silent(index: int, stage: Stage, detail: str) -> None:
    """Progress that nobody follows."""
