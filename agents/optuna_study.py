"""A hyperparameter study whose parameters Optuna chooses. The only module that imports ``optuna``.

The study is Optuna's journal, a file that one driver writes and that `optuna-dashboard` opens. A trial has an *index*,
its place in the order of asking: what chooses the parameters of a trial gets its seed from the study's seed and the
index, so no generator's state has to be stored. A trial that was cut off by a kill is told as failed, and queued again
with its parameters under the same index.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from ..errors import AlloysmithError
from .study_settings import (
    CmaEsSettings,
    GpSettings,
    GridSettings,
    HyperbandPrunerSettings,
    MedianPrunerSettings,
    Nsga2Settings,
    ParameterRange,
    PrunerSettings,
    RandomSettings,
    SamplerSettings,
    StudyObjective,
    TpeSettings,
    WilcoxonPrunerSettings,
)

TrialCondition = Literal["finished", "pruned", "failed", "running", "waiting", "requeued"]
"""What became of a trial; ``requeued``: it was cut off, and is done again under another number."""

_CONDITIONS: dict[TrialState, TrialCondition] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_INDEX, _REPEATS, _FIGURES, _MESSAGE, _SAME_AS = "index", "repeats", "figures", "message", "same_as"
_NAME = "study"
_LOCK_GRACE_S = 5


class StudyError(AlloysmithError):
    """A study's journal cannot be used: it is missing, damaged, or of another study."""


