"""An analytic toy oracle that needs no LAMMPS: to try loops, executors and failure policies in milliseconds.

The "bulk modulus" of a structure is the mean of its elements' values plus a bonus for every bond between unlike
elements. It has a maximum inside the composition range, and at that composition a best ordering, so that
search methods have something to find. It is not physics.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import Field, NonNegativeFloat
from vesin import NeighborList

from ..structures.base import Phase, structure_id
from ..structures.settings import Settings
from .base import FailureKind, Label, OracleError, OracleSpec, Request


class FaultSettings(Settings):
    """A misbehaviour of the toy oracle on some structures, to try deadlines and failure policies."""

    effect: Literal["hang", "exit", "segfault"] | FailureKind
    """What happens: the evaluation hangs, its process exits or segfaults, or a typed failure of that kind is raised."""
    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of all structures it happens on. They are chosen by their content, so the same ones on every worker."""
    request_ids: tuple[str, ...] = ()
    """Requests it happens on, whatever the fraction."""
    structure_ids: tuple[str, ...] = ()
    """Structures (by `structure_id`) it happens on, whatever the fraction."""
    once_folder: Path | None = None
    """A folder to remember in that it happened, so that a retry of the same structure succeeds. Without it, always."""

    def strikes(self, request: Request, salt: int) -> bool:
        """Whether this fault happens on ``request``; ``salt`` separates several faults."""
        identity = structure_id(request.atoms)
        if self.fraction > 0.0:
            digest = hashlib.blake2b(f"{salt}/{identity}".encode(), digest_size=8).digest()
            is_hit = int.from_bytes(digest, "little") / 2.0**64 < self.fraction
        else:
            is_hit = False
        if not (is_hit or request.request_id in self.request_ids or identity in self.structure_ids):
            return False
        if self.once_folder is None:
            return True
        self.once_folder.mkdir(parents=True, exist_ok=True)
        try:
            (self.once_folder / f"{salt}-{identity}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def happen(self) -> None:
        """Do the damage."""
        if self.effect == "hang":
            while True:
                time.sleep(3600.0)
        if self.effect == "exit":
            os._exit(86)
        if self.effect == "segfault":
            ctypes.string_at(0)
        kind = FailureKind(self.effect)
        raise OracleError(kind, f"injected fault: this structure was chosen to fail as {kind}", {"injected": True})


class PairModelSettings(Settings):
    """The analytic toy oracle."""

    kind: Literal["pair_model"] = "pair_model"
    delay_s: NonNegativeFloat = 0.0
    """Seconds that each evaluation sleeps, to stand for a costly one."""
    unlike_bond_gpa: float = 60.0
    """What a structure gains when all its nearest-neighbour bonds join unlike elements, in GPa."""
    bcc_offset_gpa: float = -8.0
    """Added to the structures of the phase bcc, in GPa."""
    faults: tuple[FaultSettings, ...] = ()
    """Misbehaviours to inject."""

    def resolved(self, base_dir: Path) -> PairModelSettings:
        """The same settings: no file belongs to them."""
        return self

    def known_elements(self) -> frozenset[str]:
        """All elements."""
        return frozenset(chemical_symbols[1:])

    def check(self, elements: Sequence[str]) -> None:
        """Nothing can be wrong: every element has a value."""

    def build(self) -> PairModelOracle:
        """The oracle of these settings."""
        return PairModelOracle(self)


class PairModelOracle:
    """Labels structures with the pair-count model of :class:`PairModelSettings`."""

    def __init__(self, settings: PairModelSettings) -> None:
        self._settings = settings
        digest = hashlib.blake2b(settings.model_dump_json().encode(), digest_size=16).hexdigest()
        self._spec = OracleSpec(
            name="pair_model",
            version="1",
            properties={"bulk_modulus_gpa": "GPa", "volume_ang3_per_atom": "Å^3"},
            fingerprint=f"pair_model-{digest}",
            cost_hint_s=max(settings.delay_s, 1e-4),
        )

    @property
    def spec(self) -> OracleSpec:
        """Name, properties and fingerprint."""
        return self._spec

    def evaluate(self, request: Request) -> Label:
        """Label ``request.atoms`` where they are (nothing relaxes).

        Raises:
            OracleError: ``bad_structure`` for an empty, non-periodic or non-finite structure; any kind by a fault.
        """
        started = time.process_time()
        for salt, fault in enumerate(self._settings.faults):
            if fault.strikes(request, salt):
                fault.happen()
        if self._settings.delay_s > 0.0:
            time.sleep(self._settings.delay_s)
        volume = _volume_per_atom(request.atoms)
        mean = float(np.mean(_element_value_gpa(request.atoms.numbers)))
        unlike = _unlike_bond_fraction(request.atoms, request.phase or "fcc", volume)
        offset = self._settings.bcc_offset_gpa if request.phase == "bcc" else 0.0
        return Label(
            values={
                "bulk_modulus_gpa": mean + self._settings.unlike_bond_gpa * unlike + offset,
                "volume_ang3_per_atom": volume,
            },
            atoms=request.atoms.copy(),
            fingerprint=self._spec.fingerprint,
            cpu_s=time.process_time() - started,
            details={"unlike_bond_fraction": unlike},
        )

    def close(self) -> None:
        """Nothing is held."""


def _element_value_gpa(numbers: np.ndarray) -> np.ndarray:
    """Value of each atomic number, 130 to 190 GPa: a smooth, arbitrary wave over the periodic table."""
    return 160.0 + 30.0 * np.sin(1.7 * numbers)


def _volume_per_atom(atoms: Atoms) -> float:
    is_finite = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()
    volume = abs(np.linalg.det(atoms.cell.array)) / len(atoms) if is_finite and len(atoms) > 0 else 0.0
    if not (atoms.pbc.all() and volume > 1.0):
        raise OracleError(
            FailureKind.BAD_STRUCTURE,
            f"a periodic cell with finite coordinates and at least 1 Å^3 per atom is needed, got {atoms!r}",
        )
    return float(volume)


def _unlike_bond_fraction(atoms: Atoms, phase: Phase, volume_ang3: float) -> float:
    """Share of nearest-neighbour bonds between unlike elements; 0 for a structure without bonds."""
    if phase == "fcc":  # half way between the first shell, a/√2, and the second, a
        cutoff_ang = 0.5 * (1.0 + np.sqrt(0.5)) * (4.0 * volume_ang3) ** (1.0 / 3.0)
    else:  # half way between a√3/2 and a
        cutoff_ang = 0.5 * (1.0 + np.sqrt(0.75)) * (2.0 * volume_ang3) ** (1.0 / 3.0)
    neighbours = NeighborList(cutoff=float(cutoff_ang), full_list=True)
    i, j = neighbours.compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ij")
    if len(i) == 0:
        return 0.0
    return float(np.mean(atoms.numbers[i] != atoms.numbers[j]))
