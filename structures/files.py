"""Reading and writing structures in the formats that users have; the name of a file says which one it is.

=====================================  ============================  ==================================
name                                   format                        structures, values kept
=====================================  ============================  ==================================
``*.extxyz``, ``*.xyz`` (``.gz`` too)  extended XYZ                  many; ``info`` and per-atom arrays
``*.cif``                              CIF                           many; none
``*.vasp``, ``POSCAR*``, ``CONTCAR*``  VASP                          one; none; sorted by element
``*.lmp``, ``*.data``                  LAMMPS data, atomic style     one; none; cell turned
``*.db``                               ASE database (SQLite)         many; ``info`` and per-atom arrays
``*.json``                             pymatgen ``Structure``        many; ``info`` and per-atom arrays
a folder                               DeePMD-kit systems (reading)  many; energies, forces, stresses
=====================================  ============================  ==================================
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import ase.db
import ase.io
import numpy as np
from ase import Atoms

from ..errors import StructureError
from .deepmd_data import deepmd_systems, read_deepmd_sets
from .extxyz import iterate_extxyz, take_results, write_extxyz
from .lammps_data import read_lammps_data, write_lammps_data
from .pymatgen_json import atoms_from_json, atoms_to_json
from .vacancy_hop import NEIGHBOUR_KEY

FileFormat = Literal["extxyz", "cif", "vasp", "lammps-data", "db", "json"]

_SUFFIXES: dict[str, FileFormat] = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".cif": "cif",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".lmp": "lammps-data",
    ".data": "lammps-data",
    ".db": "db",
    ".json": "json",
}
_SINGLE: tuple[FileFormat, ...] = ("vasp", "lammps-data")
_CALCULATED = ("energy", "free_energy", "forces", "stress", "magmoms", "magmom", "charges", "dipole", "stresses")


_READER_ERRORS = (  # what readers of text, archives and databases raise on damaged input
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    sqlite3.Error,
    zlib.error,
)


def file_format(path: str | Path) -> FileFormat:
    """The format that a file's name stands for.

    Raises:
        StructureError: the name stands for none.
    """
    path = Path(path)
    if path.name.upper().startswith(("POSCAR", "CONTCAR")):
        return "vasp"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""
    found = _SUFFIXES.get(suffix)
    if found is None or (found != "extxyz" and suffixes[-1] == ".gz"):
        raise StructureError(
            f"{path}: the name stands for no structure format; use {', '.join(_SUFFIXES)}, POSCAR or .extxyz.gz"
        )
    return found


def read_structures(
    path: str | Path, elements: Sequence[str] | None = None, *, allow_defects: bool = False
) -> list[Atoms]:
    """All structures of a file.

    Values travel in ``atoms.info`` and ``atoms.arrays``. Energies, forces and stresses of extended XYZ and of ASE
    databases are there too, under these names and with ASE's signs and units, rather than in a calculator.

    Args:
        elements: chemical symbols of the atom types 1, 2, … of a LAMMPS data file; by default they are taken from the
            file (type labels, comments, then masses).
        allow_defects: return structures whose coordinates are not finite, or whose atoms have no element, as well,
            for a caller who names all that is wrong together.

    Raises:
        StructureError: no such file, an unknown format, a damaged, truncated or empty file, disordered sites.
    """
    return list(iterate_structures(path, elements, allow_defects=allow_defects))


def iterate_structures(
    path: str | Path, elements: Sequence[str] | None = None, *, allow_defects: bool = False
) -> Iterator[Atoms]:
    """The structures of :func:`read_structures`, one after the other.

    Extended XYZ and DeePMD-kit systems are read as they are asked for, so that their size does not matter.

    Raises:
        StructureError: as :func:`read_structures`; it may come after structures that can be used.
    """
    path = Path(path)
    form = "deepmd" if path.is_dir() else file_format(path)
    if not path.exists():
        raise StructureError(f"{path}: there is no such file")
    number = 0
    try:
        reader = iter(_READERS[form](path, elements))
        while (atoms := _next(reader)) is not None:
            number += 1
            _check_read(atoms, number, path, allow_defects)
            yield atoms
    except StructureError:
        raise
    except _READER_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise StructureError(f"{path}: cannot be read as {form}; it may be damaged or cut short ({detail})") from error
    if number == 0:
        raise StructureError(f"{path}: the file holds no structure, or one without atoms")


def _next(reader: Iterator[Atoms]) -> Atoms | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # readers warn of details (unused CIF tags) that change nothing
        return next(reader, None)


def _check_read(atoms: Atoms, number: int, path: Path, allow_defects: bool) -> None:
    if len(atoms) == 0:
        raise StructureError(f"{path}: the file holds no structure, or one without atoms")
    if allow_defects:
        return
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise StructureError(f"{path}: structure {number} has coordinates that are not finite numbers")
    if atoms.numbers.min() < 1 and NEIGHBOUR_KEY not in atoms.info:  # X is a vacancy where a hop is marked
        raise StructureError(f"{path}: structure {number} has atoms without a chemical element")


def write_structures(
    path: str | Path, structures: Atoms | Sequence[Atoms], elements: Sequence[str] | None = None
) -> None:
    """Write structures, replacing the file only when all are written.

    Args:
        elements: the order of atom types in a LAMMPS data file; by default alphabetical.

    Raises:
        StructureError: an unknown format, nothing to write, several structures for a format of one, an element that
            ``elements`` lacks, or a folder that cannot be written to.
    """
    path = Path(path)
    form = file_format(path)
    frames = [structures] if isinstance(structures, Atoms) else list(structures)
    if not frames:
        raise StructureError(f"{path}: there are no structures to write")
    if form in _SINGLE and len(frames) != 1:
        raise StructureError(f"{path}: a {form} file holds one structure, got {len(frames)}; use .extxyz")
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            _WRITERS[form](temporary, frames, elements)
            os.replace(temporary, path)
    except OSError as error:
        raise StructureError(
            f"{path}: cannot be written ({error}); choose a folder that exists and is yours"
        ) from error


def _read_extxyz(path: Path, elements: Sequence[str] | None) -> Iterator[Atoms]:
    return iterate_extxyz(path)


def _read_deepmd(path: Path, elements: Sequence[str] | None) -> Iterator[Atoms]:
    systems = deepmd_systems(path)
    if not systems:
        raise StructureError(f"{path}: a folder without DeePMD-kit systems (type.raw); name a file in it")
    for system in systems:
        for part in read_deepmd_sets(system, elements):
            yield from (part.atoms(k) for k in range(len(part)))


def _write_extxyz(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    write_extxyz(path, frames)


def _plain(atoms: Atoms) -> Atoms:
    """A copy without calculator and constraints, which a file of values does not need."""
    copied = atoms.copy()
    copied.set_constraint()
    return copied


def _read_cif(path: Path, elements: Sequence[str] | None) -> list[Atoms]:
    frames = list(ase.io.read(path, index=":", format="cif"))
    for atoms in frames:
        sites = atoms.info.pop("occupancy", {}).values()
        if any(abs(share - 1.0) > 1e-6 or len(site) > 1 for site in sites for share in site.values()):
            raise StructureError(f"{path}: a site is shared by several elements; give an ordered structure")
        atoms.info.clear()
        for name in set(atoms.arrays) - {"numbers", "positions"}:
            del atoms.arrays[name]
    return frames


def _read_vasp(path: Path, elements: Sequence[str] | None) -> list[Atoms]:
    return [ase.io.read(path, format="vasp")]


def _read_lammps(path: Path, elements: Sequence[str] | None) -> list[Atoms]:
    return [read_lammps_data(path, elements)]


def _read_db(path: Path, elements: Sequence[str] | None) -> list[Atoms]:
    frames = []
    with ase.db.connect(path, type="db") as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info = {**row.key_value_pairs, **row.data.get("info", {})}
            take_results(atoms)
            atoms.set_constraint()
            for name, values in row.data.get("arrays", {}).items():
                atoms.set_array(name, np.asarray(values))
            frames.append(atoms)
    return frames


def _read_json(path: Path, elements: Sequence[str] | None) -> list[Atoms]:
    loaded = json.loads(path.read_text())
    return [atoms_from_json(entry) for entry in (loaded if isinstance(loaded, list) else [loaded])]


def _write_cif(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    ase.io.write(path, list(frames), format="cif")


def _write_vasp(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    ase.io.write(path, _plain(frames[0]), format="vasp", sort=True, direct=True)


def _write_lammps(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    write_lammps_data(path, frames[0], elements)


def _write_db(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    with ase.db.connect(path, type="db", use_lock_file=False) as database:
        for atoms in frames:
            extra = {n: a for n, a in atoms.arrays.items() if n not in ("numbers", "positions")}
            pairs = {k: v for k, v in atoms.info.items() if _is_searchable(k, v)}
            data = {"info": {k: v for k, v in atoms.info.items() if k not in pairs}, "arrays": extra}
            database.write(_plain(atoms), key_value_pairs=pairs, data=data)


def _is_searchable(name: str, value: Any) -> bool:
    """Whether a value can be a column of an ASE database, by which ``ase db`` selects and sorts."""
    is_name = name.isidentifier() and not name.startswith("_") and name not in (*_CALCULATED, "id", "age", "formula")
    return is_name and isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _write_json(path: Path, frames: Sequence[Atoms], elements: Sequence[str] | None) -> None:
    entries = [atoms_to_json(atoms) for atoms in frames]
    path.write_text(json.dumps(entries[0] if len(entries) == 1 else entries))


_READERS: dict[str, Callable[[Path, Sequence[str] | None], Iterable[Atoms]]] = {
    "deepmd": _read_deepmd,
    "extxyz": _read_extxyz,
    "cif": _read_cif,
    "vasp": _read_vasp,
    "lammps-data": _read_lammps,
    "db": _read_db,
    "json": _read_json,
}
_WRITERS: dict[FileFormat, Callable[[Path, Sequence[Atoms], Sequence[str] | None], None]] = {
    "extxyz": _write_extxyz,
    "cif": _write_cif,
    "vasp": _write_vasp,
    "lammps-data": _write_lammps,
    "db": _write_db,
    "json": _write_json,
}
