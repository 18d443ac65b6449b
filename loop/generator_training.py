"""Trainings of generators as jobs of workers: which are wanted, how they get on, what comes of them.

What a training gives follows from the labels and the models before, so it may be done anywhere and at any time. Its
model is a file in the run directory before an event names it, and a training that was killed goes on from its
checkpoint beside that. All but :func:`survey` is done in the driver's main thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..generators.base import Failure, Generator, History, LearnedModel
from ..generators.learned import Learner, PlannedTraining, TrainingJob
from ..surrogates.base import SurrogateState
from ..surrogates.model_file import dump_state, load_state
from .config import FailurePolicySettings, TrainingSettings
from .errors import RunDirectoryError
from .events import GeneratorTrained, GeneratorTraining, GeneratorTrainingFailed
from .execution.base import Executor, Outcome, Progress, Runner, Task, Tell
from .execution.build import build_executor
from .failure_policy import decide_training
from .store.blobs import BlobStore

MODEL_SUFFIX = ".safetensors"
_NEWS_EVERY_S = 10.0
_CHECKPOINT_SUFFIX = ".training"

KnownModels = Mapping[str, Mapping[int, str | None]]
"""Generator -> number of labels -> file of the model trained on them; ``None`` where that was given up."""


@dataclass(frozen=True)
class WantedTraining:
    """A training that can be done now.

    Attributes:
        before: file of the model it goes on from, if any.
        has_model: whether its generator can do without.
    """

    planned: PlannedTraining
    before: str | None
    has_model: bool

    @property
    def title(self) -> str:
        """What its files are called."""
        return _title(self.planned.generator, self.planned.n_labels)


@dataclass(frozen=True)
class TrainingRequest:
    """A training as a worker gets it."""

    job: TrainingJob
    before: SurrogateState | None
    checkpoint_path: Path


class TrainingRunner(Runner):
    """Trains; ``None`` comes of what was asked to end early."""

    def run(self, request: TrainingRequest, tell: Tell) -> SurrogateState | None:
        """Do a training, with a checkpoint if the worker sees the driver's folder."""
        sees_folder = request.checkpoint_path.parent.is_dir()
        path = request.checkpoint_path if sees_folder else None
        return request.job.run(request.before, checkpoint_path=path, report=tell)


def survey(
    generator: Generator, history: History, known: KnownModels, models: BlobStore
) -> tuple[History, tuple[WantedTraining, ...]]:
    """What a generator can propose with, and what it wants beyond that.

    Args:
        known: what earlier trainings came to.

    Returns:
        The history with the latest model of the generator and each of its members; trainings that would bring later
        ones, no two for the same model.

    Raises:
        RunDirectoryError: a model file is missing or damaged.
    """
    if not isinstance(generator, Learner):
        return history, ()
    chains: dict[str, list[PlannedTraining]] = {}
    for planned in generator.trainings(history):
        chains.setdefault(planned.generator, []).append(planned)
    given: dict[str, LearnedModel] = {}
    wanted = []
    for name, chain in chains.items():
        ended = known.get(name, {})
        files = {p.n_labels: file for p in chain if (file := ended.get(p.n_labels)) is not None}
        if files:
            n_labels = max(files)
            given[name] = LearnedModel(n_labels, load_state(models.path(files[n_labels])))
        if chain[-1].n_labels in ended:
            continue
        following = next(p for p in chain if p.n_labels not in ended) if chain[-1].goes_on else chain[-1]
        earlier = [n_labels for n_labels in files if n_labels < following.n_labels]
        before = files[max(earlier)] if following.goes_on and earlier else None
        wanted.append(WantedTraining(following, before, bool(files)))
    return replace(history, models=given), tuple(wanted)


@dataclass
class _Running:
    """A training in the hands of a worker."""

    wanted: WantedTraining
    request: TrainingRequest
    labels: str
    attempt: int = 1
    figures: Mapping[str, float] = field(default_factory=lambda: {"share": 0.0})
    told_at: float = 0.0

    @property
    def names(self) -> dict[str, Any]:
        """What names it in events."""
        return {"generator": self.wanted.planned.generator, "n_train": self.wanted.planned.n_labels}


