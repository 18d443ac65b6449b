"""Labelled structures of a file or a DeePMD system, one after the other, each with what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ase import Atoms

from ...errors import ConfigError, StructureError
from ...structures.deepmd_data import deepmd_systems, read_deepmd_sets
from ...structures.files import file_format, iterate_structures
from ...structures.vasp_output import is_vasp_output, read_vasp_output
from .data_settings import FrameFileSettings
from .frame import Frame
from .frame_labels import read_frame
from .frame_report import RowDefect

_LABELLED_FORMATS = ("extxyz", "db", "json")

VaspEnergy = Literal["free", "sigma_to_zero"]


@dataclass(frozen=True)
class FrameRow:
    """A structure of a file, or a remark on the whole file.

    Attributes:
        frame: the structure with its labels, if they can be used.
        defects: what is wrong.
        is_structure: whether this is about one structure.
    """

    frame: Frame | None
    defects: tuple[RowDefect, ...] = ()
    is_structure: bool = True


def frame_rows(
    name: str, path: Path, labels: FrameFileSettings, vasp_energy: VaspEnergy = "free", *, forces_needed: bool = True
) -> Iterator[FrameRow]:
    """All rows of a file, or of a folder that is a DeePMD system.

    Args:
        name: what messages call it.
        labels: how its labels are called.
        forces_needed: whether frames without forces are errors.

    Raises:
        ConfigError: a format without labels.
        StructureError: it cannot be read.
    """
    if path.is_dir():
        yield from _deepmd_rows(name, path, labels, forces_needed)
        return
    if is_vasp_output(path):
        yield from _vasp_rows(name, path, labels, vasp_energy, forces_needed)
        return
    try:
        form = file_format(path)
    except StructureError as error:
        raise ConfigError(f"data: {error}; or vasprun.xml, OUTCAR, a folder of DeePMD systems") from error
    if form not in _LABELLED_FORMATS:
        raise ConfigError(
            f"data: {name} is a {form} file, which has no labels; use extended XYZ, .db, VASP outputs or DeePMD systems"
        )
    group = path.name.split(".")[0]
    for number, atoms in enumerate(iterate_structures(path, allow_defects=True), start=1):
        source = f"{name} row {number}"
        if "failure" in atoms.info:
            yield FrameRow(None, (RowDefect("failed_label", source, str(atoms.info["failure"]), "warning"),))
            continue
        yield _row(atoms, source, group, labels, forces_needed)


def _deepmd_rows(name: str, system: Path, labels: FrameFileSettings, forces_needed: bool) -> Iterator[FrameRow]:
    named = labels.model_copy(
        update={"energy_key": "energy", "stress_unit": "ev_ang3", "stress_sign": "tension"}
        | dict.fromkeys(("forces_key", "stress_key", "virial_key"))
    )
    for part in read_deepmd_sets(system, labels.type_map):
        if part.virials is None and part.cells is not None:
            detail = "there is no virial; pressures are learnt from energies and forces alone"
            yield FrameRow(None, (RowDefect("no_virial", f"{name} {part.name}", detail, "warning"),), False)
        for k in range(len(part)):
            yield _row(part.atoms(k), f"{name} {part.name} frame {k + 1}", system.name, named, forces_needed)


def _vasp_rows(
    name: str, path: Path, labels: FrameFileSettings, vasp_energy: VaspEnergy, forces_needed: bool
) -> Iterator[FrameRow]:
    run = read_vasp_output(path)
    key = "free_energy" if vasp_energy == "free" else "energy"
    named = labels.model_copy(update={"energy_key": key, "stress_unit": "ev_ang3", "stress_sign": "tension"})
    if run.is_truncated:
        detail = f"the run did not end; it has {len(run.steps)} complete ionic steps"
        yield FrameRow(None, (RowDefect("truncated_run", name, detail, "warning"),), False)
    for step in run.steps:
        source = f"{name} step {step.number}"
        if not step.is_converged:
            yield FrameRow(None, (RowDefect("unconverged", source, "the electrons did not reach EDIFF", "warning"),))
            continue
        yield _row(step.atoms, source, path.resolve().parent.name, named, forces_needed)


def _row(atoms: Atoms, source: str, group: str, labels: FrameFileSettings, forces_needed: bool) -> FrameRow:
    frame, defects = read_frame(atoms, source, group, labels, forces_needed)
    return FrameRow(frame, tuple(defects))


def labelled_paths(path: Path) -> list[Path]:
    """A file itself, or the DeePMD systems of a folder; empty where there is neither."""
    return [path] if path.is_file() else deepmd_systems(path)