@dataclass(frozen=True)
class AskedTrial:
    """A trial to be run.

    Attributes:
        number: of the trial in the journal.
        index: its place in the order of asking.
        parameters: name -> value.
    """

    number: int
    index: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """What is known about a trial.

    Attributes:
        index: its place in the order of asking; -1 where it was cut off before it had one.
        parameters: name -> value.
        values: of the objectives, in their order; empty unless it is finished.
        figures: all figures that its fit gave.
        message: why it failed.
        wall_s: from asking to telling.
        steps: step -> figure that was compared while it ran.
        same_as: number of the trial with equal parameters that it was copied from, instead of being trained again.
    """

    number: int
    index: int
    condition: TrialCondition
    parameters: Mapping[str, Any]
    values: tuple[float, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    wall_s: float = 0.0
    steps: Mapping[int, float] = field(default_factory=dict)
    same_as: int | None = None


class OptunaStudy:
    """A study in a journal file.

    Args:
        path: the journal. A new one is begun; one that exists is continued, after a torn last line was cut off.
        space: parameter -> its range.
        objectives: what is optimized.
        seed: all choices derive from it.

    Raises:
        StudyError: the journal is damaged, or of other objectives.
    """

    def __init__(
        self,
        path: Path,
        space: Mapping[str, ParameterRange],
        objectives: Sequence[StudyObjective],
        sampler: SamplerSettings,
        pruner: PrunerSettings,
        *,
        seed: int,
    ) -> None:
        self._sampler, self._seed = sampler, seed
        self._space = dict(space)
        self._distributions = {name: _distribution(value) for name, value in space.items()}
        _cut_torn_line(path)
        directions = [objective.direction for objective in objectives]
        with _quiet():
            self._study = _open(
                lambda: optuna.create_study(
                    study_name=_NAME,
                    storage=_storage(path),
                    pruner=_pruner(pruner),
                    directions=directions,
                    load_if_exists=True,
                ),
                path,
            )
            self._study.set_metric_names([objective.metric for objective in objectives])
        self._running: dict[int, optuna.Trial] = {}

    def requeue_running(self) -> int:
        """Queue the trials that were cut off again; may itself be cut off and done again.

        Returns:
            How many.
        """
        trials = self._study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get(_REPEATS) for trial in trials}
        n_queued = 0
        for trial in trials:
            if trial.state is not TrialState.RUNNING:
                continue
            # one that was cut off before it had all of its parameters has no index, so the next one asked is the same
            if _INDEX in trial.user_attrs and trial.number not in repeated:
                attributes = {_INDEX: trial.user_attrs[_INDEX], _REPEATS: trial.number}
                self._study.enqueue_trial(dict(trial.params), user_attrs=attributes)
                n_queued += 1
            self._study.tell(trial.number, state=TrialState.FAIL)
        self._running.clear()
        return n_queued

    def n_asked(self) -> int:
        """Number of trials that were asked, each counted once however often it was begun."""
        indices = [trial.user_attrs.get(_INDEX, -1) for trial in self._study.get_trials(deepcopy=False)]
        return 1 + max(indices, default=-1)

    def n_waiting(self) -> int:
        """Number of trials that are queued again."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self) -> AskedTrial:
        """Choose the parameters of the next trial; those that are queued again come first."""
        index = self.n_asked()
        if isinstance(self._sampler, GridSettings) and not self.n_waiting():
            point = _grid_point(self._space, index)
            labels = {name: _label(self._space[name], value) for name, value in point.items()}
            self._study.enqueue_trial(labels, user_attrs={_INDEX: index})
        with _quiet():
            self._study.sampler = _build_sampler(self._sampler, _derive(self._seed, index))
            trial = self._study.ask(self._distributions)
        if _INDEX not in trial.user_attrs:
            trial.set_user_attr(_INDEX, index)
        self._running[trial.number] = trial
        found = {name: _value(self._space[name], label) for name, label in trial.params.items()}
        return AskedTrial(trial.number, trial.user_attrs[_INDEX], found)

    def report(self, number: int, step: int, value: float) -> bool:
        """Take in a figure of a running trial; ``False`` if the trial is to be pruned."""
        trial = self._running[number]
        trial.report(value, step)
        return not trial.should_prune()

    def finish(
        self, number: int, values: Sequence[float], figures: Mapping[str, float], *, same_as: int | None = None
    ) -> None:
        """A trial ended with the values of the objectives, its own or those of an equal trial."""
        self._end(number, {_FIGURES: dict(figures), _SAME_AS: same_as})
        self._study.tell(number, list(values))

    def prune(self, number: int, figures: Mapping[str, float], *, same_as: int | None = None) -> None:
        """A trial ended because :meth:`report` said so, of itself or of an equal trial."""
        self._end(number, {_FIGURES: dict(figures), _SAME_AS: same_as})
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, message: str) -> None:
        """A trial gave no values."""
        self._end(number, {_MESSAGE: message})
        self._study.tell(number, state=TrialState.FAIL)

    def trials(self) -> list[TrialRecord]:
        """All trials, in the order of the journal."""
        return _records(self._study, self._space)

    def _end(self, number: int, attributes: Mapping[str, Any]) -> None:
        trial = self._running.pop(number)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)


def read_trials(path: Path, space: Mapping[str, ParameterRange]) -> list[TrialRecord]:
    """The trials of a journal, also while it is written.

    Raises:
        StudyError: there is no such journal, or it is damaged.
    """
    return _records(_load(path), space)


def importances(path: Path, objective: int) -> dict[str, float]:
    """Share of each parameter in what tells good trials from others (PED-ANOVA, Watanabe et al., 2023).

    Args:
        objective: number of the objective, from 0.

    Returns:
        Parameter -> share, the largest first; empty with too few different trials to tell.

    Raises:
        StudyError: there is no such journal, or it is damaged.
    """
    study = _load(path)
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1.0 if study.directions[objective] is optuna.study.StudyDirection.MINIMIZE else -1.0
    if len({trial.values[objective] for trial in finished}) < 4:
        return {}
    with _quiet():
        warnings.simplefilter("ignore", UserWarning)  # that small values are taken to be good, which they are here
        shares = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: sign * float(trial.values[objective])
        )
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def _load(path: Path) -> optuna.Study:
    if not path.is_file():
        raise StudyError(f"{path} does not exist; `alloysmith study run` begins a study")
    with _quiet():
        storage = _open(lambda: _storage(path), path)
        return _open(lambda: optuna.load_study(study_name=_NAME, storage=storage), path)


def _storage(path: Path) -> JournalStorage:
    # absolute, since Optuna looks at its lock through a link that would lead nowhere; a lock that a kill left is broken
    # after the grace period
    name = str(path.resolve())
    return JournalStorage(JournalFileBackend(name, JournalFileSymlinkLock(name, grace_period=_LOCK_GRACE_S)))


def _open(make: Any, path: Path) -> Any:
    try:
        return make()
    except (ValueError, KeyError, TypeError) as error:  # what Optuna raises on reading foreign or damaged lines
        raise StudyError(
            f"{path} is damaged, or is no journal of this study: {error}; restore it from a copy"
        ) from error


def _cut_torn_line(path: Path) -> None:
    """Drop what a kill left of a last line: Optuna would append to it, and could read neither line afterwards."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
            file.flush()
            os.fsync(file.fileno())


