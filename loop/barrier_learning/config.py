"""The configuration of a learning of migration barriers: one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ...agents.pool_selection import PoolSelectionSettings
from ...generators.solid_solutions import SolidSolutionSettings
from ...oracles.vacancy_migration import VacancyMigrationSettings
from ...structures.settings import Settings
from ...surrogates.barriers.settings import BarrierSettings
from ..config import ExecutionSettings, load_settings


class HopPoolSettings(Settings):
    """Where hops come from: one of `alloys`, `structures` and `hops`."""

    alloys: SolidSolutionSettings | None = None
    """Random alloys that are made; hops of their test compositions are never learnt from, and are for validation."""
    structures: Path | None = None
    """A file of perfect crystals. Those with `split=test` in their info are for validation, as with `alloys`."""
    hops: Path | None = None
    """A CSV table with the columns `structure`, `vacancy_site` and `neighbour`; barriers in it are not looked at."""
    n_hops: PositiveInt | None = 200
    """Hops of each alloy, at random among all of them; all hops into all sites with `null`. What a table lists is all
    taken."""

    @model_validator(mode="after")
    def _is_one(self) -> HopPoolSettings:
        given = [name for name in ("alloys", "structures", "hops") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"hops come from one of alloys, structures and hops, got {' and '.join(given) or 'none'}")
        return self


class FirstHopsSettings(Settings):
    """What is labelled before anything is learnt."""

    n_hops: PositiveInt = 100
    """Random hops to learn from."""
    n_validation: PositiveInt = 100
    """Random hops that are never learnt from: their errors decide when to stop, choose weights, and calibrate the
    spread. Of test compositions where the pool has any, else of all."""


class BarrierCommitteeSettings(Settings):
    """Models that learn together; the result is their mean."""

    n_members: int = Field(default=4, ge=1, le=32)
    """How many. A single one is enough for `diversity` and `random`."""
    share: float = Field(default=0.8, gt=0.1, le=1.0)
    """Share of the hops, drawn at random, that each learns from. Networks differ by their starts as well, so that 1
    will do for them; `ridge` and `trees` need less to differ."""


class BarrierBudget(Settings):
    """What the learning may spend, all sessions together."""

    n_labels: PositiveInt = 800
    """Hops whose barriers may be computed, those of the first round included; failed ones count."""
    wall_s: PositiveFloat | None = None
    """Wall time in seconds; no limit when left out."""


class BarrierStop(Settings):
    """When there is no more to learn. Whatever comes first counts; `null` switches a rule off."""

    max_rounds: PositiveInt = 30
    """Rounds of choosing at most."""
    error_change: float | None = Field(default=0.02, ge=0.0, lt=1.0)
    """It has settled when the mean absolute error on the validation hops has not fallen by more than this share of the
    best one before in `patience` rounds in a row …"""
    spectrum_change_ev: PositiveFloat | None = 0.002
    """… or when the predicted barriers of every moving species have changed by less than this in each of these rounds,
    eV: the first Wasserstein distance between their distributions, before and after a round."""
    patience: PositiveInt = 3
    """Rounds in a row."""


class BarrierExecutionSettings(ExecutionSettings):
    """Where and how models are trained and barriers computed."""

    job_deadline_s: PositiveFloat = 86_400.0
    """Seconds that the training of a member may take before its worker is killed and the learning ends; `deadline_s` is
    for barriers. `in_process` knows no deadlines."""


class BarrierLearningConfig(Settings):
    """Migration barriers of an alloy system from few calculations, in rounds of choosing, labelling and training."""

    name: str = "barriers"
    """A name for people to read."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""
    pool: HopPoolSettings
    """The hops to choose from."""
    oracle: VacancyMigrationSettings
    """What computes barriers."""
    barrier: BarrierSettings
    """The model that learns them."""
    committee: BarrierCommitteeSettings = BarrierCommitteeSettings()
    """How many of these learn together."""
    learns_returns: bool = True
    """Whether the barrier of the way back, which each calculation gives as well, is learnt too."""
    first: FirstHopsSettings = FirstHopsSettings()
    """The first round."""
    selection: PoolSelectionSettings = PoolSelectionSettings()
    """Which hops are labelled in the rounds after it."""
    feature_shells: int = Field(default=2, ge=1, le=8)
    """Neighbour shells about both ends of a hop that say how alike two hops are, for selections by diversity."""
    n_spectrum: PositiveInt = 2000
    """Hops of the pool, at random, whose predicted barriers are the spectrum that is followed."""
    stopping: BarrierStop = BarrierStop()
    """When it ends before the budget is spent."""
    budget: BarrierBudget = BarrierBudget()
    """What may be spent."""
    execution: BarrierExecutionSettings = BarrierExecutionSettings()
    """Where and how it is done. Nothing here changes the results, but for what misses a deadline."""

    @model_validator(mode="after")
    def _is_affordable(self) -> BarrierLearningConfig:
        n_first = self.first.n_hops + self.first.n_validation
        if n_first > self.budget.n_labels:
            raise ValueError(
                f"the first round takes {n_first} labels, more than budget.n_labels {self.budget.n_labels}"
            )
        return self

    @model_validator(mode="after")
    def _knows_what_it_does_not_know(self) -> BarrierLearningConfig:
        if self.selection.needs_spread and self.committee.n_members < 2:
            raise ValueError(
                f"selection.kind {self.selection.kind} needs a committee whose members can differ; raise "
                "committee.n_members above 1, or choose by diversity"
            )
        if self.selection.needs_spread and self.committee.share == 1.0 and self.barrier.kind in ("ridge", "trees"):
            raise ValueError(
                f"with committee.share 1 all members of kind {self.barrier.kind} are the same; lower it, to 0.8 perhaps"
            )
        return self

    def results_hash(self) -> str:
        """Hash of what decides the results: all but the name, the budget, the end and the machine."""
        plain: dict[str, Any] = self.model_dump(
            mode="json", exclude={"name": True, "budget": True, "stopping": True, "execution": True}
        )
        return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def load_barrier_learning_config(path: Path, overrides: Sequence[str] = ()) -> BarrierLearningConfig:
    """Read and check the configuration of a learning of barriers.

    Raises:
        ConfigError: what is wrong, in one message.
    """
    config: BarrierLearningConfig = load_settings(path, BarrierLearningConfig, overrides)
    return config
