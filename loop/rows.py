"""Labels as users' files hold them: in ``atoms.info`` and ``atoms.arrays``, under names that end in their unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from ..generators.base import Evaluation, Failure
from ..oracles.base import Label

FAILURE_KEYS = ("failure", "failure_message")


def is_per_atom(value: Any, n_atoms: int) -> bool:
    """Whether a value belongs into ``atoms.arrays``: one vector an atom, such as forces."""
    return np.shape(value) == (n_atoms, 3)


def put_label(atoms: Atoms, label: Label) -> None:
    """Write the values of ``label`` into ``atoms``, in place; what failed before counts no more."""
    for key in FAILURE_KEYS:
        atoms.info.pop(key, None)
    for name, value in label.values.items():
        if is_per_atom(value, len(atoms)):
            atoms.arrays[name] = np.asarray(value, dtype=float)
        else:
            atoms.info[name] = float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=float)
    atoms.info["oracle_fingerprint"] = label.fingerprint


def put_failure(atoms: Atoms, failure: Failure) -> None:
    """Write a failure into ``atoms``, in place: its kind, and its message in one line."""
    atoms.info["failure"] = str(failure.kind)
    atoms.info["failure_message"] = " ".join(failure.message.split())


def labelled_row(given: Atoms, result: Label | Failure, *, is_final: bool = True) -> Atoms:
    """A copy of a row with what was found.

    Args:
        is_final: whether it gets the positions and the cell that the values belong to.
    """
    row = given.copy()
    if isinstance(result, Failure):
        put_failure(row, result)
        return row
    if is_final:
        row.set_cell(result.atoms.cell, scale_atoms=False)
        row.positions = result.atoms.positions
        row.pbc = result.atoms.pbc
    put_label(row, result)
    return row


def evaluation_row(evaluation: Evaluation) -> Atoms:
    """The relaxed structure of an evaluation, the requested one of a failed one, with all that is known of it."""
    result = evaluation.result
    atoms = (result.atoms if isinstance(result, Label) else evaluation.candidate.atoms).copy()
    atoms.calc = None
    atoms.info = {name: value for name, value in origin(evaluation).items() if value != ""}
    if isinstance(result, Label):
        put_label(atoms, result)
    else:
        put_failure(atoms, result)
    return atoms


def origin(evaluation: Evaluation) -> Mapping[str, Any]:
    """Where an evaluation came from, in plain values."""
    lineage = evaluation.candidate.lineage
    identity = evaluation.request_id
    return {
        "request_id": int(identity) if identity.isdecimal() else identity,
        "round": evaluation.round,
        "phase": evaluation.candidate.phase,
        "generator": lineage.generator,
        "move": lineage.move,
        "parents": " ".join(lineage.parents),
        "worker": evaluation.worker,
        "wall_s": evaluation.wall_s,
    }
