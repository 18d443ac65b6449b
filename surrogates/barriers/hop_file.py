"""Tables of hops: somebody's CSV and structure files, checked row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atom, Atoms

from ...errors import StructureError
from ...structures.files import read_structures
from ..base import SurrogateError
from .crystal_lattice import CrystalLattice
from .data_settings import HopDataSettings
from .hop_lattice import hop_lattice
from .hops import PER_HOP, VACANT, Hops, hop_directions

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "structure": ("structure", "structure_file", "file", "path", "filename", "poscar"),
    "vacancy_site": ("vacancy_site", "vacancy", "vacancy_index", "vacancy_id", "site"),
    "neighbour": (
        "neighbour",
        "neighbor",
        "neighbour_index",
        "neighbor_index",
        "moving_atom",
        "mover",
        "migrating_atom",
    ),
    "barrier": (
        "barrier_ev",
        "barrier",
        "energy_barrier",
        "migration_barrier",
        "migration_energy",
        "migration_energy_ev",
    ),
    "barrier_backward": (
        "barrier_backward_ev",
        "barrier_backward",
        "backward_barrier",
        "backward_barrier_ev",
        "reverse_barrier",
    ),
    "group": ("composition", "alloy", "group"),
    "split": ("split",),
    "failure": ("failure",),
}
_POSITION = ("vacancy_x", "vacancy_y", "vacancy_z")
_PARTS = {"train": "training", "val": "validation"}
_N_NAMED = 10
_ON_SITE_ANG = 0.5  # an atom this near to a vacancy's position is in its place


class HopFileError(SurrogateError):
    """A table of hops cannot be used; the message names its rows."""


@dataclass(frozen=True)
class HopTable:
    """A table as it was read.

    Attributes:
        hops: the usable rows.
        parts: ``[n_hops]``, what a column `split` says: ``training``, ``validation``, ``test``, or nothing.
        header: names of the columns.
        lines: all rows, as text by column.
        dropped: row number from 1 -> why it is no hop: what is wrong with it, or how its calculation failed.
    """

    hops: Hops
    parts: np.ndarray
    header: tuple[str, ...]
    lines: tuple[Mapping[str, str], ...]
    dropped: Mapping[int, str]


@dataclass
class _Rows:
    """Rows on their way into :class:`Hops`."""

    crystals: list[Atoms] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    values: list[tuple[int, int, int, float, float, str, int]] = field(default_factory=list)


def read_hops(path: Path, settings: HopDataSettings | None = None, *, barriers_needed: bool = True) -> HopTable:
    """Read a table and the structures it names.

    Args:
        barriers_needed: whether a row without a barrier is bad; otherwise its barrier is NaN.

    Raises:
        HopFileError: the file or a column is missing, or rows are bad (missing structure, number out of range, not a
            nearest neighbour, no number for a barrier, a hop that is there twice) and ``on_bad_row`` is ``error``. A
            row without a barrier whose column ``failure`` says why is left out in either case.
    """
    settings = settings or HopDataSettings()
    header, lines = _read_table(path)
    columns = _columns(path, header, settings, barriers_needed)
    rows = _collect(path.parent, lines, columns, settings, barriers_needed)
    hops = _checked(rows)
    problems = dict(sorted(rows.problems.items()))
    if problems and (settings.on_bad_row == "error" or len(hops) == 0):
        raise HopFileError(told_rows(path, problems, len(lines)))
    named = [lines[row - 1].get(columns["split"] or "", "").lower() for row in hops.rows.tolist()]
    parts = np.array([_PARTS.get(name, name) for name in named], dtype=str)
    return HopTable(hops, parts, header, lines, dict(sorted({**problems, **rows.failed}.items())))


def join(parts: Sequence[Hops]) -> Hops:
    """The hops of several tables as one."""
    offsets: list[int] = []
    crystals: list[Atoms] = []
    lattices: dict[int, CrystalLattice] = {}
    for part in parts:
        offsets.append(len(crystals))
        crystals += part.crystals
        lattices |= {k + offsets[-1]: found for k, found in part.lattices.items()}
    crystal = np.concatenate([part.crystal + offset for part, offset in zip(parts, offsets, strict=True)])
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_HOP}
    return Hops(tuple(crystals), crystal, **columns, lattices=lattices)


def with_returns(hops: Hops) -> Hops:
    """The hops, and those of them the other way whose barriers are known, in the same crystals."""
    known = np.flatnonzero(np.isfinite(hops.return_barriers_ev))
    back = hops.returning().take(known)
    columns = {name: np.concatenate([getattr(hops, name), getattr(back, name)]) for name in PER_HOP}
    return Hops(hops.crystals, np.concatenate([hops.crystal, back.crystal]), **columns, lattices=hops.lattices)


def told_rows(path: Path | str, problems: Mapping[int, str], n_rows: int) -> str:
    """The message for bad rows of a table: row from 1 -> what is wrong with it."""
    named = [f"row {number}: {reason}" for number, reason in list(problems.items())[:_N_NAMED]]
    more = f"\n… and {len(problems) - _N_NAMED} more" if len(problems) > _N_NAMED else ""
    return (
        f"{path}: {len(problems)} of {n_rows} rows are bad; correct them, or leave them out with "
        "`on_bad_row: drop`\n" + "\n".join(named) + more
    )


def _read_table(path: Path) -> tuple[tuple[str, ...], tuple[Mapping[str, str], ...]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HopFileError(f"cannot read the table {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise HopFileError(f"{path} is no text in UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(kept) < 2:
        raise HopFileError(f"{path} holds no rows; the first line names the columns")
    delimiter = max(",;\t", key=kept[0].count)
    reader = csv.DictReader(io.StringIO("\n".join(kept)), delimiter=delimiter, skipinitialspace=True)
    header = tuple(name.strip() for name in reader.fieldnames or ())
    reader.fieldnames = list(header)
    lines = tuple({k: (v or "").strip() for k, v in line.items() if isinstance(k, str)} for line in reader)
    return header, lines


def _columns(
    path: Path, header: Sequence[str], settings: HopDataSettings, barriers_needed: bool
) -> Mapping[str, str | None]:
    """Which column of the table holds what."""
    folded = {name.lower().replace(" ", "_"): name for name in header}
    found: dict[str, str | None] = {}
    for what, aliases in _ALIASES.items():
        named = getattr(settings.columns, what, None)
        if named is not None and named not in header:
            raise HopFileError(f"{path} has no column {named!r} ({what}); it has {', '.join(header)}")
        found[what] = named or next((folded[alias] for alias in aliases if alias in folded), None)
    for name in _POSITION:
        found[name] = folded.get(name)
    has_position = all(found[name] is not None for name in _POSITION)
    required = ["structure", "neighbour", *(["barrier"] if barriers_needed else [])]
    missing = [what for what in required if found[what] is None]
    if found["vacancy_site"] is None and not has_position:
        missing.append("vacancy_site")
    if missing:
        raise HopFileError(
            f"{path} has no column for {', '.join(missing)}; it has {', '.join(header)}. Name them in the settings: "
            f"data.columns.{missing[0]}: NAME"
        )
    return found


def _collect(
    folder: Path,
    lines: Sequence[Mapping[str, str]],
    columns: Mapping[str, str | None],
    settings: HopDataSettings,
    barriers_needed: bool,
) -> _Rows:
    """Parse the rows; the crystal of each is read once."""
    rows = _Rows()
    files: dict[str, list[Atoms] | str] = {}
    crystals: dict[tuple[str, ...], int | str] = {}
    for number, line in enumerate(lines, start=1):
        text = {what: "" if name is None else line.get(name, "") for what, name in columns.items()}
        if barriers_needed and text["failure"] and not text["barrier"]:
            rows.failed[number] = f"its calculation failed: {text['failure']}"
            continue
        try:
            neighbour = _whole_number(text["neighbour"], "neighbour") - settings.first_index
            position: tuple[str, ...] = ()
            vacancy = -1
            if columns["vacancy_site"] is not None and text["vacancy_site"]:
                vacancy = _whole_number(text["vacancy_site"], "vacancy_site") - settings.first_index
            else:
                position = tuple(text[name] for name in _POSITION)
            key = (text["structure"], *position)
            if key not in crystals:
                crystals[key] = _add_crystal(rows, folder, files, text["structure"], position)
            crystal = crystals[key]
            if isinstance(crystal, str):
                raise ValueError(crystal)
            if position:
                vacancy = len(rows.crystals[crystal]) - 1
            barrier = _barrier(text["barrier"], settings, barriers_needed)
            back = _barrier(text["barrier_backward"], settings, is_needed=False)
        except ValueError as error:
            rows.problems[number] = str(error)
            continue
        group = text["group"] or _composition(rows.crystals[crystal])
        rows.values.append((crystal, vacancy, neighbour, barrier, back, group, number))
    return rows


def _add_crystal(
    rows: _Rows, folder: Path, files: dict[str, list[Atoms] | str], text: str, position: Sequence[str]
) -> int | str:
    """Number of a new crystal, or what is wrong with it."""
    try:
        atoms = _structure(folder, files, text)
        if position:
            try:
                place = [float(value) for value in position]
            except ValueError:
                return f"the vacancy's position is {', '.join(position)}, not three numbers"
            atoms = _with_vacancy(atoms, place)
    except StructureError as error:
        return " ".join(str(error).split())
    rows.crystals.append(atoms)
    return len(rows.crystals) - 1


def _structure(folder: Path, files: dict[str, list[Atoms] | str], text: str) -> Atoms:
    """The structure of ``path`` or ``path@index``."""
    if not text:
        raise StructureError("no structure is named")
    name, _, index_text = text.rpartition("@") if "@" in text and not (folder / text).exists() else (text, "", "")
    if name not in files:
        try:
            files[name] = _read_any(folder / name)
        except StructureError as error:
            files[name] = str(error)
    frames = files[name]
    if isinstance(frames, str):
        raise StructureError(frames)
    if not index_text:
        if len(frames) > 1:
            raise StructureError(f"{name} holds {len(frames)} structures; name one as {name}@0")
        return frames[0]
    if not index_text.lstrip("-").isdigit() or not -len(frames) <= int(index_text) < len(frames):
        raise StructureError(f"{name} holds structures 0 to {len(frames) - 1}, got @{index_text}")
    return frames[int(index_text)]


def _read_any(path: Path) -> list[Atoms]:
    """The structures of a file in one of the product's formats, or of any that ASE knows."""
    if not path.is_file():
        raise StructureError(f"there is no file {path}")
    try:
        return read_structures(path)
    except StructureError as ours:
        try:
            frames = ase.io.read(path, index=":")
        except Exception as error:  # readers raise anything
            raise StructureError(f"{ours}; nor can ASE read it ({error or type(error).__name__})") from error
        if not frames:
            raise
        return list(frames)


