"""The two end states of a vacancy's hop, and the path between them; with checks that it is the hop that was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from .band import Band
from .base import FailureKind, OracleError
from .crystal_relaxation import CellFreedom, RelaxationLimits, relax_crystal
from .force_engine import ForceEngine
from .preconditioner import LinearSolver

_MAX_SHIFT = 0.45
"""Of the hop's length: an atom that is further from its site has left it."""


@dataclass(frozen=True)
class HopStart:
    """A relaxed crystal with a vacancy, which all hops into it share.

    Attributes:
        atoms: the crystal without the vacancy's atom; positions relaxed, cell at zero pressure.
        sites: ``[n_atoms, 3]``, Å, where the atoms of the perfect crystal would be in that cell.
        vacancy: ``[3]``, Å, the empty site.
        energy_ev: potential energy, eV.
        bulk_modulus_ev_ang3: estimate, eV/Å^3.
        springs: spring model of the crystal.
    """

    atoms: Atoms
    sites: np.ndarray
    vacancy: np.ndarray
    energy_ev: float
    bulk_modulus_ev_ang3: float
    springs: LinearSolver


@dataclass(frozen=True)
class HopEnds:
    """Both relaxed states of a hop, in the cell of the first.

    Attributes:
        start: the state before the hop.
        mover: index in ``start.atoms`` of the atom that hops.
        hop: ``[3]``, Å, from its site to the vacancy.
        end_positions: ``[n_atoms, 3]``, Å.
        end_energy_ev: eV.
    """

    start: HopStart
    mover: int
    hop: np.ndarray
    end_positions: np.ndarray
    end_energy_ev: float

    def path(self, n_images: int) -> np.ndarray:
        """The straight path, ``[n_images + 2, n_atoms, 3]``, Å."""
        shares = np.linspace(0.0, 1.0, n_images + 2)[:, None, None]
        return (1.0 - shares) * self.start.atoms.positions + shares * self.end_positions


def relax_start(
    engine: ForceEngine,
    atoms: Atoms,
    vacancy: np.ndarray,
    *,
    springs: LinearSolver,
    cell_freedom: CellFreedom,
    bulk_modulus_ev_ang3: float,
    limits: RelaxationLimits,
) -> HopStart:
    """Relax a crystal with a vacancy.

    Args:
        atoms: the crystal without the vacancy's atom.
        vacancy: ``[3]``, Å, the empty site.
        springs: its spring model.

    Raises:
        OracleError: ``not_converged``, ``left_phase`` where an atom leaves its site, or what the engine raises.
    """
    relaxed = relax_crystal(
        engine,
        atoms,
        cell_freedom=cell_freedom,
        bulk_modulus_ev_ang3=bulk_modulus_ev_ang3,
        limits=limits,
        springs=springs,
    )
    deformation = np.linalg.solve(atoms.cell.array, relaxed.cell)
    sites = atoms.positions @ deformation
    drift = (relaxed.positions - sites).mean(axis=0)
    start = HopStart(
        relaxed.as_atoms(atoms),
        sites + drift,
        vacancy @ deformation + drift,
        relaxed.evaluation.energy_ev,
        bulk_modulus_ev_ang3,
        springs,
    )
    shifts = np.linalg.norm(relaxed.positions - start.sites, axis=1)
    spacing = float(np.linalg.norm(start.sites - start.vacancy, axis=1).min())
    if shifts.max() > _MAX_SHIFT * spacing:
        worst = int(np.argmax(shifts))
        raise OracleError(
            FailureKind.LEFT_PHASE,
            f"relaxed with its vacancy, the crystal has an atom (number {worst}) {shifts[worst]:.3g} Å from its site: "
            "it is no crystal of this lattice, or the vacancy does not stay where it is",
            {"atom": worst, "shift_ang": float(shifts[worst])},
        )
    return start


def relax_end(engine: ForceEngine, start: HopStart, mover: int, hop: np.ndarray, limits: RelaxationLimits) -> HopEnds:
    """Put an atom into the vacancy, and relax in the cell of the start.

    Args:
        mover: index in ``start.atoms``.
        hop: ``[3]``, Å, from its site to the vacancy.

    Raises:
        OracleError: ``not_converged``; ``fell_back`` where the atom returns; ``other_path`` where another atom moves;
            or what the engine raises.
    """
    guess = start.atoms.positions.copy()
    guess[mover] += hop
    relaxed = relax_crystal(
        engine,
        start.atoms,
        start=(guess, start.atoms.cell.array.copy()),
        cell_freedom="fixed",
        bulk_modulus_ev_ang3=start.bulk_modulus_ev_ang3,
        limits=limits,
        springs=start.springs,
    )
    ends = HopEnds(start, mover, hop, relaxed.positions, relaxed.evaluation.energy_ev)
    _check_end(ends)
    return ends


def check_path(ends: HopEnds, band: Band) -> None:
    """Check that on the whole path one atom hops, and the others stay at their sites.

    Raises:
        OracleError: ``other_path``.
    """
    for k, positions in enumerate(band.positions):
        others = _shifts_of_others(ends, positions)
        allowed = _MAX_SHIFT * float(np.linalg.norm(ends.hop))
        if others.max() > allowed:
            raise _other_path(f"image {k} of the path", int(np.argmax(others)), float(others.max()), allowed)


def _check_end(ends: HopEnds) -> None:
    length = float(np.linalg.norm(ends.hop))
    allowed = _MAX_SHIFT * length
    done = (ends.end_positions[ends.mover] - ends.start.sites[ends.mover]) @ ends.hop / length
    if done < allowed:
        raise OracleError(
            FailureKind.FELL_BACK,
            f"relaxed after the hop, the atom has returned: it is {done:.3g} Å on its way of {length:.3g} Å, so there "
            "is no second minimum",
            {"done_ang": float(done), "hop_ang": length},
        )
    others = _shifts_of_others(ends, ends.end_positions)
    if others.max() > allowed:
        raise _other_path("the state after the hop", int(np.argmax(others)), float(others.max()), allowed)
    missed = float(np.linalg.norm(ends.end_positions[ends.mover] - ends.start.sites[ends.mover] - ends.hop))
    if missed > allowed:
        raise _other_path("the state after the hop", ends.mover, missed, allowed)


def _shifts_of_others(ends: HopEnds, positions: np.ndarray) -> np.ndarray:
    shifts = np.linalg.norm(positions - ends.start.sites, axis=1)
    shifts[ends.mover] = 0.0
    return np.asarray(shifts)


def _other_path(where: str, atom: int, shift_ang: float, allowed_ang: float) -> OracleError:
    details: dict[str, Any] = {"atom": atom, "shift_ang": shift_ang}
    return OracleError(
        FailureKind.OTHER_PATH,
        f"in {where}, atom {atom} is {shift_ang:.3g} Å from its site (allowed {allowed_ang:.3g}): this is another hop "
        "than the one asked for",
        details,
    )


def barriers(ends: HopEnds, energies_ev: Sequence[float]) -> tuple[float, float]:
    """Barrier forward and backward, eV, from the energies along the path.

    Raises:
        OracleError: ``no_saddle`` where one of them is not positive.
    """
    top = float(max(energies_ev))
    forward, backward = top - ends.start.energy_ev, top - ends.end_energy_ev
    if forward <= 0.0 or backward <= 0.0:
        raise OracleError(
            FailureKind.NO_SADDLE,
            f"the barrier is {forward:.4g} eV forward and {backward:.4g} eV backward; both must be positive",
            {"barrier_forward_ev": forward, "barrier_backward_ev": backward},
        )
    return forward, backward
