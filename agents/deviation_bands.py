"""Which structures of an exploration are worth a label: by how far a committee of potentials disagrees on them.

Structures on which the committee agrees teach nothing; those on which it disagrees wildly are torn apart by a potential
that has lost its way, and teach little about the material. Between lie the candidates (Zhang et al., Phys. Rev. Mater.
3, 023804 (2019)). The bounds there are a user's guess at deviations. Here they are force errors: every new label tells
how much larger the true error is than the deviation, and the bounds move with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ..structures.settings import Settings

_MIN_SAMPLES = 5
_MAX_SCALE = 100.0


class DeviationSelectionSettings(Settings):
    """Which explored structures are labelled."""

    kind: Literal["deviation", "random"] = "deviation"
    """`deviation`: those on which the committee disagrees, spread over what they have to teach. `random`: any of those
    visited, at even odds; the yardstick that a selection has to beat. All that follows but `batch_size` then only sorts
    structures for the record."""
    diversity: Literal["farthest_points", "d_optimal"] = "farthest_points"
    """How a batch is spread over the candidates: each structure as far as can be from those known and chosen, in its
    atoms' environments (`farthest_points`); or each the one whose energy is determined the least by those known and
    chosen, from the gradients of the energy by the potential's parameters (`d_optimal`)."""
    target_force_error_ev_ang: PositiveFloat = 0.15
    """Structures whose largest expected force error lies below this teach too little to be labelled, eV/Å."""
    failed_force_error_ev_ang: PositiveFloat = 1.5
    """Structures whose largest expected force error lies above this are taken as broken by the potential, eV/Å."""
    is_calibrated: bool = True
    """Whether the committee's deviation is scaled to the errors that new labels show; without it the bounds are
    compared with the deviation itself, as DP-GEN does."""
    batch_size: PositiveInt = 20
    """Structures labelled in each round at most."""
    n_test: int = Field(default=0, ge=0)
    """As many more in each round, drawn at random from all those visited, which are labelled and never learnt from.
    Their errors are what a run of the potential meets, which is what calibration and the end should look at."""
    max_failed_share: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of a batch that may be filled with failed structures, the least deviating first, when there are too few
    candidates: early on they are all there is."""

    @model_validator(mode="after")
    def _is_ordered(self) -> DeviationSelectionSettings:
        if self.target_force_error_ev_ang >= self.failed_force_error_ev_ang:
            raise ValueError(
                f"target_force_error_ev_ang ({self.target_force_error_ev_ang:g}) must be below "
                f"failed_force_error_ev_ang ({self.failed_force_error_ev_ang:g}): candidates lie between them"
            )
        return self


@dataclass(frozen=True)
class Bands:
    """Bounds on the maximum force deviation.

    Attributes:
        accurate_below, failed_above: eV/Å, of the committee's deviation.
        scale: true error over deviation, as calibrated.
    """

    accurate_below: float
    failed_above: float
    scale: float

    def classify(self, deviations: np.ndarray) -> np.ndarray:
        """0 accurate, 1 candidate, 2 failed, int ``[n]``."""
        return np.digitize(deviations, [self.accurate_below, self.failed_above])


def calibrate(settings: DeviationSelectionSettings, deviations: np.ndarray, errors: np.ndarray) -> Bands:
    """Bounds in terms of deviation for the wanted bounds of the error.

    Args:
        deviations: ``[n]``, maximum force deviation of structures before they were learnt, eV/Å.
        errors: ``[n]``, largest norm of a force error of the committee's mean on each, eV/Å.
    """
    scale = 1.0
    usable = np.isfinite(deviations) & np.isfinite(errors) & (deviations > 0)
    if settings.is_calibrated and usable.sum() >= _MIN_SAMPLES:
        # the median ratio: a few structures with huge errors must not stop all learning about the others
        scale = float(np.clip(np.median(errors[usable] / deviations[usable]), 1.0 / _MAX_SCALE, _MAX_SCALE))
    return Bands(settings.target_force_error_ev_ang / scale, settings.failed_force_error_ev_ang / scale, scale)


def eligible(settings: DeviationSelectionSettings, bands: Bands, deviations: np.ndarray, n: int) -> Sequence[int]:
    """Rows to choose a batch of ``n`` from: all candidates, topped up with the mildest failed ones."""
    bands_of = bands.classify(deviations)
    candidates = np.flatnonzero(bands_of == 1)
    if len(candidates) >= n:
        return [int(i) for i in candidates]
    failed = np.flatnonzero(bands_of == 2)
    n_failed = min(n - len(candidates), int(np.ceil(settings.max_failed_share * n)))
    mildest = failed[np.argsort(deviations[failed], kind="stable")][:n_failed]
    return [int(i) for i in np.concatenate([candidates, mildest])]