def _records(study: optuna.Study, space: Mapping[str, ParameterRange]) -> list[TrialRecord]:
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(_REPEATS) for trial in trials}
    return [_record(trial, space, trial.number in repeated) for trial in trials]


def _record(trial: FrozenTrial, space: Mapping[str, ParameterRange], is_repeated: bool) -> TrialRecord:
    attributes = trial.user_attrs
    condition = _CONDITIONS[trial.state]
    if condition == "failed" and (is_repeated or _INDEX not in attributes):
        condition = "requeued"
    labels = trial.params or trial.system_attrs.get("fixed_params", {})
    return TrialRecord(
        number=trial.number,
        index=int(attributes.get(_INDEX, -1)),
        condition=condition,
        parameters={name: _value(space[name], label) for name, label in labels.items() if name in space},
        values=tuple(trial.values) if condition == "finished" else (),
        figures=dict(attributes.get(_FIGURES, {})),
        message=str(attributes.get(_MESSAGE, "")),
        wall_s=trial.duration.total_seconds() if trial.duration is not None else 0.0,
        steps=dict(trial.intermediate_values),
        same_as=attributes.get(_SAME_AS),
    )


def _distribution(value: ParameterRange) -> BaseDistribution:
    if value.categorical is not None:
        return CategoricalDistribution([_label(value, choice) for choice in value.categorical])
    low, high = value.bounds
    if value.step is not None:  # the last value that the steps reach
        high = low + math.floor((high - low) / value.step + 1e-9) * value.step
    if value.int is not None:
        return IntDistribution(round(low), round(high), log=value.log, step=round(value.step or 1))
    return FloatDistribution(low, high, log=value.log, step=value.step)


def _label(parameter: ParameterRange, value: Any) -> Any:
    """A value as Optuna stores it: mappings and lists as text."""
    is_plain = parameter.categorical is None or value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else json.dumps(value, sort_keys=True)


def _value(parameter: ParameterRange, label: Any) -> Any:
    """The value that a label stands for."""
    for choice in parameter.categorical or ():
        stored = _label(parameter, choice)
        if type(stored) is type(label) and stored == label:
            return choice
    return label


def _grid_point(space: Mapping[str, ParameterRange], index: int) -> dict[str, Any]:
    """The combination of that place in the grid; the last parameter changes fastest."""
    axes = [value.grid() or () for value in space.values()]
    point = next(itertools.islice(itertools.product(*axes), index, None))
    return dict(zip(space, point, strict=True))


def _derive(seed: int, index: int) -> int:
    """The seed that chooses the parameters of a trial: 32 bits, as Optuna takes it."""
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)[0])


def _build_sampler(settings: SamplerSettings, seed: int) -> optuna.samplers.BaseSampler:
    match settings:
        case TpeSettings():
            return optuna.samplers.TPESampler(
                n_startup_trials=settings.n_startup_trials, multivariate=settings.multivariate, seed=seed
            )
        case GpSettings():
            return optuna.samplers.GPSampler(n_startup_trials=settings.n_startup_trials, seed=seed)
        case Nsga2Settings():
            return optuna.samplers.NSGAIISampler(population_size=settings.population_size, seed=seed)
        case CmaEsSettings():
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=settings.n_startup_trials, popsize=settings.population_size, seed=seed
            )
        case GridSettings() | RandomSettings():
            return optuna.samplers.RandomSampler(seed=seed)


def _pruner(settings: PrunerSettings) -> optuna.pruners.BasePruner:
    match settings:
        case MedianPrunerSettings():
            return optuna.pruners.MedianPruner(settings.n_startup_trials, settings.n_warmup_steps)
        case HyperbandPrunerSettings():
            return optuna.pruners.HyperbandPruner(
                settings.min_resource, settings.max_resource or "auto", settings.reduction_factor
            )
        case WilcoxonPrunerSettings():
            with _quiet():
                return optuna.pruners.WilcoxonPruner(
                    p_threshold=settings.p_threshold, n_startup_steps=settings.n_startup_steps
                )
        case _:
            return optuna.pruners.NopPruner()


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it Optuna neither logs what it does nor warns of options that may change in later versions."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
