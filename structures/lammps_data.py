"""LAMMPS data files: atom types get their chemical elements back.

A data file numbers its atoms' types. Which element a type is, is said by the caller, by a section ``Atom Type Labels``,
by a comment behind each mass, or by the masses, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import ase.io.lammpsdata
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from ..errors import StructureError

_MASS_TOLERANCE = 0.05  # atomic mass units
_SECTION = re.compile(r"^\s*([A-Z][A-Za-z ]*[a-z])\s*(#.*)?$")


def read_lammps_data(path: Path, elements: Sequence[str] | None = None) -> Atoms:
    """The structure of a data file, in the order of atom ids, in metal units.

    Args:
        elements: chemical symbols of the types 1, 2, ….

    Raises:
        StructureError: the element of a type is unknown, or fewer atoms than announced.
    """
    text = path.read_text()
    n_types, n_atoms = (_announced(path, text, what) for what in ("atom types", "atoms"))
    symbols = list(elements) if elements is not None else _elements(path, text, n_types)
    if len(symbols) < n_types:
        raise StructureError(f"{path}: has {n_types} atom types, but only elements {', '.join(symbols)} were given")
    unknown = [s for s in symbols if s not in atomic_numbers or s == "X"]
    if unknown:
        raise StructureError(f"{path}: {', '.join(unknown)} is not an element; give chemical symbols such as 'Ni'")
    numbers = {k: atomic_numbers[s] for k, s in enumerate(symbols[:n_types], start=1)}
    with path.open() as stream:
        atoms = ase.io.lammpsdata.read_lammps_data(stream, Z_of_type=numbers, units="metal")
    if len(atoms) != n_atoms:
        raise StructureError(f"{path}: announces {n_atoms} atoms and holds {len(atoms)}; it may be cut short")
    plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    if "velocities" in text.lower() and atoms.has("momenta"):
        plain.set_velocities(atoms.get_velocities())
    return plain


def write_lammps_data(path: Path, atoms: Atoms, elements: Sequence[str] | None = None) -> None:
    """Write a data file of ``atom_style atomic`` with masses, each with its element as a comment.

    Args:
        elements: the order of the types; by default those present, in alphabetical order.

    Raises:
        StructureError: the structure has an element that ``elements`` lacks.
    """
    present = sorted(set(atoms.get_chemical_symbols()))
    order = list(elements) if elements is not None else present
    missing = [s for s in present if s not in order]
    if missing:
        raise StructureError(f"{path}: the structure holds {', '.join(missing)}, the types are {', '.join(order)}")
    with path.open("w") as stream:
        ase.io.lammpsdata.write_lammps_data(
            stream, atoms, specorder=order, masses=True, units="metal", atom_style="atomic"
        )


def _announced(path: Path, text: str, what: str) -> int:
    match = re.search(rf"^\s*(\d+)\s+{what}\s*(#.*)?$", text, re.MULTILINE)
    if match is None:
        raise StructureError(f"{path}: no line gives the number of {what}; is this a LAMMPS data file?")
    return int(match[1])


def _elements(path: Path, text: str, n_types: int) -> list[str]:
    labels = {int(words[0]): words[1] for words, _ in _rows(text, "Atom Type Labels") if len(words) > 1}
    masses: dict[int, float] = {}
    for words, comment in _rows(text, "Masses"):
        kind = next((k for k, label in labels.items() if label == words[0]), None)
        kind = int(words[0]) if kind is None else kind
        masses[kind] = float(words[1])
        if comment:
            labels.setdefault(kind, comment.split()[0])
    return [_element(path, k, labels.get(k, ""), masses.get(k)) for k in range(1, n_types + 1)]


def _element(path: Path, kind: int, label: str, mass: float | None) -> str:
    if label in atomic_numbers and label != "X":
        return label
    if mass is not None:
        off = np.abs(atomic_masses - mass)
        off[0] = np.inf
        nearest = int(np.nanargmin(off))
        if off[nearest] < _MASS_TOLERANCE and int((off < _MASS_TOLERANCE).sum()) == 1:
            return chemical_symbols[nearest]
    raise StructureError(
        f"{path}: the element of atom type {kind} is unknown (label {label or 'none'}, mass {mass}); "
        "say which elements the types are, in order"
    )


def _rows(text: str, section: str) -> list[tuple[list[str], str]]:
    """Words and comment of each line of a section."""
    rows, is_inside = [], False
    for line in text.splitlines()[1:]:
        body, _, comment = line.partition("#")
        heading = _SECTION.match(line)
        if heading is not None:
            is_inside = heading[1] == section
        elif is_inside and body.strip():
            rows.append((body.split(), comment.strip()))
    return rows
