"""Hops that several tables have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from ase import Atoms

from .data_settings import HopDataSettings
from .hop_file import HopFileError, HopTable, told_rows
from .hops import Hops

_SAME_ANG = 1e-3  # structures whose lengths agree to this are the same


def without_repeats(tables: Mapping[str, HopTable], settings: HopDataSettings) -> dict[str, HopTable]:
    """Tables without the hops that an earlier table has: the same two atoms of the same structure.

    Raises:
        HopFileError: there are such hops and ``on_bad_row`` is ``error``.
    """
    seen: dict[tuple[str, int, int], str] = {}
    kept: dict[str, HopTable] = {}
    for name, table in tables.items():
        keys = dict(zip(table.hops.rows.tolist(), _keys(table.hops), strict=True))
        repeated = {
            row: f"the hop of {seen[key]} once more (same structure and atoms)"
            for row, key in keys.items()
            if key in seen
        }
        if repeated and settings.on_bad_row == "error":
            raise HopFileError(told_rows(name, repeated, len(table.lines)))
        is_new = ~np.isin(table.hops.rows, list(repeated))
        dropped = dict(sorted({**table.dropped, **repeated}.items()))
        kept[name] = replace(table, hops=table.hops.take(is_new), parts=table.parts[is_new], dropped=dropped)
        seen |= {key: f"{name}, row {row}" for row, key in keys.items() if row not in repeated}
    return kept


def _keys(hops: Hops) -> list[tuple[str, int, int]]:
    """What makes hops the same: species and places in the crystal, and the two atoms."""
    contents = {k: _content(hops.crystals[k]) for k in np.unique(hops.crystal).tolist()}
    columns = (hops.crystal.tolist(), hops.vacancy.tolist(), hops.neighbour.tolist())
    return [(contents[k], vacancy, neighbour) for k, vacancy, neighbour in zip(*columns, strict=True)]


def _content(atoms: Atoms) -> str:
    found = blake2b(atoms.numbers.tobytes(), digest_size=16)
    for lengths in (atoms.positions, atoms.cell.array):
        found.update(np.rint(lengths / _SAME_ANG).astype(np.int64).tobytes())
    return found.hexdigest()
