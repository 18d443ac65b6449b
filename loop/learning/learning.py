"""Learning a potential: rounds of training a committee, exploring, choosing, labelling, until nothing new is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...structures.whole_file import SCRATCH_PREFIX
from ..errors import RunDirectoryError
from ..execution.build import connection, usable_cores
from ..execution.settings import WorkerSettings
from ..signals import GracefulStop
from ..store.lock import LOCK_NAME, RunLock
from .config import LearningConfig
from .crew import Crew
from .endings import Ending, EndReason
from .jobs import one_thread
from .rounds import CONFIG_NAME, RoundRecord, put
from .session import Session
from .site import OnProgress, Stage


@dataclass(frozen=True)
class LearningEnd:
    """How a session ended.

    Attributes:
        reason: ``settled`` (nothing more to learn), ``rounds`` or ``labels`` (all that were allowed are spent),
            ``wall_time``, ``interrupted`` (a signal), ``failures`` (the oracle only fails), ``nothing_new``.
        message: the same in words.
        records: all rounds so far.
        exit_code: for the shell; 0 where it came to an end of its own.
        failures: why members of the last committee could not be trained, and are those of the round before.
    """

    reason: EndReason
    message: str
    records: Sequence[RoundRecord]
    exit_code: int = 0
    failures: Sequence[str] = ()


def learn(
    config: LearningConfig,
    run_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> LearningEnd:
    """Begin a learning in a new run directory, or go on with the one that is there.

    Args:
        on_progress: told what is going on.
        on_round: given each round as it is done.

    Raises:
        RunDirectoryError: the folder holds something else, a learning of another configuration, or cannot be written.
        LearningError: there is nothing to learn from.
        ExecutorError: no worker can be started, or there is no such cluster.
    """
    _check_folder(config, run_dir)
    lock = RunLock(run_dir)
    try:
        with (
            GracefulStop() as signals,
            one_thread(),
            connection(config.execution),
            closing(Crew(_workers(config), config.execution.job_deadline_s)) as crew,
        ):
            session = Session(config, run_dir, crew, signals, on_progress or _silent, on_round)
            # only now that all files are read: a folder keeps the configuration that it was begun with
            put(run_dir / CONFIG_NAME, config.model_dump_json(indent=2).encode())
            failures: Sequence[str] = ()
            try:
                end = session.run()
                if end.exit_code == 0:
                    failures = session.finish()
            except Ending as early:  # a signal, while it finished
                end = early
            return LearningEnd(end.reason, end.message, session.records, end.exit_code, failures)
    finally:
        lock.release()


def _workers(config: LearningConfig) -> WorkerSettings:
    """Workers for as many jobs as there ever are at once."""
    execution, retuning = config.execution, config.retuning
    n_trials = 0 if retuning is None else 1 + min(retuning.batch_size, retuning.n_trials)
    n_jobs = max(config.committee.n_members, config.exploration.n_trajectories, n_trials)
    n_workers = min(execution.n_workers or usable_cores(), n_jobs)
    return WorkerSettings(executor=execution.executor, n_workers=n_workers, ray=execution.ray)


def _silent(index: int, stage: Stage, detail: str) -> None:
    """Progress that nobody follows."""


def _check_folder(config: LearningConfig, run_dir: Path) -> None:
    """Make the folder, or check that it holds this learning."""
    path = run_dir / CONFIG_NAME
    if path.is_file():
        try:
            known = LearningConfig.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise RunDirectoryError(f"{path} is damaged or of another version: {error}") from error
        if known.results_hash() != config.results_hash():
            raise RunDirectoryError(
                f"{run_dir} holds a learning of another configuration; only budget, stopping and execution may change. "
                "Choose another --run-dir"
            )
    elif run_dir.exists() and not all(_comes_before_the_config(path) for path in run_dir.iterdir()):
        raise RunDirectoryError(f"{run_dir} is not empty and holds no learning; choose another --run-dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{run_dir} cannot be made: {error.strerror or error}") from error


def _comes_before_the_config(path: Path) -> bool:
    """Whether a driver that was killed before it wrote the configuration may have left this."""
    return path.name == LOCK_NAME or path.name.startswith(SCRATCH_PREFIX)
