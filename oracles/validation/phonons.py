"""Phonons of a crystal by finite displacements, with phonopy.

A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023). A crystal is dynamically
stable when no frequency is imaginary; those are given as negative numbers, as is usual.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.dft.kpoints import parse_path_string
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix
from pydantic import Field, PositiveFloat

from ...structures.settings import Settings
from ..force_engine import ForceEngine
from .base import Bench
from .crystal import Crystal, equilibrium, supercell


@dataclass(frozen=True)
class BandSegment:
    """Frequencies along a straight line between two special points.

    Attributes:
        labels: names of its ends.
        distances_per_ang: distance of each point from the beginning of the path, 1/Å (without 2π).
        frequencies_thz: ``[n_points][n_branches]``.
    """

    labels: tuple[str, str]
    distances_per_ang: tuple[float, ...]
    frequencies_thz: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Phonons:
    """Dispersion, density of states and stability.

    Attributes:
        segments: the dispersion.
        special_points_thz: frequencies at the special points of the path, ascending, by label.
        dos_frequencies_thz, dos_per_thz: total density of states of a primitive cell.
        min_frequency_thz: smallest on path and mesh; imaginary ones count as negative.
        max_frequency_thz: largest on path and mesh.
        is_stable: whether the smallest is above minus the tolerance.
        n_displacements: force calls on supercells.
        n_atoms: in the supercell.
    """

    segments: tuple[BandSegment, ...]
    special_points_thz: dict[str, tuple[float, ...]]
    dos_frequencies_thz: tuple[float, ...]
    dos_per_thz: tuple[float, ...]
    min_frequency_thz: float
    max_frequency_thz: float
    is_stable: bool
    n_displacements: int
    n_atoms: int

    def values(self) -> dict[str, float]:
        """Largest and smallest frequency, and the highest one at each special point."""
        at_points = {
            f"phonon_{label.lower()}_max_thz": found[-1]
            for label, found in self.special_points_thz.items()
            if label != "G"
        }
        return {
            "min_phonon_frequency_thz": self.min_frequency_thz,
            "max_phonon_frequency_thz": self.max_frequency_thz,
            **at_points,
        }


class PhononsSettings(Settings):
    """Phonon dispersion, density of states and dynamical stability."""

    kind: Literal["phonons"] = "phonons"
    min_length_ang: PositiveFloat = 14.0
    """Smallest height of the supercell, in Å; forces must have died away over half of it."""
    displacement_ang: PositiveFloat = 0.01
    """Displacement of the atoms, in Å."""
    path: str | None = None
    """Special points to pass, such as `GXKGL`; a comma begins anew. By default the usual path of the lattice."""
    points_per_segment: int = Field(default=51, ge=2)
    """Points between two special points."""
    mesh: int = Field(default=20, ge=2)
    """Points of the mesh along each reciprocal vector."""
    tolerance_thz: PositiveFloat = 0.1
    """Frequencies down to minus this are taken as rounding of the zero ones."""
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = Phonons

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """See :class:`~.base.Property`."""
        letters = "ABCDEFHIJKLMNPQRSTUVWXYZ"
        points = (f"phonon_{letter.lower()}{number}_max_thz" for letter in letters for number in ("", "1", "2"))
        return ("min_phonon_frequency_thz", "max_phonon_frequency_thz", *points)

    def measure(self, bench: Bench, crystal: Crystal) -> Phonons:
        """See :func:`phonons`."""
        return phonons(bench.engine, crystal, self)


def phonons(engine: ForceEngine, crystal: Crystal, settings: PhononsSettings) -> Phonons:
    """Phonons of the relaxed crystal.

    Raises:
        OracleError: ``not_converged``, or what the engine raises.
    """
    relaxed = equilibrium(engine, crystal)
    phonon = force_constants(engine, relaxed.atoms, settings)
    primitive = Atoms(
        numbers=phonon.primitive.numbers,
        scaled_positions=phonon.primitive.scaled_positions,
        cell=phonon.primitive.cell,
        pbc=True,
    )
    segments, special_points = _dispersion(phonon, primitive, settings)
    phonon.run_mesh([settings.mesh] * 3, is_gamma_center=True)
    phonon.run_total_dos()
    on_mesh = np.asarray(phonon.mesh.frequencies)
    lowest = min(float(on_mesh.min()), min(min(map(min, segment.frequencies_thz)) for segment in segments))
    highest = max(float(on_mesh.max()), max(max(map(max, segment.frequencies_thz)) for segment in segments))
    dos = phonon.total_dos
    return Phonons(
        segments=tuple(segments),
        special_points_thz=special_points,
        dos_frequencies_thz=tuple(np.asarray(dos.frequency_points).tolist()),
        dos_per_thz=tuple(np.asarray(dos.dos).tolist()),
        min_frequency_thz=lowest,
        max_frequency_thz=highest,
        is_stable=lowest >= -settings.tolerance_thz,
        n_displacements=len(phonon.supercells_with_displacements),
        n_atoms=len(phonon.supercell),
    )


def force_constants(engine: ForceEngine, atoms: Atoms, settings: PhononsSettings) -> Phonopy:
    """Force constants of a relaxed cell, in a phonopy object.

    Raises:
        OracleError: what the engine raises.
    """
    large = supercell(atoms, settings.min_length_ang)
    repeat = np.rint(np.diag(large.cell.array @ np.linalg.inv(atoms.cell.array))).astype(int)
    unit = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), scaled_positions=atoms.get_scaled_positions(), cell=atoms.cell.array
    )
    phonon = Phonopy(unit, supercell_matrix=np.diag(repeat), primitive_matrix=guess_primitive_matrix(unit))
    phonon.generate_displacements(distance=settings.displacement_ang)
    phonon.forces = [_forces(engine, displaced) for displaced in phonon.supercells_with_displacements]
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    return phonon


def _forces(engine: ForceEngine, displaced: PhonopyAtoms) -> np.ndarray:
    atoms = Atoms(numbers=displaced.numbers, scaled_positions=displaced.scaled_positions, cell=displaced.cell, pbc=True)
    return engine.compute(atoms).forces


def _dispersion(
    phonon: Phonopy, primitive: Atoms, settings: PhononsSettings
) -> tuple[list[BandSegment], dict[str, tuple[float, ...]]]:
    named = primitive.cell.bandpath(settings.path, npoints=0)
    reciprocal = np.asarray(primitive.cell.reciprocal())
    segments: list[BandSegment] = []
    special: dict[str, tuple[float, ...]] = {}
    begun_at = 0.0
    for line in parse_path_string(named.path):
        for label in line:
            special[label] = tuple(np.sort(_frequencies(phonon, named.special_points[label][None])[0]).tolist())
        for start, end in itertools.pairwise(line):
            steps = np.linspace(0.0, 1.0, settings.points_per_segment)[:, None]
            q = (1.0 - steps) * named.special_points[start] + steps * named.special_points[end]
            distances = begun_at + np.linalg.norm((q - q[0]) @ reciprocal, axis=1)
            found = np.sort(_frequencies(phonon, q), axis=1)
            segments.append(
                BandSegment((start, end), tuple(distances.tolist()), tuple(tuple(row) for row in found.tolist()))
            )
            begun_at = float(distances[-1])
    return segments, special


def _frequencies(phonon: Phonopy, q: np.ndarray) -> np.ndarray:
    """Frequencies ``[n, n_branches]``, THz, at fractional wave vectors ``[n, 3]``."""
    phonon.run_qpoints(q)
    return np.asarray(phonon.qpoints.frequencies)
