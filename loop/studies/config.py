"""The configuration of a hyperparameter study: one YAML file."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ...agents.study_settings import (
    CmaEsSettings,
    GridSettings,
    NoPrunerSettings,
    ParameterRange,
    PrunerSettings,
    SamplerSettings,
    StudyObjective,
    TpeSettings,
)
from ...errors import ConfigError
from ...structures.settings import Settings
from ...surrogates.potentials.md_speed import MD_SPEED_METRICS, MdSpeedSettings
from ..config import validate_settings
from ..execution.settings import WorkerSettings
from ..fit_changes import plain_fit, refusal
from ..potential_fitting import PotentialFitConfig
from ..yaml_source import YamlSource, read_yaml
from .fits import StudiedFit, data_problem, known_metrics, running_metrics, with_data


class StudyExecutionSettings(WorkerSettings):
    """Where trials run."""

    deadline_s: PositiveFloat = 86_400.0
    """Seconds a trial may take before its worker is killed and it has failed."""
    grace_s: NonNegativeFloat = 10.0
    """Seconds that running trials get to end after a signal, before they are cut off; `resume` begins these again."""


class StudyConfig(Settings):
    """A hyperparameter study."""

    name: str = "study"
    """A name for people to read."""
    seed: int = Field(default=0, ge=0)
    """The choice of parameters derives from it; the fits have their own, `fit.seed`."""
    fit: StudiedFit
    """What is fitted: the configuration of a fit of a potential or a surrogate, or the file that holds one."""
    space: dict[str, ParameterRange] = Field(min_length=1)
    """Which settings of the fit are searched: dotted key -> range. `{potential.n_intervals: {int: [8, 40]}}`."""
    objectives: tuple[StudyObjective, ...] = Field(min_length=1)
    """What is optimized; with several, the result is a Pareto front."""
    sampler: SamplerSettings = TpeSettings()
    """How parameters are chosen."""
    pruner: PrunerSettings = NoPrunerSettings()
    """Which running trials are ended early; for a single objective."""
    md_speed: MdSpeedSettings = MdSpeedSettings()
    """How the speed of molecular dynamics is measured, where it is an objective."""
    n_trials: PositiveInt
    """Trials of the study, all sessions together; failed and pruned ones count, those that are begun again do not."""
    max_failures_in_a_row: PositiveInt = 10
    """The session ends when so many trials fail one after the other."""
    execution: StudyExecutionSettings = StudyExecutionSettings()
    """Where trials run."""

    @model_validator(mode="after")
    def _are_known(self) -> StudyConfig:
        names = [objective.metric for objective in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"an objective is given twice in {', '.join(names)}")
        for name in names:
            _require_known(name, known_metrics(self.fit))
        return self

    def results_hash(self) -> str:
        """Hash of what decides the trials: all but the name, their number and the machine."""
        exclude = {"name", "n_trials", "max_failures_in_a_row", "execution"}
        plain = self.model_dump(mode="json", exclude=exclude)
        return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def plain(self) -> dict[str, Any]:
        """As it was written, with the fit in place and the folders of its files; reading it again gives the same."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def judged_metric(self) -> str | None:
        """Figure that running trials tell: the objective, where there is one and validations give it."""
        own = self.objectives[0].metric
        return own if len(self.objectives) == 1 and own in running_metrics(self.fit) else None

    @property
    def measured_speed(self) -> MdSpeedSettings | None:
        """How the speed of molecular dynamics is measured; ``None`` where nobody asks for it."""
        is_wanted = any(objective.metric in MD_SPEED_METRICS for objective in self.objectives)
        return self.md_speed if is_wanted else None


