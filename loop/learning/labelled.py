"""Structures of a learning with their labels: rows of its files, and frames to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from ...generators.base import Failure
from ...oracles.base import Label
from ...structures.files import read_structures
from ...surrogates.potentials.frame import Frame
from ..rows import put_failure, put_label

IS_TEST = "is_test"
"""In the info of structures: whether their labels are never learnt from."""


def labelled_row(atoms: Atoms, result: Label | Failure) -> Atoms:
    """What was chosen, with its label or the reason why it has none."""
    row = atoms.copy()
    if isinstance(result, Label):
        put_label(row, result)
    else:
        put_failure(row, result)
    return row


def read_labelled(path: Path, group: str) -> tuple[list[Frame], list[Frame]]:
    """Frames of a file of labelled rows: those to learn from, and those of test structures; failed rows are left out.

    Args:
        group: what the frames are called.
    """
    rows = [atoms for atoms in read_structures(path) if "failure" not in atoms.info]
    learnt = [_frame(atoms, group) for atoms in rows if not atoms.info.get(IS_TEST, False)]
    return learnt, [_frame(atoms, group) for atoms in rows if atoms.info.get(IS_TEST, False)]


def failures_of(rows: Sequence[Atoms]) -> Counter[str]:
    """Why rows have no label -> how many of them."""
    return Counter(
        f"{atoms.info['failure']}: {atoms.info.get('failure_message', '')}" for atoms in rows if "failure" in atoms.info
    )


def _frame(atoms: Atoms, group: str) -> Frame:
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    stress = voigt_6_to_full_3x3_stress(np.asarray(atoms.info["stress_ev_ang3"], dtype=float))
    return Frame(bare, float(atoms.info["energy_ev"]), atoms.arrays["forces_ev_ang"], stress, group, group)
