"""pymatgen structures: conversion to and from ASE, and their JSON form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ..errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure


def to_pymatgen(atoms: Atoms) -> Structure:
    """The same crystal as a pymatgen ``Structure``; ``info`` becomes its properties, arrays its site properties.

    Raises:
        StructureError: the structure is not periodic in all directions.
    """
    from pymatgen.core import Lattice, Structure  # loading it takes longer than all the rest of the package

    if not atoms.pbc.all():
        raise StructureError(f"a pymatgen Structure is periodic in three directions, got pbc {atoms.pbc.tolist()}")
    return Structure(
        Lattice(atoms.cell.array),
        atoms.get_chemical_symbols(),
        atoms.positions,
        coords_are_cartesian=True,
        site_properties={k: v.tolist() for k, v in atoms.arrays.items() if k not in ("numbers", "positions")},
        properties={k: _plain(v) for k, v in atoms.info.items()},
    )


def from_pymatgen(structure: Structure) -> Atoms:
    """The inverse of :func:`to_pymatgen`; oxidation states are dropped.

    Raises:
        StructureError: sites are shared by several elements.
    """
    if not structure.is_ordered:
        raise StructureError("a site is shared by several elements; give an ordered structure")
    atoms = Atoms(
        numbers=structure.atomic_numbers,
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=True,
        info=dict(structure.properties),
    )
    for name, values in structure.site_properties.items():
        if not any(value is None for value in values):
            atoms.set_array(name, np.asarray(values))
    return atoms


def atoms_to_json(atoms: Atoms) -> dict[str, Any]:
    """A pymatgen ``Structure`` as plain data, as ``Structure.as_dict`` gives it."""
    return dict(to_pymatgen(atoms).as_dict())


def atoms_from_json(data: Any) -> Atoms:
    """Read what :func:`atoms_to_json` or pymatgen wrote.

    Raises:
        StructureError: no pymatgen structure.
    """
    from pymatgen.core import Structure  # see to_pymatgen

    if not isinstance(data, dict) or data.get("@class") != "Structure":
        raise StructureError(
            "the JSON is not a pymatgen Structure (its '@class' must be 'Structure') or a list of them"
        )
    return from_pymatgen(Structure.from_dict(data))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
