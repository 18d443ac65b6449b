"""The configuration of a learning: one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ...agents.deviation_bands import DeviationSelectionSettings
from ...agents.study_settings import PotentialRetuningSettings
from ...errors import ConfigError
from ...generators.md_exploration import ExplorationSettings, PerturbationSettings
from ...oracles.settings import OracleSettings
from ...structures.settings import Settings, SystemSettings
from ...surrogates.potentials.constraints.settings import ConstraintSettings
from ...surrogates.potentials.data_settings import DataSettings, EnergyReference
from ...surrogates.potentials.optimizer_settings import LeastSquaresSettings
from ...surrogates.potentials.settings import ModelSettings
from ...surrogates.potentials.training_settings import TrainingSettings
from ..config import ExecutionSettings, oracle_spec, take_in_fit, validate_settings
from ..fit_changes import fit_config, refusal
from ..potential_fitting import PotentialFitConfig
from ..studies.fits import running_metrics
from ..yaml_source import read_yaml

NEEDED_PROPERTIES = ("energy_ev", "forces_ev_ang", "stress_ev_ang3")


class CommitteeSettings(Settings):
    """Potentials that learn together, each from labels of its own."""

    n_members: int = Field(default=4, ge=2, le=32)
    """How many. The first one learns from all labels and is the result."""
    share: float = Field(default=0.8, gt=0.1, lt=1.0)
    """Share of the labels, drawn at random, that each of the others learns from. With all of them the members would
    agree where they know nothing."""
    warm_start: bool | None = None
    """Whether each starts from its weights of the round before, rather than from the beginning. By default it does,
    unless it is solved for by `least_squares`, which would leave all but the last layers as the first labels had them
    made."""


class LearningBudget(Settings):
    """What the learning may spend, all sessions together."""

    n_labels: PositiveInt = 400
    """Structures that may be labelled, the first ones and the test structures included."""
    wall_s: PositiveFloat | None = None
    """Wall time in seconds; no limit when left out. Exploration and labelling end when it is spent; a training is
    brought to its end, so that the result knows all labels of the rounds that are done."""


class LearningStop(Settings):
    """When there is no more to learn."""

    max_rounds: PositiveInt = 30
    """Rounds of exploration at most."""
    candidate_share: float = Field(default=0.02, ge=0.0, lt=1.0)
    """It has settled when fewer of the visited structures than this are candidates or failed …"""
    error_change: float = Field(default=0.1, gt=0.0)
    """… and the error on structures that were not learnt from has not fallen by more than this share …"""
    patience: PositiveInt = 2
    """… for so many rounds in a row."""


class LearningExecutionSettings(ExecutionSettings):
    """Where and how the jobs of a learning and its labels are done."""

    job_deadline_s: PositiveFloat = 86_400.0
    """Seconds that a training, a trial of settings or a run of exploration may take before its worker is killed and it
    has failed; `deadline_s` is for labels. A run is then left out, and a member keeps what it learnt in the round
    before. `in_process` knows no deadlines."""


class LearningConfig(Settings):
    """A potential that learns from an oracle, in rounds of exploration, labelling and training."""

    name: str = "learning"
    """A name for people to read."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""
    system: SystemSettings
    """Elements, lattices, cells and compositions that exploration starts from."""
    oracle: OracleSettings
    """What labels structures with energy, forces and stress: `single_point`, or `espresso`."""
    potential: ModelSettings
    """The potential that learns."""
    training: TrainingSettings = TrainingSettings()
    """How it learns."""
    constraints: tuple[ConstraintSettings, ...] = ()
    """Physical constraints, see the guide on potentials."""
    warm_up_epochs: int = Field(default=40, ge=0)
    """Passes over the labels before the constraints join, where there are any."""
    retuning: PotentialRetuningSettings | None = None
    """When and how settings of the potential and its training are searched, if they are: keys as in the fit of a study,
    such as `training.optimizer.learning_rate`."""
    committee: CommitteeSettings = CommitteeSettings()
    """The potentials whose disagreement chooses what is labelled."""
    initial: PerturbationSettings = PerturbationSettings()
    """The first structures."""
    data: DataSettings | None = None
    """Labels that are there already, made by the same oracle; added to those of the first structures. `test_files` or
    a `test_fraction` of them are never learnt from, as the test structures of `initial`; none are set aside for
    validation."""
    energy_reference: EnergyReference = "none"
    """Energies per atom that are taken from all labels before each training and added to predictions: `none`, energies
    in eV by element, or `least_squares` (fitted to the labels' compositions)."""
    exploration: ExplorationSettings = ExplorationSettings()
    """Molecular dynamics that finds new structures."""
    selection: DeviationSelectionSettings = DeviationSelectionSettings()
    """Which of them are labelled."""
    stopping: LearningStop = LearningStop()
    """When it ends before the budget is spent."""
    budget: LearningBudget = LearningBudget()
    """What may be spent."""
    execution: LearningExecutionSettings = LearningExecutionSettings()
    """Where and how members are trained, exploration runs and labels are made. Nothing here changes the results, but
    for what misses a deadline."""

    @model_validator(mode="after")
    def _is_affordable(self) -> LearningConfig:
        first = self.initial.n_structures + self.initial.n_test
        if first >= self.budget.n_labels:
            raise ValueError(
                f"budget.n_labels is {self.budget.n_labels}, but the first structures take {first} "
                "(initial.n_structures + initial.n_test); raise the budget or begin with fewer"
            )
        return self

    @model_validator(mode="after")
    def _has_a_teacher_that_runs(self) -> LearningConfig:
        if self.exploration.force_field == "teacher" and self.oracle.kind != "single_point":
            raise ValueError(
                f"exploration.force_field is teacher, but molecular dynamics runs only with an oracle of kind "
                f"single_point, not {self.oracle.kind}; let the student explore"
            )
        return self

    @model_validator(mode="after")
    def _has_one_reference(self) -> LearningConfig:
        if self.data is not None and self.data.energy_reference != "none":
            raise ValueError(
                "data.energy_reference would hold for a part of the labels; write energy_reference beside data, where "
                "it holds for the oracle's labels as well"
            )
        return self

    @model_validator(mode="after")
    def _can_be_retuned(self) -> LearningConfig:
        if self.retuning is not None:
            problems = list(_retuning_problems(self.retuning, _fit_of(self)))
            if problems:
                raise ValueError("; ".join(problems))
        return self

    @property
    def starts_warm(self) -> bool:
        """Whether members start from their weights of the round before."""
        if self.committee.warm_start is not None:
            return self.committee.warm_start
        return not isinstance(self.training.optimizer, LeastSquaresSettings)

    def results_hash(self) -> str:
        """Hash of what decides the results: all but the name, the budget, the end and the machine."""
        plain: dict[str, Any] = self.model_dump(
            mode="json", exclude={"name": True, "budget": True, "stopping": True, "execution": True}
        )
        return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


