"""Surrogates from structure files: which rows to learn, a split that measures, the errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import Field

from ..errors import ConfigError, StructureError
from ..structures.base import PHASES
from ..structures.phase import classify_phase
from ..structures.settings import Settings
from ..surrogates.base import Prediction, Report, Surrogate, SurrogateTrainer, TrainingSet
from ..surrogates.metrics import calibration
from ..surrogates.settings import SurrogateSettings
from .rows import FAILURE_KEYS
from .seeding import derive_seed
from .texts import unit_of


class FitConfig(Settings):
    """A surrogate to fit to labelled structures of a file."""

    surrogate: SurrogateSettings
    """The surrogate."""
    properties: tuple[str, ...] = Field(default=("bulk_modulus_gpa",), min_length=1)
    """Scalar properties to learn, by their names in the rows' `info`, which end in a unit: `bulk_modulus_gpa`."""
    elements: tuple[str, ...] = ()
    """Chemical symbols the surrogate is to know; those in the data when left out."""
    files: tuple[Path, ...] = ()
    """Files of labelled structures; `--data` names them on the command line instead."""
    test_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the rows that is held out to measure errors on; the surrogate never sees them."""
    validation_folds: int = Field(default=0, ge=0)
    """Parts of the rows that are learnt from, each of which is predicted by a fit to the others; the errors are what a
    study goes by. 0: none."""
    seed: int = Field(default=0, ge=0)
    """The split and the fit derive from it."""


@dataclass(frozen=True)
class ErrorFigures:
    """Errors of predictions for one property, in its unit.

    Attributes:
        n: structures with a known value.
        rmse_of_mean: root mean square error of always answering with the mean of these values; what to beat.
        coverage_68: share of values within one predicted standard deviation.
        nll: mean negative log likelihood of the values, nats.
    """

    n: int
    mae: float
    rmse: float
    r2: float
    rmse_of_mean: float
    coverage_68: float
    nll: float


@dataclass(frozen=True)
class FitResult:
    """A fitted surrogate and what is known about it.

    Attributes:
        errors: set of rows (``training``, ``validation``, ``held out``) -> property -> figures.
        n_left_out: rows without all of the properties, or marked as failed.
        unusable: number of each row that has the properties but that no surrogate can take, from 0, and why.
    """

    surrogate: Surrogate
    errors: dict[str, dict[str, ErrorFigures]]
    n_left_out: int
    unusable: dict[int, str]


def fit_surrogate(config: FitConfig, structures: Sequence[Atoms], report: Report | None = None) -> FitResult:
    """Fit the surrogate of ``config`` to the rows that have its properties and are crystals it can take.

    Args:
        report: called with (number of the fold, from 1; errors on it, ``validation_<property>_<error>``) after each
            of the validation folds; ``False`` leaves the others out.

    Raises:
        ConfigError: no row has them.
        StructureError: those that have them cannot be used.
        SurrogateError: too little data.
    """
    known = [i for i, atoms in enumerate(structures) if known_value(atoms, config.properties) is not None]
    if not known:
        raise ConfigError(_no_values_message(config.properties, structures))
    usable, unusable = usable_rows([structures[i] for i in known], config.elements or None, PHASES)
    unusable = {known[k]: reason for k, reason in unusable.items()}
    rows = list(usable.values())
    if not rows:
        raise StructureError(f"none of the {len(known)} labelled rows can be used; {describe_unusable(unusable)}")
    targets = np.array([known_value(atoms, config.properties) for atoms in rows], dtype=float)
    elements = config.elements or tuple(sorted({s for atoms in rows for s in atoms.symbols.species()}))
    order = np.random.default_rng(derive_seed(config.seed, 0, "split")).permutation(len(rows))
    n_test = min(round(config.test_fraction * len(rows)), len(rows) - 1)
    learnt = {rows[i].info["phase"] for i in order[n_test:]}
    is_test = np.zeros(len(rows), dtype=bool)  # a phase that is not learnt cannot be tested, so it is learnt
    is_test[[i for i in order[:n_test] if rows[i].info["phase"] in learnt]] = True
    parts = {"training": np.flatnonzero(~is_test), "held out": np.flatnonzero(is_test)}
    units = {name: unit_of(name) for name in config.properties}
    train = parts["training"]
    data = TrainingSet([rows[i] for i in train], targets[train], units)
    trainer = config.surrogate.build(elements)
    validation: dict[str, ErrorFigures] = {}
    if config.validation_folds > 1:
        validation = cross_validated(trainer, data, config.validation_folds, seed=config.seed, report=report)
    surrogate = trainer.fit(data, seed=derive_seed(config.seed, 0, "surrogate"))
    errors = {
        part: prediction_errors(surrogate, [rows[i] for i in members], targets[members])
        for part, members in parts.items()
        if len(members) > 0
    }
    if validation:
        errors["validation"] = validation
    return FitResult(surrogate, errors, len(structures) - len(known), unusable)


def cross_validated(
    trainer: SurrogateTrainer, data: TrainingSet, n_folds: int, *, seed: int, report: Report | None = None
) -> dict[str, ErrorFigures]:
    """Errors of each row's prediction by a surrogate that learns from the other folds.

    Rows of a phase that those do not have are left out.

    Args:
        data: structures that state their phase.
        report: called after each fold; ``False`` leaves the others out.

    Raises:
        ConfigError: fewer rows than folds.
    """
    n_rows = len(data.structures)
    if n_rows < n_folds:
        raise ConfigError(f"validation_folds is {n_folds}, but there are {n_rows} rows to learn from; take fewer folds")
    order = np.random.default_rng(derive_seed(seed, 0, "folds")).permutation(n_rows)
    mean, std = np.full(data.targets.shape, np.nan), np.full(data.targets.shape, np.nan)
    for fold, members in enumerate(np.array_split(order, n_folds)):
        others = np.setdiff1d(order, members)
        learnt = TrainingSet([data.structures[i] for i in others], data.targets[others], data.properties)
        surrogate = trainer.fit(learnt, seed=derive_seed(seed, 0, "surrogate", 1 + fold))
        phases = {data.structures[i].info["phase"] for i in others}
        known = np.array([i for i in members if data.structures[i].info["phase"] in phases], dtype=int)
        if len(known) == 0:
            continue
        found = surrogate.predict([data.structures[i] for i in known])
        mean[known], std[known] = found.mean, found.std
        figures = validation_metrics(_figures(data, Prediction(mean, std), known))
        if report is not None and not report(fold + 1, figures):
            break
    return _figures(data, Prediction(mean, std), np.flatnonzero(np.isfinite(mean[:, 0])))


def _figures(data: TrainingSet, found: Prediction, rows: np.ndarray) -> dict[str, ErrorFigures]:
    return {
        name: error_figures(found.mean[rows, k], found.std[rows, k], data.targets[rows, k])
        for k, name in enumerate(data.properties)
    }


def validation_metrics(errors: Mapping[str, ErrorFigures], part: str = "validation") -> dict[str, float]:
    """Errors as plain figures: ``<part>_<property>_<mae, rmse, nll>``."""
    return {
        f"{part}_{name}_{error}": float(getattr(figures, error))
        for name, figures in errors.items()
        for error in ("mae", "rmse", "nll")
    }


def usable_rows(
    structures: Sequence[Atoms], elements: Collection[str] | None, phases: Collection[str]
) -> tuple[dict[int, Atoms], dict[int, str]]:
    """Tell the structures a surrogate can take from the others.

    Args:
        elements: those it knows; ``None`` for any.
        phases: those it knows.

    Returns:
        By their numbers from 0: the former, which state their phase; and why each of the others is none.
    """
    usable: dict[int, Atoms] = {}
    unusable: dict[int, str] = {}
    for index, atoms in enumerate(structures):
        try:
            usable[index] = _checked(atoms, elements, phases)
        except StructureError as error:
            unusable[index] = str(error)
    return usable, unusable


def describe_unusable(unusable: Mapping[int, str]) -> str:
    """The first of the rows that cannot be used, counted from 1, and the reason."""
    index, reason = next(iter(unusable.items()))
    return f"the first, row {index + 1}: {reason}"


def _checked(atoms: Atoms, elements: Collection[str] | None, phases: Collection[str]) -> Atoms:
    others = [] if elements is None else sorted(set(atoms.symbols.species()) - set(elements))
    if elements is not None and others:
        raise StructureError(f"it holds {', '.join(others)}; the surrogate knows {', '.join(sorted(elements))}")
    volume = abs(atoms.cell.volume) / max(1, len(atoms))
    if not (volume > 1e-6 and np.isfinite(volume) and np.isfinite(atoms.positions).all() and atoms.pbc.all()):
        raise StructureError(f"it is no periodic crystal: volume {volume:g} Å^3 per atom, pbc {atoms.pbc.tolist()}")
    stated = with_phase(atoms)
    if stated.info["phase"] not in phases:
        raise StructureError(f"its phase is {stated.info['phase']}; the surrogate knows {', '.join(phases)}")
    return stated


def prediction_errors(
    surrogate: Surrogate, structures: Sequence[Atoms], targets: np.ndarray
) -> dict[str, ErrorFigures]:
    """Errors by property.

    Args:
        targets: ``[n_structures, n_properties]``, columns as in the surrogate's specification; NaN where unknown.
    """
    prediction = surrogate.predict(structures)
    return {
        name: error_figures(prediction.mean[:, k], prediction.std[:, k], targets[:, k])
        for k, name in enumerate(surrogate.spec.properties)
        if np.isfinite(targets[:, k]).any()
    }


def error_figures(mean: np.ndarray, std: np.ndarray, target: np.ndarray) -> ErrorFigures:
    """Figures over the entries of ``[n]`` whose target is finite; there is at least one."""
    is_known = np.isfinite(target)
    mean, std, target = mean[is_known], std[is_known], target[is_known]
    residual = mean - target
    variance = float(np.mean((target - target.mean()) ** 2))
    squared = float(np.mean(residual**2))
    return ErrorFigures(
        n=len(target),
        mae=float(np.abs(residual).mean()),
        rmse=squared**0.5,
        r2=1.0 - squared / variance if variance > 0.0 else 0.0,
        rmse_of_mean=variance**0.5,
        coverage_68=float(np.mean(np.abs(residual) <= std)),
        nll=calibration(mean, std, target)["nll"],
    )


def known_value(atoms: Atoms, properties: Sequence[str]) -> list[float] | None:
    """The values of all ``properties``; ``None`` where one is missing or not finite, or the row is marked as failed."""
    if FAILURE_KEYS[0] in atoms.info:
        return None
    values = [atoms.info.get(name) for name in properties]
    if any(not isinstance(v, int | float | np.number) or not np.isfinite(v) for v in values):
        return None
    return [float(v) for v in values if v is not None]


def with_phase(atoms: Atoms) -> Atoms:
    """A copy that states its phase: as it did, or else by the neighbours of most of its atoms."""
    if atoms.info.get("phase") in PHASES:
        return atoms
    stated = atoms.copy()
    stated.info["phase"] = classify_phase(atoms).majority
    return stated


def _no_values_message(properties: Sequence[str], structures: Sequence[Atoms]) -> str:
    scalars = sorted({k for a in structures[:100] for k, v in a.info.items() if isinstance(v, int | float | np.number)})
    return (
        f"no structure has a value of {', '.join(properties)} in its info; it holds the numbers "
        f"{', '.join(scalars) or 'none'}. Name one with --property, or in `properties`"
    )
