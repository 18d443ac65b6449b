"""The configuration of a pipeline: one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ...errors import ConfigError
from ...generators.pcdvae.generation import DrawingSettings
from ...generators.pcdvae.optimization import LatentOptimizationSettings
from ...generators.pcdvae.settings import PcdvaeSettings
from ...generators.pcdvae.training_settings import PcdvaeTrainingSettings
from ...generators.random_orderings import RandomOrderingsSettings
from ...generators.screening import ENERGY
from ...oracles.lammps_oracle import LammpsOracleSettings
from ...oracles.settings import OracleSettings
from ...oracles.single_point import SinglePointSettings
from ...structures.settings import Settings, SystemSettings
from ..config import ExecutionSettings, ObjectiveSettings, oracle_spec, validate_settings
from ..yaml_source import read_yaml

ModelName = Literal["random", "local_search"]
"""The data that a model is trained on: the random orderings alone, or with the results of the local searches."""


class PipelineDataSettings(Settings):
    """The random orderings, and how they are divided."""

    compositions: tuple[str, ...] = ()
    """Compositions, for example `[Ni0.5Fe0.3Cr0.2, NiFeCr]`, rounded to whole atoms."""
    grid_step: float | None = Field(default=None, gt=0.0, le=1.0)
    """All compositions on a grid of this spacing of atomic fractions besides; must divide 1, as 0.125 does."""
    n_orderings: PositiveInt = 20
    """Random orderings of each composition in each phase; fewer where there are not so many."""
    split_by: Literal["composition", "random"] = "composition"
    """`composition`: all orderings of a composition, in both phases, are either learnt from, or judge the training, or
    are optimized. `random`: each structure by itself, as published, so that all have the same compositions."""
    validation_fraction: float = Field(default=0.19, ge=0.0, lt=1.0)
    """Share that judges the training. 0: the training structures themselves, under other noise."""
    test_fraction: float = Field(default=0.18, gt=0.0, lt=1.0)
    """Share that optimization starts from, and the models never see."""

    @model_validator(mode="after")
    def _is_possible(self) -> PipelineDataSettings:
        if not self.compositions and self.grid_step is None:
            raise ValueError("name compositions, or a grid_step for all of them")
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise ValueError("validation_fraction and test_fraction leave nothing to learn from; lower them")
        return self

    def orderings(self) -> RandomOrderingsSettings:
        """The compositions as the generator of random orderings takes them."""
        return RandomOrderingsSettings(compositions=self.compositions, grid_step=self.grid_step)


class PipelineSearchSettings(Settings):
    """Local searches that start from random orderings; what each ends with is added to the part of its start."""

    share: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of the random orderings of each part (training, validation, test) that a search starts from."""
    n_steps: PositiveInt = 20
    """Steps of each search."""
    n_trials: PositiveInt = 20
    """Swaps of two unlike atoms tried in each step; the best structure, the step's starting one included, is kept."""


class OptimizationSettings(DrawingSettings):
    """A way of optimizing, and of drawing what comes of it."""

    optimization: LatentOptimizationSettings = LatentOptimizationSettings()
    """How latent vectors are moved. The direction is the objective's."""


class PipelineScreeningSettings(Settings):
    """Which drawn structures count as correct (see `alloysmith screen`), and what they are compared with."""

    max_relaxation_ev: float = Field(default=10.0, ge=0.0)
    """Energy that relaxation may take off a cell, eV."""
    shuffles: bool = True
    """Whether each structure that counts is labelled once more with its atoms in random order. The difference is what
    the order is worth; the rest is the composition."""


class PipelineExecutionSettings(ExecutionSettings):
    """Where and how labels are made, models trained and structures drawn."""

    job_deadline_s: PositiveFloat = 172_800.0
    """Seconds that a training, or the drawing of some structures, may take before its worker is killed; `deadline_s` is
    for labels. `in_process` knows no deadlines."""


class PipelineConfig(Settings):
    """Random alloys, improved ones, two crystal generators, and what these make of the alloys they have not seen."""

    name: str = "pipeline"
    """A name for people to read."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""
    system: SystemSettings
    """Elements, lattices, cell and bounds of compositions."""
    oracle: OracleSettings
    """What labels structures: a LAMMPS oracle that gives the objective and `energy_ev_per_atom`."""
    objective: ObjectiveSettings
    """What is optimized."""
    data: PipelineDataSettings
    """The random orderings."""
    local_search: PipelineSearchSettings = PipelineSearchSettings()
    """What is added to them."""
    pcdvae: PcdvaeSettings = PcdvaeSettings()
    """Sizes, noise and weights of the losses of the models."""
    training: PcdvaeTrainingSettings = PcdvaeTrainingSettings()
    """How they are trained."""
    models: tuple[ModelName, ...] = ("random", "local_search")
    """Which are trained: `random` on the random orderings alone, `local_search` on those and the improved ones."""
    optimizations: dict[str, OptimizationSettings] = Field(min_length=1)
    """How latent vectors of the test structures are optimized, under names of your choice."""
    screening: PipelineScreeningSettings = PipelineScreeningSettings()
    """Which drawn structures count, and what they are compared with."""
    execution: PipelineExecutionSettings = PipelineExecutionSettings()
    """Where and how all of it is done. Nothing here changes the results, but for what misses a deadline."""

    @field_validator("models")
    @classmethod
    def _are_different(cls, models: tuple[ModelName, ...]) -> tuple[ModelName, ...]:
        if not models or len(set(models)) < len(models):
            raise ValueError(f"name each model once, and at least one; got {', '.join(models) or 'none'}")
        return models

    @model_validator(mode="after")
    def _does_not_depend_on_time(self) -> PipelineConfig:
        if self.training.max_cpu_s is not None:
            raise ValueError("training.max_cpu_s would make results depend on the machine; lower max_epochs instead")
        return self

    def results_hash(self) -> str:
        """Hash of what decides the results: all but the name and the machine."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude={"name": True, "execution": True})
        return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def single_points(self) -> SinglePointSettings:
        """The oracle of energies without relaxation, with the same potential.

        Raises:
            ConfigError: the oracle has none.
        """
        if not isinstance(self.oracle, LammpsOracleSettings):
            raise ConfigError(
                f"oracle: drawn structures are screened by energies of a LAMMPS potential, and {self.oracle.kind} has "
                "none; use kind: bulk_modulus"
            )
        return SinglePointSettings(potential=self.oracle.potential)


def load_pipeline_config(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read and check the configuration of a pipeline.

    Raises:
        ConfigError: what is wrong, in one message.
        StructureError: a composition that the system does not allow.
    """
    source = read_yaml(path)
    for assignment in overrides:
        source.override(assignment)
    config: PipelineConfig = validate_settings(source, PipelineConfig, path.parent)
    config.single_points()
    config.oracle.check(config.system.elements)
    spec = oracle_spec(config.oracle)
    numbers = sorted(set(spec.properties) - spec.arrays)
    lacking = [name for name in (config.objective.property, ENERGY) if name not in numbers]
    if lacking:
        raise ConfigError(
            f"{path}: oracle: {config.oracle.kind} gives no {' and no '.join(lacking)}; it gives {', '.join(numbers)}"
        )
    config.data.orderings().build("random", config.system.space())
    return config
