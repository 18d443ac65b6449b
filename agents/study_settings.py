"""What a hyperparameter study searches, what it wants, and how it chooses: the settings that need no library."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..structures.settings import Settings

# within ParameterRange these names are those of its keys
_Integer = int
_Real = float


class ParameterRange(Settings):
    """The values that a setting may have: exactly one of `int`, `float` and `categorical`."""

    int: tuple[_Integer, _Integer] | None = None
    """Smallest and largest integer: `{int: [8, 40]}`."""
    float: tuple[_Real, _Real] | None = None
    """Smallest and largest number: `{float: [0.5, 20], log: true}`."""
    categorical: tuple[Any, ...] | None = None
    """A list of values of any kind: `{categorical: [true, false]}`."""
    log: bool = False
    """Search on a logarithmic scale; for `int` and `float`."""
    step: Annotated[_Real, Field(gt=0.0)] | None = None
    """Distance of neighbouring values, from the smallest one on; for `int` and `float`."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> ParameterRange:
        given = [name for name in ("int", "float", "categorical") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise ValueError(f"give exactly one of int: [low, high], float: [low, high], categorical: [...]; got {got}")
        if self.categorical is not None:
            return self._checked_choices(self.categorical)
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"the bounds must be finite numbers, got [{low:g}, {high:g}]")
        if low >= high:
            raise ValueError(f"the range is empty: the first bound must be below the second, got [{low:g}, {high:g}]")
        if self.log and low <= 0.0:
            raise ValueError(f"log: true needs a smallest value above 0, got {low:g}")
        if self.log and self.step is not None:
            raise ValueError("log: true and step exclude each other; leave one out")
        if self.int is not None and self.step is not None and self.step != round(self.step):
            raise ValueError(f"the step of integers must be an integer, got {self.step:g}")
        return self

    def _checked_choices(self, values: tuple[Any, ...]) -> ParameterRange:
        if len(values) < 2:
            raise ValueError(f"a choice needs two values or more, got {list(values)}")
        if any(repr(a) == repr(b) for i, a in enumerate(values) for b in values[:i]):
            raise ValueError(f"a value is given twice in {list(values)}")
        if self.log or self.step is not None:
            raise ValueError("log and step are for int and float, not for categorical")
        return self

    @property
    def bounds(self) -> tuple[_Real, _Real]:
        """Smallest and largest value of an ``int`` or ``float``."""
        found = self.int if self.int is not None else self.float
        if found is None:
            raise ValueError("a choice has no bounds")
        return found

    def ends(self) -> tuple[Any, ...]:
        """Values that show whether the setting takes what this range may give: both bounds, or all choices."""
        return self.categorical if self.categorical is not None else tuple(self.int or self.float or ())

    def grid(self) -> tuple[Any, ...] | None:
        """All values, in order; ``None`` where there is no end of them."""
        if self.categorical is not None:
            return self.categorical
        low, high = self.bounds
        if self.int is None and self.step is None:
            return None
        step = self.step or 1.0
        n = math.floor((high - low) / step + 1e-9) + 1
        values = [low + k * step for k in range(n)]
        return tuple(round(value) for value in values) if self.int is not None else tuple(values)


class StudyObjective(Settings):
    """A figure that is optimized."""

    metric: str
    """Its name, such as `validation_force_mae`, `cpu_s` or `n_parameters`."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether small or large values are good."""


class TpeSettings(Settings):
    """Tree-structured Parzen estimator: a good start for everything."""

    kind: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(default=10, ge=1)
    """Random trials before it begins to learn."""
    multivariate: bool = True
    """Look at the parameters together, rather than one by one."""


class GpSettings(Settings):
    """Bayesian optimization with a Gaussian process: for few, costly trials."""

    kind: Literal["gp"]
    n_startup_trials: int = Field(default=10, ge=1)
    """Random trials before it begins to learn."""


class Nsga2Settings(Settings):
    """The genetic algorithm NSGA-II: for several objectives and many trials."""

    kind: Literal["nsga2"]
    population_size: int = Field(default=20, ge=2)
    """Trials of a generation."""


class CmaEsSettings(Settings):
    """CMA-ES: for one objective over numbers; choices and the like are drawn at random."""

    kind: Literal["cmaes"]
    n_startup_trials: int = Field(default=1, ge=1)
    """Random trials before it begins."""
    population_size: int | None = Field(default=None, ge=2)
    """Trials of a generation; a number that grows with that of the parameters when left out."""


class GridSettings(Settings):
    """All combinations, in order; every `float` then needs a `step`."""

    kind: Literal["grid"]


