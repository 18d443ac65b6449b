"""Phases and the identity of a structure."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np
from ase import Atoms

Phase = Literal["fcc", "bcc"]
PHASES: tuple[Phase, ...] = get_args(Phase)


def structure_id(atoms: Atoms) -> str:
    """Content hash of a structure: species, cell, periodicity and positions, in site order.

    Lengths are rounded to 1e-6 Å, so a structure written to a file and read back keeps its id.
    Two orderings that a lattice symmetry maps onto each other have different ids; compare those with
    :meth:`~alloysmith.structures.lattice.ParentLattice.canonical`.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(atoms.numbers, dtype="<i4").tobytes())
    for lengths in (atoms.cell.array, atoms.positions):
        rounded = np.round(lengths * 1e6).astype("<i8")
        digest.update(np.ascontiguousarray(rounded).tobytes())
    digest.update(bytes(bool(p) for p in atoms.pbc))
    return digest.hexdigest()
