"""The figures of a round: errors, calibration, and whether there is more to learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...surrogates.potentials.base import Potential
from ...surrogates.potentials.committee import Committee
from ...surrogates.potentials.frame import Frame
from .rounds import RoundRecord


def error_figures(potential: Potential, frames: Sequence[Frame]) -> dict[str, float]:
    """Errors on labelled frames: ``energy_mae_mev`` (per atom), ``force_mae_ev_ang`` and ``force_rmse_ev_ang`` (of
    components), ``force_max_ev_ang`` (largest norm); empty without frames."""
    if not frames:
        return {}
    found = potential.evaluate([frame.atoms for frame in frames])
    energy = [abs(e.energy_ev - f.energy_ev) / len(f.atoms) for e, f in zip(found, frames, strict=True)]
    differences = np.concatenate(
        [e.forces - f.forces for e, f in zip(found, frames, strict=True) if f.forces is not None]
    )
    return {
        "energy_mae_mev": float(np.mean(energy)) * 1000.0,
        "force_mae_ev_ang": float(np.abs(differences).mean()),
        "force_rmse_ev_ang": float(np.sqrt((differences**2).mean())),
        "force_max_ev_ang": float(np.linalg.norm(differences, axis=1).max()),
    }


def calibration_pairs(committee: Committee, frames: Sequence[Frame]) -> tuple[tuple[float, float], ...]:
    """For each frame: the committee's maximum force deviation, and the largest norm of its mean's force error."""
    if not frames:
        return ()
    means, apart = committee.evaluate_with_disagreement([frame.atoms for frame in frames])
    return tuple(
        (float(deviation), float(np.linalg.norm(mean.forces - frame.forces, axis=1).max()))
        for mean, deviation, frame in zip(means, apart.force_ev_ang, frames, strict=True)
        if frame.forces is not None
    )


def has_settled(records: Sequence[RoundRecord], candidate_share: float, error_change: float, patience: int) -> bool:
    """Whether for ``patience`` rounds little new was visited, and the error no longer fell.

    The error is that on the test structures, or, without any, on each round's labels before they were learnt.
    """
    rounds = [record for record in records if record.n_visited]
    if len(rounds) <= patience:
        return False
    for before, record in zip(rounds[-patience - 1 : -1], rounds[-patience:], strict=True):
        if record.shares["candidate"] + record.shares["failed"] >= candidate_share:
            return False
        old, new = (r.test_errors or r.new_errors for r in (before, record))
        if old and new and new["force_mae_ev_ang"] < (1.0 - error_change) * old["force_mae_ev_ang"]:
            return False
    return True
