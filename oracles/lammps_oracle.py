"""What all oracles that run LAMMPS have in common: their specification, error handling and phase check."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from ase import Atoms
from threadpoolctl import ThreadpoolController

from ..errors import AlloysmithError
from ..structures.base import Phase
from ..structures.phase import classify_phase
from ..structures.settings import Settings
from .base import FailureKind, Label, OracleError, OracleSpec, Request, Value
from .lammps_engine import LammpsEngine, try_potential
from .potentials import LammpsPotential, PotentialSettings

GPA_PER_EV_ANG3 = 160.21766208
_MAX_SITE_SHIFT = 0.1
"""In cube roots of the volume per atom; the gap behind the first shells of FCC and BCC is three times wider."""
_MAX_SHAPE_STRAIN = 0.01


class LammpsOracleSettings(Settings):
    """What every LAMMPS oracle is told."""

    potential: PotentialSettings
    """The interatomic potential."""

    def resolved(self, base_dir: Path) -> Self:
        """A copy whose relative file names refer to ``base_dir``, the folder of the config file."""
        return self.model_copy(update={"potential": self.potential.resolved(base_dir)})

    def known_elements(self) -> frozenset[str]:
        """Elements that can be labelled.

        Raises:
            ConfigError: the potential's files are missing or defective.
        """
        return frozenset(self.potential.load().elements)

    def check(self, elements: Sequence[str]) -> None:
        """Check the potential's files and that it has ``elements``, and try it in a child process.

        Raises:
            ConfigError: what is wrong, and what is there instead.
        """
        potential = self.potential.load()
        potential.require(elements)
        try_potential(potential)


class LammpsOracle(ABC):
    """Labels structures with one potential; keeps one live LAMMPS.

    Args:
        settings: decide the labels and are hashed into the fingerprint, with the potential's files.
        potential: the loaded potential.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    properties: ClassVar[Mapping[str, str]]
    arrays: ClassVar[frozenset[str]] = frozenset()
    supports_warm_start: ClassVar[bool] = False
    cost_hint_s: ClassVar[float]

    def __init__(self, settings: LammpsOracleSettings, potential: LammpsPotential) -> None:
        self._engine = LammpsEngine(potential)
        self._threads = ThreadpoolController()  # finding the libraries takes milliseconds, so only once
        own = settings.model_dump_json(exclude={"potential"})
        digest = hashlib.blake2b(f"{self.name}/{self.version}/{own}".encode(), digest_size=16)
        digest.update(potential.fingerprint.encode())
        self._spec = OracleSpec(
            name=self.name,
            version=self.version,
            properties=dict(self.properties),
            fingerprint=f"{self.name}-{digest.hexdigest()}",
            supports_warm_start=self.supports_warm_start,
            cost_hint_s=self.cost_hint_s,
            arrays=self.arrays,
        )

    @property
    def spec(self) -> OracleSpec:
        """Name, properties and fingerprint."""
        return self._spec

    def evaluate(self, request: Request) -> Label:
        """Label ``request.atoms``.

        Raises:
            OracleError: with the kind of failure; see the class.
        """
        started_s = _cpu_s()
        n_calls_before = self._engine.n_calls
        try:
            # sums round differently with another number of threads, and a label must not depend on the machine's cores
            with self._threads.limit(limits=1, user_api="blas"):
                values, atoms, details = self._label(request)
        except OracleError:
            raise
        except AlloysmithError as error:
            raise OracleError(FailureKind.BAD_STRUCTURE, str(error)) from error
        broken = [name for name, value in values.items() if not np.isfinite(value).all()]
        if broken:
            raise OracleError(FailureKind.CORRUPT_OUTPUT, f"{', '.join(broken)} came out as NaN or infinite")
        return Label(
            values=values,
            atoms=atoms,
            fingerprint=self._spec.fingerprint,
            cpu_s=_cpu_s() - started_s,
            details={"n_force_calls": self._engine.n_calls - n_calls_before, **details},
        )

    def close(self) -> None:
        """Drop the live LAMMPS."""
        self._engine.close()

    @abstractmethod
    def _label(self, request: Request) -> tuple[dict[str, Value], Atoms, dict[str, Any]]:
        """Values, the structure they belong to, and details."""