class Trainings:
    """The trainings of one session. Workers start with the first one.

    Args:
        workers: where they are done.
        policy: what is done about those that fail.
        models: where models are kept.
        write: writes an event, given its kind and fields.
        must_stop: asked again and again; ``True`` ends those that run, which leave their checkpoints.

    Attributes:
        trouble: why the campaign should end, if it should.
    """

    def __init__(
        self,
        workers: TrainingSettings,
        policy: FailurePolicySettings,
        models: BlobStore,
        write: Callable[..., None],
        must_stop: Callable[[], bool],
    ) -> None:
        self._workers, self._policy, self._models = workers, policy, models
        self._write, self._must_stop = write, must_stop
        self._executor: Executor | None = None
        self._running: dict[str, _Running] = {}
        self.trouble: str | None = None

    @property
    def is_busy(self) -> bool:
        """Whether any is under way."""
        return bool(self._running)

    def order(self, wanted: WantedTraining, known: KnownModels) -> None:
        """Have a training done, unless it has been meanwhile, or another one of its generator is under way.

        Raises:
            ExecutorError: no worker can be started.
            RunDirectoryError: its folder cannot be written, or the model before is missing or damaged.
        """
        planned = wanted.planned
        others = [running.wanted.planned.generator for running in self._running.values()]
        if planned.generator in others or planned.n_labels in known.get(planned.generator, {}):
            return
        before = None if wanted.before is None else load_state(self._models.path(wanted.before))
        request = TrainingRequest(planned.job(), before, self._checkpoint(wanted.title))
        running = self._running[wanted.title] = _Running(wanted, request, planned.labels_hash())
        self._submit(running)
        self._tell(running, 0)

    def follow(self, timeout_s: float) -> bool:
        """Write down what has ended, after waiting for it; failed attempts are made again where the policy says so.

        Returns:
            Whether any has ended.

        Raises:
            RunDirectoryError: a model cannot be written.
            ExecutorError: workers cannot be replaced.
        """
        if self._executor is None or not self._running:
            return False
        n_before = len(self._running)
        for outcome in self._executor.completed(timeout_s):
            self._take(outcome)
        return len(self._running) < n_before

    def tidy(self, known: KnownModels) -> None:
        """Remove the checkpoints that trainings have left which are over."""
        for generator, models in known.items():
            for n_labels in models:
                self._checkpoint(_title(generator, n_labels)).unlink(missing_ok=True)

    def close(self) -> None:
        """End all workers; safe to call twice."""
        self._running.clear()
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def _submit(self, running: _Running) -> None:
        if self._executor is None:
            self._executor = build_executor(self._workers, TrainingRunner, self._judge)
        task_id = f"{running.wanted.title}#{running.attempt}"
        self._executor.submit(Task(task_id, running.request, self._workers.deadline_s))

    def _judge(self, progress: Progress) -> bool:
        running = self._running[progress.task_id.rpartition("#")[0]]
        running.figures = progress.figures
        if time.monotonic() - running.told_at >= _NEWS_EVERY_S:
            self._tell(running, progress.step)
        return not self._must_stop()

    def _tell(self, running: _Running, step: int) -> None:
        running.told_at = time.monotonic()
        self._write(GeneratorTraining, step=step, figures=dict(running.figures), **running.names)

    def _take(self, outcome: Outcome) -> None:
        """Put a model in its place, or decide about a failure; what was asked to end leaves its checkpoint alone."""
        title = outcome.task_id.rpartition("#")[0]
        running = self._running.pop(title)
        if isinstance(outcome.result, Failure):
            self._take_failure(running, outcome.result, outcome.worker)
            return
        if outcome.result is None:
            return
        state: SurrogateState = outcome.result
        about = {**running.names, "labels": running.labels}
        content = dump_state(replace(state, settings={**state.settings, "trained_on": about}))
        self._write(
            GeneratorTrained,
            model=self._models.put(content, MODEL_SUFFIX, title),
            labels=running.labels,
            before=running.wanted.before,
            figures=dict(running.figures),
            worker=outcome.worker,
            wall_s=outcome.ended_at - outcome.started_at,
            **running.names,
        )
        running.request.checkpoint_path.unlink(missing_ok=True)

    def _take_failure(self, running: _Running, failure: Failure, worker: str) -> None:
        wanted, attempt = running.wanted, running.attempt
        decision = decide_training(self._policy, failure.kind, attempt, has_model=wanted.has_model)
        fields = {"attempt": attempt, "failure": failure, "worker": worker, "action": decision.action}
        self._write(GeneratorTrainingFailed, **running.names, **fields)
        if decision.action == "retry":
            running.attempt += 1
            self._running[wanted.title] = running
            self._submit(running)
        elif decision.action == "abort":
            planned = wanted.planned
            what = f"the training of generator {planned.generator!r} on {planned.n_labels} labels"
            self.trouble = f"{what} {decision.reason}; {failure.kind}: {failure.message}"

    def _checkpoint(self, title: str) -> Path:
        try:
            return self._models.place_for(f"{title}{_CHECKPOINT_SUFFIX}")
        except OSError as error:
            raise RunDirectoryError(f"the folder of models cannot be made: {error.strerror or error}") from error


def _title(generator: str, n_labels: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', generator)}-{n_labels:06d}"
