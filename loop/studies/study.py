"""Running a study: one driver asks for parameters, workers fit, the driver alone writes what came of it.

Everything that is known is in the study's folder: its configuration, and Optuna's journal. A driver that was killed
leaves trials that seem to run; the next one queues these again with their parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from ...agents.optuna_study import AskedTrial, OptunaStudy, TrialRecord, read_trials
from ...errors import AlloysmithError, ConfigError
from ...generators.base import Failure
from ...structures.whole_file import write_whole
from ..config import validate_settings
from ..errors import RunDirectoryError
from ..execution.base import Executor, Outcome, Progress, Task
from ..execution.build import build_executor
from ..fit_changes import fit_config, key_of
from ..signals import GracefulStop
from ..store.lock import RunLock, is_of_a_start
from ..yaml_source import read_yaml
from .config import StudyConfig
from .results import write_best
from .trial import FitRunner, TrialRequest, TrialResult

CONFIG_NAME = "resolved.yaml"
JOURNAL_NAME = "journal.log"
_LOOK_EVERY_S = 0.5  # how soon a signal is noticed

EndReason = Literal["n_trials", "interrupted", "failures"]


class StudyRunError(AlloysmithError):
    """A study cannot go on."""


@dataclass(frozen=True)
class StudyEnd:
    """How a session ended.

    Attributes:
        trials: all of the study.
        exit_code: of the command line: 0, 3 (failures), or 128 plus a signal.
    """

    reason: EndReason
    message: str
    trials: tuple[TrialRecord, ...]
    exit_code: int


Observer = Callable[[TrialRecord], None]
"""Told of each trial when it begins and when it ends."""


def run_study(config: StudyConfig, folder: Path, on_trial: Observer | None = None) -> StudyEnd:
    """Begin a study, or go on with it until it has its trials.

    Args:
        folder: of the study; made if it is not there.

    Raises:
        RunDirectoryError: the folder is in use, holds something else, or another study.
        StudyError: the journal is damaged.
        ExecutorError: no worker starts.
    """
    _prepare(config, folder)
    lock = RunLock(folder)
    try:
        _keep_config(config, folder)
        return _Session(config, folder, on_trial).to_end()
    finally:
        lock.release()


def read_study_config(folder: Path) -> StudyConfig:
    """The configuration of a study that was begun.

    Raises:
        RunDirectoryError: the folder holds no study.
        ConfigError: its configuration is damaged.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise RunDirectoryError(
            f"{folder} holds no study: it has no {CONFIG_NAME}. `alloysmith study run CONFIG --study-dir {folder}` "
            "begins one"
        )
    config: StudyConfig = validate_settings(read_yaml(path), StudyConfig, folder)
    return config


def study_trials(config: StudyConfig, folder: Path) -> list[TrialRecord]:
    """All trials of a study, also while it runs.

    Raises:
        StudyError: there is no journal yet, or it is damaged.
    """
    return read_trials(folder / JOURNAL_NAME, config.space)


def n_done(trials: Sequence[TrialRecord]) -> int:
    """Number of trials that count."""
    return sum(trial.condition in ("finished", "pruned", "failed") for trial in trials)


def n_trained(trials: Sequence[TrialRecord]) -> int:
    """Number of trials that count and were not copied from an equal one."""
    return n_done([trial for trial in trials if trial.same_as is None])


