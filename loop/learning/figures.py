"""The figures of a round: errors, calibration, and whether there is more to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...surrogates.potentials.committee import Committee, mean_and_disagreement
from ...surrogates.potentials.frame import Frame
from .rounds import RoundRecord


@dataclass(frozen=True)
class Judgement:
    """A committee before labels that it has not learnt.

    Attributes:
        errors: of its first member: ``energy_mae_mev`` (per atom), ``force_mae_ev_ang`` and ``force_rmse_ev_ang`` (of
            components), ``force_max_ev_ang`` (largest norm); empty without frames.
        calibration: for each frame the committee's maximum force deviation, and the largest norm of its mean's force
            error, eV/Å.
    """

    errors: Mapping[str, float]
    calibration: tuple[tuple[float, float], ...]


def judge(committee: Committee, frames: Sequence[Frame]) -> Judgement:
    """Evaluate the members on labelled frames, once."""
    known = [(frame, frame.forces) for frame in frames if frame.forces is not None]
    if not known:
        return Judgement({}, ())
    structures = [frame.atoms for frame, _ in known]
    answers = [member.evaluate(structures) for member in committee.members]
    means, apart = mean_and_disagreement(answers)
    energies = [
        abs(e.energy_ev - frame.energy_ev) / len(frame.atoms) for e, (frame, _) in zip(answers[0], known, strict=True)
    ]
    differences = np.concatenate([e.forces - forces for e, (_, forces) in zip(answers[0], known, strict=True)])
    errors = {
        "energy_mae_mev": float(np.mean(energies)) * 1000.0,
        "force_mae_ev_ang": float(np.abs(differences).mean()),
        "force_rmse_ev_ang": float(np.sqrt((differences**2).mean())),
        "force_max_ev_ang": float(np.linalg.norm(differences, axis=1).max()),
    }
    calibration = tuple(
        (float(deviation), float(np.linalg.norm(mean.forces - forces, axis=1).max()))
        for mean, deviation, (_, forces) in zip(means, apart.force_ev_ang, known, strict=True)
    )
    return Judgement(errors, calibration)


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
