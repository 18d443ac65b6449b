"""Learning migration barriers: rounds of choosing hops, labelling, training and judging."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..execution.build import usable_cores
from ..execution.settings import WorkerSettings
from ..rounds.learning import LearningEnd, learn_in
from ..rounds.site import OnProgress, Stage
from .config import BarrierLearningConfig
from .rounds import BarrierRound
from .session import BarrierSession
from .training import BarrierRunner

BarrierEnd = LearningEnd[BarrierRound]
"""How a session of a learning of barriers ended."""


def learn_barriers(
    config: BarrierLearningConfig,
    run_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    on_round: Callable[[BarrierRound], None] | None = None,
) -> BarrierEnd:
    """Begin a learning in a new run directory, or go on with the one that is there.

    Args:
        on_progress: told what is going on.
        on_round: given each round as it is done.

    Raises:
        RunDirectoryError: the folder holds something else, a learning of another configuration, or cannot be written.
        StructureError: the pool's crystals cannot be used.
        ConfigError: the oracle does not know the pool's elements.
        LearningError: there is nothing to learn from.
        ExecutorError: no worker can be started, or there is no such cluster.
    """
    execution = config.execution
    n_workers = min(execution.n_workers or usable_cores(), config.committee.n_members)
    return learn_in(
        run_dir,
        config,
        WorkerSettings(executor=execution.executor, n_workers=n_workers, ray=execution.ray),
        BarrierRunner,
        execution.job_deadline_s,
        lambda crew, signals: BarrierSession(config, run_dir, crew, signals, on_progress or _silent, on_round),
    )


def _silent(index: int, stage: Stage, detail: str) -> None:
    """Progress that nobody follows."""
