"""Extended XYZ to the last bit: ASE reads it; written here, because ASE rounds coordinates to 1e-8 Å."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str
from ase.stress import voigt_6_to_full_3x3_stress

from ..errors import StructureError

_COLUMN_KINDS = {"f": "R", "i": "I", "u": "I", "b": "L", "U": "S"}


def iterate_extxyz(path: Path) -> Iterator[Atoms]:
    """The frames of a file, gzipped if its name ends so, read as they are asked for.

    Values are in ``info`` and ``arrays``, none in a calculator.
    """
    # ASE goes back and forth in the file, and each step back in a gzipped one would begin at its start
    is_gzipped = path.suffix.lower() == ".gz"
    whole = io.StringIO(gzip.decompress(path.read_bytes()).decode()) if is_gzipped else None
    with whole or path.open(encoding="utf-8") as file:
        if not any(line.strip() for line in file):
            return
        file.seek(0)
        for atoms in ase.io.iread(file, index=":", format="extxyz"):
            take_results(atoms)
            atoms.info = {k: v.item() if isinstance(v, np.generic) else v for k, v in atoms.info.items()}
            yield atoms


def take_results(atoms: Atoms) -> None:
    """Move what a calculator has computed into ``info`` and ``arrays``, in place, and drop the calculator."""
    results: dict[str, Any] = {} if atoms.calc is None else dict(atoms.calc.results)
    atoms.calc = None
    for name, value in results.items():
        is_per_atom = np.shape(value)[:1] == (len(atoms),) and name not in ("stress", "dipole")
        (atoms.arrays if is_per_atom else atoms.info)[name] = value


def write_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Write frames with ``info`` and all per-atom arrays; numbers in the shortest form that reads back exactly.

    Raises:
        StructureError: a per-atom array that is not of numbers, booleans or strings.
    """
    raw = "".join(map(_frame, frames)).encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix.lower() == ".gz" else raw)


def append_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Add frames at the end of a file that is not compressed, written as by :func:`write_extxyz`."""
    with path.open("ab") as file:
        file.write("".join(map(_frame, frames)).encode())


def _frame(atoms: Atoms) -> str:
    columns: dict[str, np.ndarray] = {"species": np.array(atoms.get_chemical_symbols()), "pos": atoms.positions}
    columns |= {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    properties, cells = [], []
    for name, array in columns.items():
        kind = _COLUMN_KINDS.get(array.dtype.kind)
        if kind is None or array.ndim > 2 or " " in name or ":" in name:
            raise StructureError(
                f"the per-atom array {name!r} of {array.dtype}, shape {array.shape}, has no place in XYZ"
            )
        table = array.reshape(len(atoms), -1)
        properties.append(f"{name}:{kind}:{table.shape[1]}")
        cells.append([[_text(value) for value in row] for row in table.tolist()])
    header = {"Lattice": atoms.cell.array.T} if atoms.cell.rank == 3 else {}
    info = dict(atoms.info)
    if np.shape(info.get("stress", ())) == (6,):  # the one name whose shape the format fixes
        info["stress"] = voigt_6_to_full_3x3_stress(info["stress"])
    comment = key_val_dict_to_str(header | {"Properties": ":".join(properties)} | info | {"pbc": atoms.pbc})
    rows = [" ".join(word for cell in row for word in cell) for row in zip(*cells, strict=True)]
    return "\n".join([str(len(atoms)), comment, *rows, ""])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return repr(value) if isinstance(value, float) else str(value)
