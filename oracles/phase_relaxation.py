"""The first half of every label of a relaxed crystal: relax from the best guess, and check that the phase is kept."""

from __future__ import annotations

from ase import Atoms

from .base import Request
from .crystal_relaxation import CellFreedom, RelaxationLimits, RelaxedCrystal, relax_crystal
from .force_engine import ForceEngine
from .lammps_oracle import check_phase
from .warm_start import FirstGuess, first_guess


def relax_in_phase(
    engine: ForceEngine,
    request: Request,
    *,
    cell_freedom: CellFreedom,
    limits: RelaxationLimits,
    min_phase_fraction: float,
) -> tuple[FirstGuess, RelaxedCrystal, Atoms]:
    """Relax the requested structure.

    Args:
        min_phase_fraction: share of the relaxed atoms that have to be in the requested phase.

    Returns:
        What it started from, the relaxed crystal, and that as a structure.

    Raises:
        OracleError: ``not_converged``, ``left_phase``, or what the engine raises.
    """
    guess = first_guess(request, is_volume_kept=cell_freedom == "fixed")
    crystal = relax_crystal(
        engine,
        request.atoms,
        start=(guess.positions, guess.cell),
        cell_freedom=cell_freedom,
        bulk_modulus_ev_ang3=guess.bulk_modulus_ev_ang3,
        limits=limits,
    )
    relaxed = crystal.as_atoms(request.atoms)
    check_phase(relaxed, request.atoms, request.phase, min_phase_fraction)
    return guess, crystal, relaxed