def load_study_config(path: Path, overrides: Sequence[str] = (), data_files: Sequence[Path] = ()) -> StudyConfig:
    """Read and check the configuration of a study.

    Args:
        path: YAML file; file names in it are relative to its folder.
        overrides: ``"dotted.key=value"``.
        data_files: learn from these files instead of those of the fit.

    Raises:
        ConfigError: what is wrong, in one message.
    """
    source = read_yaml(path)
    if isinstance(source.data.get("fit"), str):
        fit_path = path.parent / Path(source.data["fit"]).expanduser()
        source.data["fit"] = plain_fit(validate_settings(read_yaml(fit_path), StudiedFit, fit_path.parent))
    for assignment in overrides:
        source.override(assignment)
    config: StudyConfig = validate_settings(source, StudyConfig, path.parent)
    if data_files:
        if isinstance(config.fit, PotentialFitConfig) and config.fit.data is None:
            raise ConfigError(f"{path}: fit.data is missing; it says how the files are divided")
        config = config.model_copy(update={"fit": with_data(config.fit, tuple(data_files))})
    _check(config, source)
    return config


def _check(config: StudyConfig, source: YamlSource) -> None:
    """What one part says against another.

    Raises:
        ConfigError: all of it, in one message.
    """
    problems = [*_space_problems(config), *_choice_problems(config), *_data_problems(config)]
    lines = []
    for path, message in problems:
        origin = source.origin(path)
        lines.append(f"{origin + ': ' if origin else ''}{'.'.join(map(str, path))}: {message}")
    if len(lines) == 1:
        raise ConfigError(f"{source.name}: {lines[0]}")
    if lines:
        raise ConfigError("\n  ".join([f"{source.name}: {len(lines)} problems", *lines]))


def _space_problems(config: StudyConfig) -> list[tuple[tuple[str, ...], str]]:
    """Keys that the fit does not have, and ends of ranges that it does not take."""
    problems: list[tuple[tuple[str, ...], str]] = []
    for key, parameter in config.space.items():
        for value in parameter.ends():
            if message := refusal(config.fit, key, value):
                problems.append((("space", key), message))
                break
    return problems


def _choice_problems(config: StudyConfig) -> list[tuple[tuple[str, ...], str]]:
    problems: list[tuple[tuple[str, ...], str]] = []
    is_multiple = len(config.objectives) > 1
    if isinstance(config.sampler, GridSettings):
        endless = [key for key, parameter in config.space.items() if parameter.grid() is None]
        if endless:
            problems.append((("sampler",), f"a grid needs a `step` for {', '.join(endless)}"))
        elif config.n_trials > grid_size(config):
            message = f"the grid has {grid_size(config)} points, got {config.n_trials}; lower n_trials"
            problems.append((("n_trials",), message))
    if isinstance(config.sampler, CmaEsSettings) and is_multiple:
        problems.append((("sampler", "kind"), "cmaes takes one objective; use tpe, gp or nsga2 for several"))
    if not isinstance(config.pruner, NoPrunerSettings):
        if is_multiple:
            problems.append((("pruner", "kind"), "trials of several objectives cannot be pruned; use none"))
        elif config.judged_metric is None:
            known = ", ".join(running_metrics(config.fit))
            message = f"running trials give no {config.objectives[0].metric}; they give {known}"
            problems.append((("pruner", "kind"), message))
    searched = [key for key in config.space if key.startswith("training.loss")]
    if searched and any(objective.metric == "score" for objective in config.objectives):
        message = f"a score is weighed by {', '.join(searched)}, so it compares nothing; take validation errors"
        problems.append((("objectives",), message))
    if config.execution.executor == "in_process" and (config.execution.n_workers or 1) > 1:
        message = "the in_process executor has one worker; choose process_pool or ray for more"
        problems.append((("execution", "n_workers"), message))
    return problems


def _data_problems(config: StudyConfig) -> list[tuple[tuple[str, ...], str]]:
    needs_validation = any(objective.metric.startswith("validation_") for objective in config.objectives)
    problem = data_problem(config.fit, needs_validation)
    return [] if problem is None else [problem]


def grid_size(config: StudyConfig) -> int:
    """Number of combinations of a space in which every parameter has an end."""
    return math.prod(len(parameter.grid() or ()) for parameter in config.space.values())


def _require_known(name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    if name.startswith("test_"):
        raise ValueError(f"{name} would make test errors part of the search; take validation_{name[5:]}")
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    raise ValueError(f"there is no figure {name}; {hint}")
