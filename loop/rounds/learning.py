"""A learning in its run directory: one driver at a time, one configuration, sessions that follow one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from ...structures.whole_file import remove_unfinished
from ...surrogates.threads import one_thread
from ..errors import RunDirectoryError
from ..execution.base import WorkerFactory
from ..execution.build import connection
from ..execution.settings import WorkerSettings
from ..signals import GracefulStop
from ..store.lock import RunLock, is_of_a_start
from .crew import Crew
from .endings import Ending, EndReason
from .files import CONFIG_NAME, put
from .site import C, F, Workplace

R = TypeVar("R", covariant=True)


class Record(Protocol):
    """A round in figures."""

    def as_json(self) -> bytes:
        """The record as it is stored."""
        ...


T = TypeVar("T", bound=Record)


@dataclass(frozen=True)
class LearningEnd(Generic[R]):
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
    records: Sequence[R]
    exit_code: int = 0
    failures: Sequence[str] = ()


class Session(Protocol[R]):
    """What goes on in a session."""

    @property
    def records(self) -> Sequence[R]:
        """Of all rounds that are done."""
        ...

    def run(self) -> Ending:
        """Do round after round, until there is a reason to end."""
        ...

    def finish(self) -> Sequence[str]:
        """Learn what is still to be learnt, where ``run`` came to an end of its own; see :class:`LearningEnd`."""
        ...


class LearningSettings(Protocol):
    """What the configuration of any learning tells."""

    def results_hash(self) -> str:
        """Hash of what decides the results."""
        ...

    def model_dump_json(self, *, indent: int) -> str: ...


def learn_in(
    run_dir: Path,
    config: LearningSettings,
    workers: WorkerSettings,
    runner: WorkerFactory,
    job_deadline_s: float,
    begin: Callable[[Crew, GracefulStop], Session[R]],
) -> LearningEnd[R]:
    """Begin a learning in a new run directory, or go on with the one that is there.

    Args:
        workers: where its jobs are done.
        runner: makes what does them in a worker.
        begin: the session, once nobody else works in the folder.

    Raises:
        RunDirectoryError: the folder holds something else, a learning of another configuration, or cannot be written.
        ExecutorError: no worker can be started, or there is no such cluster.
    """
    with occupied(run_dir, config, workers, runner, job_deadline_s) as (crew, signals):
        session = begin(crew, signals)
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


@contextmanager
def occupied(
    run_dir: Path,
    config: LearningSettings,
    workers: WorkerSettings,
    runner: WorkerFactory,
    job_deadline_s: float,
    *,
    called: str = "learning",
    may_change: str = "budget, stopping and execution",
) -> Iterator[tuple[Crew, GracefulStop]]:
    """Inside, a run directory is this process's, signals are remembered, sums are done by one thread.

    Args:
        called: what the folder holds, for messages.
        may_change: keys of the configuration that do not decide the results, for messages.

    Raises:
        RunDirectoryError: the folder holds something else, the same of another configuration, or cannot be written.
        ExecutorError: there is no such cluster.
    """
    _check_folder(config, run_dir, called, may_change)
    lock = RunLock(run_dir)
    try:
        remove_unfinished(run_dir)  # a kill may have come while a file was written
        with (
            GracefulStop() as signals,
            one_thread(),
            connection(workers),
            closing(Crew(workers, runner, job_deadline_s)) as crew,
        ):
            yield crew, signals
    finally:
        lock.release()


def do_rounds(
    site: Workplace[C, F],
    records: list[T],
    check: Callable[[], None],
    do_round: Callable[[F, int], T],
    on_round: Callable[[T], None] | None,
) -> Ending:
    """Do round after round, until there is a reason to end. A round is done when its record is there.

    Args:
        records: of the rounds that are done; those to come are added.
        check: raises an ending between rounds where there is a reason for it.
        do_round: does the round of a folder and a number.
        on_round: given each round as it is done.
    """
    try:
        while True:
            check()
            index = len(records)
            folder = site.folder(index)
            folder.make()
            record = do_round(folder, index)
            put(folder.record, record.as_json())
            records.append(record)
            if on_round is not None:
                on_round(record)
    except Ending as end:
        return end


def _check_folder(config: LearningSettings, run_dir: Path, called: str, may_change: str) -> None:
    """Make the folder, or check that it holds this learning, or whatever it is called."""
    path = run_dir / CONFIG_NAME
    if path.is_file():
        kind = type(config)
        assert issubclass(kind, BaseModel)
        try:
            known = kind.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise RunDirectoryError(
                f"{path} is damaged, of another version, or not of a {called} of this kind: {error}"
            ) from error
        if known.results_hash() != config.results_hash():
            raise RunDirectoryError(
                f"{run_dir} holds a {called} of another configuration; only {may_change} may change. "
                "Choose another --run-dir"
            )
    elif run_dir.exists() and not all(is_of_a_start(path) for path in run_dir.iterdir()):
        raise RunDirectoryError(f"{run_dir} is not empty and holds no {called}; choose another --run-dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{run_dir} cannot be made: {error.strerror or error}") from error