def _with_vacancy(atoms: Atoms, place: Sequence[float]) -> Atoms:
    """The crystal with an unknown atom, the last one, in the vacancy of ``atoms``."""
    filled = atoms.copy()
    filled.append(Atom(VACANT, position=place))
    others = np.arange(len(atoms))
    if filled.get_distances(len(atoms), others, mic=True).min() < _ON_SITE_ANG:
        raise StructureError("there is an atom at the vacancy's position; give the structure that has the vacancy")
    return filled


def _whole_number(text: str, what: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or value != int(value):
        raise ValueError(f"{what} is {text or 'empty'!r}, not a whole number")
    return int(value)


def _barrier(text: str, settings: HopDataSettings, is_needed: bool) -> float:
    try:
        value = float(text) if text else np.nan
    except ValueError:
        raise ValueError(f"the barrier is {text!r}, not a number") from None
    if not np.isfinite(value) and is_needed:
        raise ValueError(f"the barrier is {text or 'empty'}, not a finite number")
    return value / 1000.0 if settings.barrier_unit == "meV" else value


def _composition(atoms: Atoms) -> str:
    """Composition in per cent, such as ``Mo33Nb34Ta33``."""
    numbers = atoms.numbers[atoms.numbers != VACANT]
    symbols, counts = np.unique(Atoms(numbers=numbers).symbols, return_counts=True)
    return "".join(
        f"{symbol}{round(100.0 * n / len(numbers))}" for symbol, n in zip(symbols, counts.tolist(), strict=True)
    )


def _checked(rows: _Rows) -> Hops:
    """The rows that pass the checks that need the whole crystal; the others are added to the problems."""
    columns = list(zip(*rows.values, strict=True)) or [()] * 7
    crystal, vacancy, neighbour = (np.array(column, dtype=np.int64) for column in columns[:3])
    hops = Hops(
        tuple(rows.crystals),
        crystal,
        vacancy,
        neighbour,
        np.array(columns[3], dtype=float),
        np.array(columns[5], dtype=str),
        np.array(columns[6], dtype=np.int64),
        return_barriers_ev=np.array(columns[4], dtype=float),
    )
    is_good = np.ones(len(hops), dtype=bool)
    for k, members in hops.by_crystal():
        reasons = _against(hops, k, members)
        for member, reason in zip(members, reasons, strict=True):
            if reason:
                rows.problems[int(hops.rows[member])] = reason
                is_good[member] = False
    keys = np.stack([crystal, vacancy, neighbour], axis=1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    for member in np.flatnonzero((first[inverse.ravel()] != np.arange(len(hops))) & is_good):
        rows.problems[int(hops.rows[member])] = (
            f"the hop of row {hops.rows[first[inverse.ravel()[member]]]} once more (same structure and atoms)"
        )
        is_good[member] = False
    return hops.take(is_good)


def _against(hops: Hops, crystal_index: int, members: np.ndarray) -> list[str]:
    """What is wrong with each of some hops of one crystal; empty if nothing."""
    atoms, vacancy, neighbour = hops.crystals[crystal_index], hops.vacancy[members], hops.neighbour[members]
    n_atoms = len(atoms)
    reasons = [""] * len(vacancy)
    is_inside = (vacancy >= 0) & (vacancy < n_atoms) & (neighbour >= 0) & (neighbour < n_atoms)
    for k in np.flatnonzero(~is_inside):
        reasons[k] = f"atoms {vacancy[k]} and {neighbour[k]}; the structure has atoms 0 to {n_atoms - 1}"
    try:
        crystal = hops.lattice(crystal_index)
    except StructureError as error:
        return [reason or f"the structure cannot be used: {error}" for reason in reasons]
    lattice = hop_lattice(crystal.phase, 1)
    direction = hop_directions(crystal, lattice, np.where(is_inside, vacancy, 0), np.where(is_inside, neighbour, 0))
    for k in np.flatnonzero((direction < 0) & is_inside):
        distance = atoms.get_distance(int(vacancy[k]), int(neighbour[k]), mic=True)
        nearest = np.linalg.norm(lattice.hop @ crystal.axes / 2.0)
        reasons[k] = (
            f"atom {neighbour[k]} is {distance:.2f} Å from the vacancy at {vacancy[k]} and no nearest neighbour "
            f"(those are at {nearest:.2f} Å)"
        )
    return reasons