_FIT_SECTIONS = ("potential", "training", "constraints", "warm_up_epochs")
"""What a learning has in common with a fit."""


def with_parameters(config: LearningConfig, parameters: Mapping[str, Any]) -> LearningConfig:
    """The configuration with other settings of the potential and its training.

    Args:
        parameters: dotted key -> value, as in the fit of a study.

    Raises:
        ConfigError: these settings contradict each other.
    """
    if not parameters:
        return config
    fit = fit_config(_fit_of(config), parameters)
    return config.model_copy(update={section: getattr(fit, section) for section in _FIT_SECTIONS})


def _fit_of(config: LearningConfig) -> PotentialFitConfig:
    sections = {section: getattr(config, section) for section in _FIT_SECTIONS}
    return PotentialFitConfig(elements=config.system.elements, **sections)


def _retuning_problems(retuning: PotentialRetuningSettings, fit: PotentialFitConfig) -> Iterator[str]:
    for key, parameter in retuning.space.items():
        if key.split(".")[0] not in _FIT_SECTIONS:
            yield f"retuning.space.{key}: a learning searches {', '.join(_FIT_SECTIONS)}, such as training.{key}"
        elif key in ("potential", "potential.kind"):
            yield f"retuning.space.{key}: a learning keeps the kind of its potential; compare kinds in a study"
        elif message := next((text for value in parameter.ends() if (text := refusal(fit, key, value))), None):
            yield f"retuning.space.{key}: {message}"
    if (message := retuning.grid_problem()) is not None:
        yield f"retuning.sampler: {message}"
    metrics = [name for name in running_metrics(fit) if name.startswith("validation_") and "bias" not in name]
    if retuning.metric not in metrics:
        yield f"retuning.metric: there is no {retuning.metric}; there are {', '.join(metrics)}"


def load_learning_config(path: Path, overrides: Sequence[str] = ()) -> LearningConfig:
    """Read and check the configuration of a learning.

    Raises:
        ConfigError: what is wrong, in one message.
        SurrogateError: the potential or a constraint cannot be built for the elements; told before anything is spent.
    """
    source = read_yaml(path)
    for assignment in overrides:
        source.override(assignment)
    take_in_fit(source, path.parent, PotentialFitConfig, _FIT_SECTIONS)
    config: LearningConfig = validate_settings(source, LearningConfig, path.parent)
    config.oracle.check(config.system.elements)
    spec = oracle_spec(config.oracle)
    lacking = [name for name in NEEDED_PROPERTIES if name not in spec.properties]
    if lacking:
        raise ConfigError(
            f"{path}: oracle: a potential learns from energies, forces and stresses, and the oracle "
            f"{config.oracle.kind} gives no {', '.join(lacking)}; use kind: single_point or espresso"
        )
    model = config.potential.build(config.system.elements)
    for constraint in config.constraints:
        constraint.build(config.system.elements, model.cutoff_ang)
    return config
