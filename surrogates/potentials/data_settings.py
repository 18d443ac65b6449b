"""The labelled data of a fit, as a configuration file names it under ``data:``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers
from pydantic import BeforeValidator, Field, field_validator, model_validator

from ...structures.settings import Settings

EnergyReference = Literal["none", "least_squares"] | dict[str, float]
"""Energy per atom of each element that is taken from the labels before a fit; see :mod:`.energy_reference`."""


class FrameFileSettings(Settings):
    """A file or folder of labelled structures, and how their labels are called."""

    path: str
    """Extended XYZ (`.extxyz`, `.xyz`, also `.gz`), ASE database (`.db`), pymatgen JSON, or a VASP output
    (`vasprun.xml`, `OUTCAR`, also `.gz`: all ionic steps); or a folder, whose DeePMD-kit systems are read, however
    deep they are (`deepmd/npy`, mixed too, and `deepmd/raw`). Relative to the config file; `*`, `?` and `**` match
    several files and folders."""
    group: str | None = None
    """Name of the group that all its frames belong to, for weights, stratified splits and errors by group."""
    group_from: str = "group"
    """Key of the frames' info that names their group, where `group` is not given. Frames without it belong to a group
    named after their file."""
    energy_key: str | None = None
    """Name of the total energy in eV. By default the names of one scheme are used: `energy`, `forces`, `stress`,
    `virial` (ASE); `energy_ev`, `forces_ev_ang`, `stress_ev_ang3` (`alloysmith label` and `export`); or `REF_energy`,
    `REF_forces`, `REF_stress`, `REF_virial`. A file that has more than one scheme must be told which one."""
    forces_key: str | None = None
    """Name of the per-atom forces in eV/Å."""
    stress_key: str | None = None
    """Name of the stress: 3 × 3, or six numbers xx yy zz yz xz xy."""
    virial_key: str | None = None
    """Name of the virial in eV, positive under compression: minus the volume times ASE's stress."""
    stress_unit: Literal["ev_ang3", "gpa", "kbar"] = "ev_ang3"
    """Unit of the stress. VASP outputs are converted whatever is said here."""
    stress_sign: Literal["tension", "compression"] = "tension"
    """Under which load a positive stress is: `tension` (ASE, LAMMPS' pressure reversed) or `compression` (VASP's own,
    pressures)."""
    type_map: tuple[str, ...] | None = None
    """Elements of the types 0, 1, … of DeePMD-kit systems that have no `type_map.raw`."""
    has_forces: bool = True
    """Say `false` for a file with energies only: frames without forces are errors otherwise."""

    @field_validator("path")
    @classmethod
    def _is_named(cls, path: str) -> str:
        if not path.strip():
            raise ValueError("path is empty; name a file")
        return path


def _from_path(value: Any) -> Any:
    return {"path": str(value)} if isinstance(value, str | Path) else value


FrameFile = Annotated[FrameFileSettings, BeforeValidator(_from_path, json_schema_input_type=str | FrameFileSettings)]
"""A file's settings, or just its path."""


class FrameCheckSettings(Settings):
    """What counts as bad data."""

    min_distance: float = Field(default=0.5, ge=0.0, le=1.0)
    """Shortest distance of two atoms, in sums of their covalent radii. Published MD data goes down to 0.59."""
    min_volume: float = Field(default=0.4, ge=0.0, le=1.0)
    """Smallest volume of a cell, in volumes of its elements' crystals."""
    max_volume_ang3_per_atom: float = Field(default=1.0e5, gt=0.0)
    """Largest volume per atom, Å^3. Slabs and single atoms in vacuum are usual data."""
    max_force_ev_ang: float = Field(default=200.0, gt=0.0)
    """Largest component of a force, eV/Å."""
    max_net_force_ev_ang: float = Field(default=5e-3, gt=0.0)
    """Largest component of the mean force of a frame's atoms, eV/Å; more is warned about."""
    max_energy_deviation_ev_per_atom: float = Field(default=1.0, gt=0.0)
    """Largest difference between a frame's energy and a fit to the energies of similar frames, eV/atom."""
    max_reference_shift_ev_per_atom: float = Field(default=0.4, gt=0.0)
    """Largest systematic difference of energies between files or groups, after a fit of structure and composition,
    eV/atom. Published data of one DFT setup stays below 0.24; a change of pseudopotentials, or cohesive energies mixed
    with total ones, gives more."""
    max_duplicate_difference_ev_per_atom: float = Field(default=1e-3, ge=0.0)
    """Largest difference in energy of two frames of the same structure, eV/atom."""


class DataSettings(Settings):
    """Labelled structures for a fit, and which of them are set aside."""

    files: tuple[FrameFile, ...] = Field(min_length=1)
    """Files to learn from: paths, or mappings with `path` and more."""
    test_files: tuple[FrameFile, ...] = ()
    """Files that are never learned from."""
    test_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Random share of `files` that is set aside for the test errors."""
    validation_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Random share of `files` that decides when to stop and which parameters are kept."""
    stratify_by_group: bool = False
    """Take these shares of every group, rather than of all frames."""
    energy_reference: EnergyReference = "none"
    """Energies per atom that are taken from the labels before the fit and added to predictions: `none` (labels as they
    are), energies in eV by element, or `least_squares` (fitted to the composition of the training frames)."""
    vasp_energy: Literal["free", "sigma_to_zero"] = "free"
    """Which energy of VASP outputs to learn: `free` is the one that VASP's forces are derivatives of, `sigma_to_zero`
    the one extrapolated to zero smearing. Never mix both."""
    on_bad_frame: Literal["error", "drop"] = "error"
    """`error`: bad frames end the fit before it begins, all named together. `drop`: they are left out, and listed."""
    checks: FrameCheckSettings = FrameCheckSettings()
    """What counts as bad."""
    base_dir: Path | None = None
    """Folder that file names are relative to; set when the config file is read."""

    @field_validator("energy_reference")
    @classmethod
    def _names_elements(cls, value: EnergyReference) -> EnergyReference:
        unknown = sorted(set(value) - set(atomic_numbers)) if isinstance(value, dict) else []
        if unknown:
            raise ValueError(f"energy_reference names {', '.join(unknown)}; use chemical symbols")
        return value

    @model_validator(mode="after")
    def _is_possible(self) -> DataSettings:
        if self.test_fraction + self.validation_fraction >= 1.0:
            raise ValueError(
                f"test_fraction {self.test_fraction:g} and validation_fraction {self.validation_fraction:g} leave "
                "nothing to learn from; together they must be below 1"
            )
        if self.test_files and self.test_fraction > 0.0:
            raise ValueError("give test_files or a test_fraction, not both")
        return self

    def resolved(self, base_dir: Path) -> DataSettings:
        """A copy whose relative file names refer to ``base_dir``; a base set before is kept."""
        return self if self.base_dir is not None else self.model_copy(update={"base_dir": base_dir.resolve()})