class _Session:
    """One driver's part of a study."""

    def __init__(self, config: StudyConfig, folder: Path, on_trial: Observer | None) -> None:
        self._config, self._folder, self._on_trial = config, folder, on_trial
        self._study = OptunaStudy(
            folder / JOURNAL_NAME,
            config.space,
            config.objectives,
            config.sampler,
            config.pruner,
            seed=config.seed,
        )
        self._asked: dict[str, list[AskedTrial]] = {}  # by task: the trial that is trained, and equal ones
        self._known: dict[str, TrialRecord] = {}  # by settings: what need not be trained again
        self._n_failures_in_a_row = 0
        self._gives_up = False

    def to_end(self) -> StudyEnd:
        self._study.requeue_running()
        for trial in self._study.trials():
            self._remember(trial)
        with GracefulStop() as stop:
            executor = build_executor(self._config.execution, FitRunner, self._judge)
            self._signal = stop
            self._signalled_at: float | None = None
            try:
                self._work(executor)
            finally:
                executor.close()
                self._study.requeue_running()
                trials = self._study.trials()
                write_best(self._config, trials, self._folder)
        reason, message, exit_code = self._ending(stop)
        return StudyEnd(reason, message, tuple(trials), exit_code)

    def _work(self, executor: Executor) -> None:
        while True:
            # An equal trial that waits for another's end counts: asked again before there is news, a sampler would
            # repeat itself until all trials are spent.
            while sum(map(len, self._asked.values())) < executor.n_workers and self._wants_more():
                self._begin(executor)
            if not self._asked or self._is_out_of_grace():
                return
            for outcome in executor.completed(_LOOK_EVERY_S):
                if outcome.task_id in self._asked and not self._gives_up:
                    self._end(outcome)

    def _wants_more(self) -> bool:
        if self._signal.received is not None or self._has_failed():
            return False
        return self._study.n_waiting() > 0 or self._study.n_asked() < self._config.n_trials

    def _begin(self, executor: Executor) -> None:
        asked = self._study.ask()
        try:
            fit = fit_config(self._config.fit, asked.parameters)
        except ConfigError as error:  # settings that contradict each other
            self._study.fail(asked.number, str(error))
            self._count_failure()
            self._show(asked.number)
            return
        self._show(asked.number)
        key = key_of(asked.parameters)
        equal = [task for task, trials in self._asked.items() if key_of(trials[0].parameters) == key]
        known = self._known.get(key)
        if known is not None:
            self._copy(asked, known)
        elif equal:
            self._asked[equal[0]].append(asked)  # ends as the trial does that another worker is at
        else:
            task_id = f"trial-{asked.number}"
            self._asked[task_id] = [asked]
            request = TrialRequest(fit, self._config.measured_speed)
            executor.submit(Task(task_id, request, self._config.execution.deadline_s))

    def _judge(self, progress: Progress) -> bool:
        """What the pruner says to a running trial."""
        if self._is_out_of_grace():
            self._gives_up = True  # what ends now, in this process, is not what the fit would have given
            return False
        metric = self._config.judged_metric
        asked = self._asked.get(progress.task_id)
        if metric is None or asked is None or metric not in progress.figures:
            return True
        return self._study.report(asked[0].number, progress.step, progress.figures[metric])

    def _end(self, outcome: Outcome) -> None:
        asked, *others = self._asked.pop(outcome.task_id)
        result: TrialResult | Failure = outcome.result
        if isinstance(result, Failure):
            self._study.fail(asked.number, f"{result.kind}: {result.message}")
            self._count_failure()
        elif result.was_stopped:
            self._study.prune(asked.number, result.figures)
            self._n_failures_in_a_row = 0
        else:
            self._finish(asked, result.figures)
        self._show(asked.number)
        record = self._study.trials()[asked.number]
        self._remember(record)
        for other in others:
            self._copy(other, record)

    def _copy(self, asked: AskedTrial, known: TrialRecord) -> None:
        """End a trial as an equal one has ended, which was trained."""
        if known.condition == "finished":
            self._study.finish(asked.number, known.values, known.figures, same_as=known.number)
        elif known.condition == "pruned":
            self._study.prune(asked.number, known.figures, same_as=known.number)
        else:
            self._study.fail(asked.number, f"equal to trial {known.number}: {known.message}")
        self._show(asked.number)

    def _remember(self, trial: TrialRecord) -> None:
        if trial.condition in ("finished", "pruned") and trial.same_as is None:
            self._known.setdefault(key_of(trial.parameters), trial)

    def _finish(self, asked: AskedTrial, figures: Mapping[str, float]) -> None:
        names = [objective.metric for objective in self._config.objectives]
        lacking = [name for name in names if name not in figures]
        if lacking:
            self._study.fail(asked.number, f"the fit gave no finite {', '.join(lacking)}")
            self._count_failure()
            return
        self._study.finish(asked.number, [figures[name] for name in names], figures)
        self._n_failures_in_a_row = 0
        write_best(self._config, self._study.trials(), self._folder)

    def _count_failure(self) -> None:
        self._n_failures_in_a_row += 1

    def _has_failed(self) -> bool:
        return self._n_failures_in_a_row >= self._config.max_failures_in_a_row

    def _is_out_of_grace(self) -> bool:
        if self._signal.received is None:
            return False
        if self._signalled_at is None:
            self._signalled_at = time.monotonic()
        return time.monotonic() - self._signalled_at >= self._config.execution.grace_s

    def _show(self, number: int) -> None:
        if self._on_trial is not None:
            self._on_trial(self._study.trials()[number])

    def _ending(self, stop: GracefulStop) -> tuple[EndReason, str, int]:
        if self._has_failed():
            trials = self._study.trials()
            last = [trial.message for trial in trials if trial.condition == "failed"][-1]
            return "failures", f"{self._n_failures_in_a_row} trials failed one after the other, the last: {last}", 3
        is_complete = n_done(self._study.trials()) >= self._config.n_trials
        if stop.received is not None and not is_complete:
            return "interrupted", f"{stop.received.name}; `alloysmith study resume` goes on", stop.exit_code
        return "n_trials", f"it has its {self._config.n_trials} trials", 0


def _prepare(config: StudyConfig, folder: Path) -> None:
    """Make the folder, or make sure that it is this study's."""
    if folder.exists() and not folder.is_dir():
        raise RunDirectoryError(f"{folder} is a file; name a folder")
    if (folder / CONFIG_NAME).is_file():
        if read_study_config(folder).results_hash() != config.results_hash():
            raise RunDirectoryError(
                f"{folder} holds another study: more than the name, n_trials and execution differ from {CONFIG_NAME} "
                "there; choose another folder"
            )
        return
    if folder.is_dir() and not all(is_of_a_start(path) for path in folder.iterdir()):
        raise RunDirectoryError(f"{folder} is not empty and holds no study; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"{folder} cannot be made: {error.strerror}; choose another folder") from error


def _keep_config(config: StudyConfig, folder: Path) -> None:
    text = yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
    try:
        write_whole(folder / CONFIG_NAME, text.encode())
    except OSError as error:
        raise RunDirectoryError(f"{folder} cannot be written: {error.strerror}; make room, then resume") from error