def _cpu_s() -> float:
    """CPU seconds of this process and of programs it has run."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def check_phase(atoms: Atoms, ideal: Atoms, phase: Phase | None, min_fraction: float) -> None:
    """Check that a relaxed structure is still in the phase it was asked for.

    When the structure began as a perfect lattice of the phase and no atom has left its site, it still is; only
    otherwise are neighbours counted.

    Args:
        atoms: the relaxed structure.
        ideal: the structure before relaxation, sites in the same order.
        phase: the phase; ``None`` skips the check.
        min_fraction: share of the atoms that have to be in it.

    Raises:
        OracleError: ``left_phase``, with what was found.
    """
    if phase is None or (_keeps_its_sites(atoms, ideal) and _lattice_fraction(ideal, phase) == 1.0):
        return
    report = classify_phase(atoms)
    if report.fractions[phase] < min_fraction:
        shares = {name: share for name, share in report.fractions.items() if share > 0.0}
        raise OracleError(
            FailureKind.LEFT_PHASE,
            f"only {report.fractions[phase]:.0%} of the relaxed atoms are still {phase} (at least {min_fraction:.0%} "
            f"are wanted): {', '.join(f'{share:.0%} {name}' for name, share in shares.items())}",
            {"fractions": shares, "coordination": report.coordination},
        )


def check_response(uncertainty_gpa: float, max_uncertainty_gpa: float) -> None:
    """Check that the ions' response to strain is known well enough.

    Raises:
        OracleError: ``not_converged``, with the uncertainty.
    """
    if uncertainty_gpa > max_uncertainty_gpa:
        raise OracleError(
            FailureKind.NOT_CONVERGED,
            f"the ions' response to strain leaves {uncertainty_gpa:.3g} GPa open (allowed {max_uncertainty_gpa:g}): "
            "the potential is not smooth here, or the structure is at a saddle point",
            {"uncertainty_gpa": uncertainty_gpa},
        )


def _keeps_its_sites(atoms: Atoms, ideal: Atoms) -> bool:
    """Whether no atom is further from its site than a small share of the spacing, nor the cell's shape changed."""
    length = (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    ideal_length = (ideal.get_volume() / len(ideal)) ** (1.0 / 3.0)
    strain = np.linalg.solve(ideal.cell.array / ideal_length, atoms.cell.array / length) - np.eye(3)
    shift = atoms.positions @ np.linalg.inv(atoms.cell.array) - ideal.positions @ np.linalg.inv(ideal.cell.array)
    shift -= np.round(shift)
    shift = (shift - shift.mean(axis=0)) @ atoms.cell.array
    is_near = np.sqrt((shift**2).sum(axis=1).max()) < _MAX_SITE_SHIFT * length
    return bool(is_near and np.abs(strain).max() < _MAX_SHAPE_STRAIN)


def _lattice_fraction(ideal: Atoms, phase: Phase) -> float:
    length = (ideal.get_volume() / len(ideal)) ** (1.0 / 3.0)
    scaled = np.round(ideal.cell.scaled_positions(ideal.positions), 6)
    return _fraction_of_shape(scaled.tobytes(), np.round(ideal.cell.array / length, 6).tobytes(), phase)


@lru_cache(maxsize=16)
def _fraction_of_shape(scaled_bytes: bytes, cell_bytes: bytes, phase: Phase) -> float:
    scaled = np.frombuffer(scaled_bytes).reshape(-1, 3)
    cell = 2.25 * np.frombuffer(cell_bytes).reshape(3, 3)
    lattice = Atoms(numbers=np.full(len(scaled), 28), scaled_positions=scaled, cell=cell, pbc=True)
    return classify_phase(lattice).fractions[phase]
