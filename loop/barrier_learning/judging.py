"""The judging stage of a round: errors on validation hops, and how far the predicted spectrum has moved."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import wasserstein_distance

from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.hops import Hops
from ..barrier_fitting import hop_errors, hop_errors_by_species, species_of
from ..errors import RunDirectoryError
from ..rounds.files import put
from ..seeding import derive_seed
from .config import BarrierLearningConfig, BarrierStop
from .pool import HopPool
from .rounds import BarrierFolder, BarrierRound

_MAE_PER_STD = np.sqrt(2.0 / np.pi)
"""Mean absolute value of a normal distribution of unit width."""


def spectrum_hops(config: BarrierLearningConfig, pool: HopPool) -> Hops:
    """The hops whose predicted barriers are followed, of test compositions too."""
    order = np.random.default_rng(derive_seed(config.seed, 0, "spectrum")).permutation(len(pool.hops))
    return pool.hops.take(np.sort(order[: config.n_spectrum]))


def write_spectrum(folder: BarrierFolder, barriers_ev: np.ndarray) -> None:
    """Keep predicted barriers ``[n_hops]``, eV."""
    buffer = io.BytesIO()
    np.save(buffer, barriers_ev)
    put(folder.spectrum, buffer.getvalue())


def read_spectrum(folder: BarrierFolder) -> np.ndarray:
    """The inverse of :func:`write_spectrum`.

    Raises:
        RunDirectoryError: the file is damaged or missing.
    """
    try:
        found: np.ndarray = np.load(folder.spectrum)
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{folder.spectrum} is damaged ({error}); restore it, or remove its round's folder"
        ) from error
    return found


def spectrum_distances(species: np.ndarray, before_ev: np.ndarray, after_ev: np.ndarray) -> dict[str, float]:
    """First Wasserstein distance between two spectra of the same hops, by moving species, eV.

    Args:
        species: ``[n_hops]``, chemical symbols.
        before_ev, after_ev: ``[n_hops]``.
    """
    return {
        name: float(wasserstein_distance(before_ev[species == name], after_ev[species == name]))
        for name in np.unique(species).tolist()
    }


def figures_of(model: BarrierModel, validation: Hops) -> dict[str, Mapping[str, float]]:
    """A model's errors on validation hops, as a record has them."""
    predicted = model.predict(validation)
    found = hop_errors(predicted, validation)
    return {
        "errors": {
            "mae_ev": found.mae,
            "rmse_ev": found.rmse,
            "r2": found.r2,
            "within_1_std": found.coverage_68,
        },
        "species_mae_ev": {name: figures.mae for name, figures in hop_errors_by_species(predicted, validation).items()},
    }


def errors_on_new(model: BarrierModel, hops: Hops) -> dict[str, float]:
    """Errors on hops before they are learnt, and what the model expected; nothing where there are none."""
    if len(hops) == 0:
        return {}
    found = model.predict(hops)
    return {
        "mae_ev": float(np.abs(found.mean_ev - hops.barriers_ev).mean()),
        "expected_mae_ev": float(_MAE_PER_STD * found.std_ev.mean()),
    }


def spectrum_figures(
    hops: Hops, barriers_ev: np.ndarray, before_ev: np.ndarray | None
) -> dict[str, Mapping[str, float]]:
    """Of predicted barriers by moving species, as a record has it.

    Args:
        barriers_ev: ``[n_hops]``.
        before_ev: those of the round before, if there was one.
    """
    species = species_of(hops)
    names = np.unique(species).tolist()
    return {
        "means_ev": {name: float(barriers_ev[species == name].mean()) for name in names},
        "widths_ev": {name: float(barriers_ev[species == name].std()) for name in names},
        "distances_ev": {} if before_ev is None else spectrum_distances(species, before_ev, barriers_ev),
    }


def reason_to_settle(records: Sequence[BarrierRound], stopping: BarrierStop) -> str | None:
    """Why there is nothing more to learn; ``None`` if there is."""
    n = stopping.patience
    if len(records) <= n:
        return None
    latest = records[-n:]
    if stopping.error_change is not None:
        before = min(record.errors["mae_ev"] for record in records[:-n])
        best = min(record.errors["mae_ev"] for record in latest)
        if best > (1.0 - stopping.error_change) * before:
            return (
                f"for {n} rounds the validation error has not fallen by {stopping.error_change:.3g} of {before:.4f} eV"
            )
    if stopping.spectrum_change_ev is not None:
        moved = max(max(record.distances_ev.values()) for record in latest)
        if moved < stopping.spectrum_change_ev:
            return f"for {n} rounds the predicted spectra moved by less than {stopping.spectrum_change_ev:g} eV"
    return None
