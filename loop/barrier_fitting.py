"""A barrier model from tables of hops: data, split, fit, errors beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase.data import chemical_symbols
from pydantic import Field

from ..errors import ConfigError
from ..structures.settings import Settings
from ..surrogates.barriers.base import BarrierModel, BarrierPrediction, BarrierTrainer
from ..surrogates.barriers.boosted_trees import BoostedTreesSettings
from ..surrogates.barriers.data_settings import HopDataSettings, SplitBy
from ..surrogates.barriers.hop_file import HopTable, join, read_hops, with_returns
from ..surrogates.barriers.hops import Hops
from ..surrogates.barriers.repeated_hops import without_repeats
from ..surrogates.barriers.ridge import RidgeSettings
from ..surrogates.barriers.settings import BarrierSettings
from ..surrogates.base import Report
from .fitting import ErrorFigures, error_figures
from .seeding import derive_seed

Baseline = Literal["mean", "ridge", "trees"]


class BarrierFitConfig(Settings):
    """A model of vacancy migration barriers to fit to a table of hops."""

    barrier: BarrierSettings
    """The model."""
    elements: tuple[str, ...] = ()
    """Chemical symbols the model is to know; those in the data when left out."""
    data: HopDataSettings = HopDataSettings()
    """The table, and what of it is set aside."""
    baselines: tuple[Baseline, ...] = ("mean", "ridge", "trees")
    """What the model is compared with on the same hops: the `mean` of each moving species, `ridge` regression and
    boosted `trees` on counts of species on equivalent sites."""
    seed: int = Field(default=0, ge=0)
    """The split and the fit derive from it."""


@dataclass(frozen=True)
class BarrierFit:
    """A fitted model and what is known about it.

    Attributes:
        errors: part of the data (``training``, ``validation``, ``test``) -> figures.
        by_species: moving species -> figures on the test hops, or the validation hops where there are none.
        baselines: name -> figures on the same hops.
        judged_on: which part those are.
        dropped: table -> row -> what was wrong with it.
    """

    model: BarrierModel
    errors: Mapping[str, ErrorFigures]
    by_species: Mapping[str, ErrorFigures]
    baselines: Mapping[str, ErrorFigures]
    judged_on: str
    dropped: Mapping[str, Mapping[int, str]]


def fit_barriers(
    config: BarrierFitConfig,
    data_files: Sequence[Path] = (),
    *,
    checkpoint_path: Path | None = None,
    report: Report | None = None,
) -> BarrierFit:
    """Fit the model of ``config``.

    Args:
        data_files: learn from these tables instead of ``data.files``.
        checkpoint_path: where a long training keeps its state, to go on from after a kill.
        report: called with (step, metrics); ``False`` ends the training with what is best so far.

    Raises:
        ConfigError: no table is named, or one twice, or it has too few compositions for the split.
        SurrogateError: bad rows, all of them named; or too little data.
    """
    settings = config.data
    paths = list(data_files) or [settings.path(file) for file in settings.files]
    if not paths:
        raise ConfigError("the configuration names no table; add `data: {files: [FILE]}`, or give --data FILE")
    test_paths = [settings.path(file) for file in settings.test_files]
    if len({*test_paths, *paths}) < len(test_paths) + len(paths):
        raise ConfigError(f"a table is named twice among {', '.join(map(str, [*paths, *test_paths]))}; name each once")
    # a hop that tests is never learnt, so that the tables of the tests come first
    tables = without_repeats({str(path): read_hops(path, settings) for path in [*test_paths, *paths]}, settings)
    tests = [tables[str(path)].hops for path in test_paths]
    parts = _parts([tables[str(path)] for path in paths], tests, settings, seed=derive_seed(config.seed, 0, "split"))
    train, validation = parts["training"], parts["validation"]
    if settings.learn_returns:
        train, validation = with_returns(train), with_returns(validation)
    elements = config.elements or tuple(sorted({e for part in parts.values() for e in part.elements}))
    model = config.barrier.fit(
        train,
        validation,
        elements=elements,
        seed=derive_seed(config.seed, 0, "barriers"),
        report=report,
        checkpoint_path=checkpoint_path,
    )
    judged_on = "test" if "test" in parts else "validation"
    judged = parts[judged_on]
    predicted = {name: model.predict(part) for name, part in parts.items()}
    return BarrierFit(
        model,
        {name: hop_errors(found, parts[name]) for name, found in predicted.items()},
        hop_errors_by_species(predicted[judged_on], judged),
        _baseline_errors(config, train, validation, judged, elements),
        judged_on,
        {name: table.dropped for name, table in tables.items() if table.dropped},
    )


def _parts(
    tables: Sequence[HopTable], tests: Sequence[Hops], settings: HopDataSettings, *, seed: int
) -> dict[str, Hops]:
    """Hops to learn from, to validate with and to test on."""
    hops = join([table.hops for table in tables])
    fractions = {"test": settings.test_fraction, "validation": settings.validation_fraction}
    if settings.split_by == "column":
        named = np.concatenate([table.parts for table in tables])
        parts = split_by_name(hops, named, settings.validation_fraction, seed=seed)
        tests = [*tests, *([parts["test"]] if "test" in parts else [])]
    else:
        parts = split_hops(hops, settings.split_by, fractions | ({"test": 0.0} if tests else {}), seed=seed)
    return {**parts, "test": join(tests)} if tests else parts


def split_by_name(hops: Hops, named: np.ndarray, validation_fraction: float, *, seed: int) -> dict[str, Hops]:
    """The parts that a table names; where it names no validation, that is a share of the compositions to learn from.

    Args:
        named: ``[n_hops]``, each ``training``, ``validation`` or ``test``.

    Raises:
        ConfigError: another name, none, or nothing to learn from.
    """
    allowed = ("training", "validation", "test")
    wrong = sorted(set(named.tolist()) - set(allowed))
    if wrong:
        raise ConfigError(
            f"the column `split` holds {', '.join(repr(name) for name in wrong)}; it must say train, validation or "
            "test for each hop, or use another `split_by`"
        )
    parts = {name: hops.take(named == name) for name in allowed if (named == name).any()}
    if "training" not in parts:
        raise ConfigError("the column `split` names no hops to learn from (train); use another `split_by`")
    if "validation" not in parts:
        parts |= split_hops(parts["training"], "composition", {"validation": validation_fraction}, seed=seed)
    return parts


def split_hops(hops: Hops, by: SplitBy, fractions: Mapping[str, float], *, seed: int) -> dict[str, Hops]:
    """Set shares of the hops aside, whole compositions (structures, vacancies) at a time.

    Args:
        fractions: name of a part -> share of the units; the rest is ``training``.

    Returns:
        The parts that have hops.

    Raises:
        ConfigError: a part, or the training, would stay empty.
    """
    keys: dict[SplitBy, Callable[[], np.ndarray]] = {
        "composition": lambda: np.unique(hops.groups, return_inverse=True)[1],
        "structure": lambda: hops.crystal,
        "vacancy": lambda: np.unique(np.stack([hops.crystal, hops.vacancy]), axis=1, return_inverse=True)[1],
        "hop": lambda: np.arange(len(hops)),
    }
    unit = np.unique(keys[by](), return_inverse=True)[1].ravel()
    n_units = int(unit.max()) + 1
    order = np.random.default_rng(seed).permutation(n_units)
    parts: dict[str, Hops] = {}
    start = 0
    for name, fraction in fractions.items():
        n_wanted = max(1, round(fraction * n_units)) if fraction > 0.0 else 0
        chosen = order[start : start + n_wanted]
        start += n_wanted
        if n_wanted:
            parts[name] = hops.take(np.isin(unit, chosen))
    if start >= n_units:
        raise ConfigError(
            f"the data has {n_units} units to split by {by}, too few to set {' and '.join(fractions)} aside; split by "
            "`structure`, `vacancy` or `hop`, or give `test_files`"
        )
    return {"training": hops.take(np.isin(unit, order[start:])), **parts}


def hop_errors(found: BarrierPrediction, hops: Hops) -> ErrorFigures:
    """Errors of what was predicted for hops, at least one of which has a known barrier."""
    return error_figures(found.mean_ev, found.std_ev, hops.barriers_ev)


def hop_errors_by_species(found: BarrierPrediction, hops: Hops) -> dict[str, ErrorFigures]:
    """The same for the hops of each moving species."""
    names = species_of(hops)
    figures = {}
    for name in sorted(set(names.tolist())):
        of_it = (names == name) & np.isfinite(hops.barriers_ev)
        if of_it.any():
            figures[name] = error_figures(found.mean_ev[of_it], found.std_ev[of_it], hops.barriers_ev[of_it])
    return figures


def species_of(hops: Hops) -> np.ndarray:
    """Chemical symbol of the atom that moves, ``[n_hops]``."""
    return np.array(chemical_symbols)[hops.moving_numbers]


def _baseline_errors(
    config: BarrierFitConfig, train: Hops, validation: Hops, judged: Hops, elements: tuple[str, ...]
) -> dict[str, ErrorFigures]:
    figures: dict[str, ErrorFigures] = {}
    trainers: dict[str, BarrierTrainer] = {"ridge": RidgeSettings(), "trees": BoostedTreesSettings()}
    for name in config.baselines:
        if name == "mean":
            means, of_train = _species_means(train)
            mean = np.array([means.get(species, of_train) for species in species_of(judged)])
            std = np.full(len(judged), float(train.barriers_ev.std()))
            figures["mean of the moving species"] = error_figures(mean, std, judged.barriers_ev)
            overall = np.full(len(judged), of_train)
            figures["mean"] = error_figures(overall, std, judged.barriers_ev)
        elif config.barrier != trainers[name]:
            fitted = trainers[name].fit(train, validation, elements=elements, seed=config.seed)
            figures[f"{name} on counts"] = hop_errors(fitted.predict(judged), judged)
    return figures


def _species_means(train: Hops) -> tuple[dict[str, float], float]:
    names = species_of(train)
    by_species = {name: float(train.barriers_ev[names == name].mean()) for name in set(names.tolist())}
    return by_species, float(train.barriers_ev.mean())