class RandomSettings(Settings):
    """Independent random trials: what the others have to beat."""

    kind: Literal["random"]


SamplerSettings = Annotated[
    TpeSettings | GpSettings | Nsga2Settings | CmaEsSettings | GridSettings | RandomSettings,
    Field(discriminator="kind"),
]
"""How parameters are chosen, by ``kind``."""


class NoPrunerSettings(Settings):
    """Every trial is brought to its end."""

    kind: Literal["none"] = "none"


class MedianPrunerSettings(Settings):
    """A trial ends when its best validation so far is worse than the median of the others at that validation."""

    kind: Literal["median"]
    n_startup_trials: int = Field(default=5, ge=0)
    """Trials that must have ended before any is pruned."""
    n_warmup_steps: int = Field(default=0, ge=0)
    """Validations that each trial may make in any case."""


class HyperbandPrunerSettings(Settings):
    """Successive halving in several brackets (Li et al., 2018)."""

    kind: Literal["hyperband"]
    min_resource: int = Field(default=3, ge=1)
    """Validations that each trial may make in any case."""
    max_resource: int | None = Field(default=None, ge=2)
    """Validations of the longest trial; that of the first trial that ends, when left out."""
    reduction_factor: int = Field(default=3, ge=2)
    """Of so many trials one goes on."""


class WilcoxonPrunerSettings(Settings):
    """A trial ends when its validations are significantly worse than those of the best trial so far."""

    kind: Literal["wilcoxon"]
    p_threshold: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Level of significance."""
    n_startup_steps: int = Field(default=4, ge=0)
    """Validations that each trial may make in any case."""


PrunerSettings = Annotated[
    NoPrunerSettings | MedianPrunerSettings | HyperbandPrunerSettings | WilcoxonPrunerSettings,
    Field(discriminator="kind"),
]
"""Which running trials are ended early, by ``kind``."""


class StageSettings(Settings):
    """A small study as a stage of something longer, on its labels, repeated as they grow."""

    space: dict[str, ParameterRange] = Field(min_length=1)
    """Which settings are searched: dotted key -> range, as in a study. In a campaign `{surrogate.n_shells: {int: [0,
    5]}}`, and `{surrogate: {categorical: [{kind: polynomial}, {kind: gaussian_process}]}}` chooses between whole
    surrogates; in a learning `{training.loss.force: {float: [0.1, 10], log: true}}`."""
    n_trials: int = Field(default=8, ge=1)
    """Settings that are tried each time, beside those that are in use."""
    least_labels: int = Field(default=40, ge=4)
    """Labels before the first search."""
    growth: float = Field(default=2.0, gt=1.0)
    """Search again when there are so many times the labels of the last search."""
    sampler: SamplerSettings = TpeSettings()
    """How settings are chosen."""

    def is_due(self, n_labels: int, n_searched: int) -> bool:
        """Whether to search again with ``n_labels``, where the last search had ``n_searched``; 0 before the first."""
        return n_labels >= max(self.least_labels, self.growth * n_searched)

    def grid_problem(self) -> str | None:
        """What keeps a grid from being searched; ``None`` where nothing does, or no grid is asked for."""
        grid = [parameter.grid() for parameter in self.space.values()]
        if not isinstance(self.sampler, GridSettings):
            return None
        if None not in grid and self.n_trials <= math.prod(len(values or ()) for values in grid):
            return None
        return f"a grid needs a `step` for every float, and at least n_trials = {self.n_trials} points"


class RetuningSettings(StageSettings):
    """A small study of the surrogate's settings within a campaign, on the campaign's labels, repeated as they grow."""

    validation_folds: int = Field(default=5, ge=2)
    """Settings are judged by predictions of each of so many parts of the labels from the others."""
    error: Literal["rmse", "mae", "nll"] = "nll"
    """What is judged: `nll` (negative log likelihood) minds the stated spread too, which the choice of candidates
    relies on."""


class PotentialRetuningSettings(StageSettings):
    """A small study of a potential's settings within a learning, on the learning's labels, repeated as they grow."""

    validation_share: float = Field(default=0.2, gt=0.0, le=0.5)
    """Settings are judged by this share of the labels, drawn at random, which trials do not learn from."""
    metric: str = "validation_force_rmse"
    """The error on them that is made small, by its name in studies."""
    sampler: SamplerSettings = TpeSettings(n_startup_trials=4)
    """How settings are chosen."""
    batch_size: int = Field(default=4, ge=1)
    """Trials that are chosen together, and can run at once; what they give tells how to choose the next ones."""
