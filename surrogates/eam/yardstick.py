"""Errors of a potential against labelled frames the way Chen et al. (2021) give them, so that numbers compare.

Potentials that were fitted to experiments have another zero of energy than DFT. Eq. 35 takes the difference at
equilibrium from every error; forces need no such shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base import SurrogateError
from ..potentials.base import Potential
from ..potentials.frame import Frame


@dataclass(frozen=True)
class RelativeErrors:
    """Mean absolute errors over frames.

    Attributes:
        energy_ev_per_atom: rMAE of Eq. 35.
        force_ev_ang: mean absolute error of force components over all atoms of frames that have forces.
        n_frames: number of frames.
    """

    energy_ev_per_atom: float
    force_ev_ang: float
    n_frames: int


def relative_errors(
    potential: Potential, frames: Sequence[Frame], *, equilibrium_ev: float, reference_equilibrium_ev: float
) -> RelativeErrors:
    """Errors with the zero of energy at equilibrium, Eq. 35.

    Args:
        equilibrium_ev: energy per atom of the potential's equilibrium crystal, eV.
        reference_equilibrium_ev: the same of the labels.

    Raises:
        SurrogateError: there are no frames, none has forces, or the potential cannot evaluate one.
    """
    if not any(frame.forces is not None for frame in frames):
        raise SurrogateError(f"errors need frames with forces; got {len(frames)} frames and none with forces")
    found = potential.evaluate([frame.atoms for frame in frames])
    shift = equilibrium_ev - reference_equilibrium_ev
    energies = [
        (evaluation.energy_ev - frame.energy_ev) / len(frame.atoms) - shift
        for evaluation, frame in zip(found, frames, strict=True)
    ]
    forces = [
        (evaluation.forces - frame.forces).ravel()
        for evaluation, frame in zip(found, frames, strict=True)
        if frame.forces is not None
    ]
    return RelativeErrors(float(np.mean(np.abs(energies))), float(np.mean(np.abs(np.concatenate(forces)))), len(frames))
