"""Barriers of many hops: which hops, and the table and the structures that come of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from ase import Atoms

from ..errors import StructureError
from ..generators.base import Failure
from ..oracles.base import Label
from ..structures.base import Phase
from ..structures.composition import format_composition
from ..structures.files import read_structures
from ..structures.vacancy_hop import VacancyHop, nearest_neighbours, with_hop
from .rows import put_label

COLUMNS = (
    "structure",
    "vacancy_site",
    "neighbour",
    "barrier_ev",
    "barrier_backward_ev",
    "moving_species",
    "composition",
    "split",
    "failure",
    "failure_message",
    "cpu_s",
)
"""Columns of a table of barriers; indices count from 0 and are those of the structure with the vacancy's atom."""


@dataclass(frozen=True)
class WantedHop:
    """A hop to label.

    Attributes:
        source: ``path`` or ``path@index`` of the structure, as the table names it.
        crystal: the structure, with all its atoms.
        hop: in the structure's numbering.
    """

    source: str
    crystal: Atoms
    hop: VacancyHop

    def marked(self) -> Atoms:
        """What an oracle is asked, without the structure's own notes."""
        bare = Atoms(
            numbers=self.crystal.numbers, positions=self.crystal.positions, cell=self.crystal.cell, pbc=self.crystal.pbc
        )
        return with_hop(bare, self.hop)


def random_hops(
    structures: Path,
    *,
    n_hops: int | None = None,
    n_vacancies: int | None = None,
    phase: Phase | None = None,
    folder: Path,
    seed: int,
) -> list[WantedHop]:
    """Hops into random vacancies of every structure of a file, one structure after the other in turn.

    Args:
        n_hops: so many different hops of each structure, at random among all of them.
        n_vacancies: all hops into so many different vacancies of each; without either, into every site.
        phase: which neighbours are the nearest; by default what the structures say or are.
        folder: that the table will be in, which its paths are relative to.

    Raises:
        StructureError: the file cannot be read, a cell is too small, or neither FCC nor BCC.
    """
    frames = read_structures(structures)
    named = path_in(structures, folder)
    rounds: list[list[WantedHop]] = []
    for index, crystal in enumerate(frames):
        rng = np.random.default_rng([seed, index])
        source = f"{named}@{index}" if len(frames) > 1 else named
        n_sites = len(crystal)
        neighbours = cache(partial(nearest_neighbours, crystal, phase=phase))
        n_near = len(neighbours(0))
        if n_hops is not None:
            chosen = rng.permutation(n_sites * n_near)[:n_hops]
        else:
            sites = rng.permutation(n_sites)[: n_sites if n_vacancies is None else n_vacancies]
            chosen = (sites[:, None] * n_near + np.arange(n_near)).ravel()
        hops = []
        for code in chosen.tolist():
            site = code // n_near
            hops.append(VacancyHop(site, neighbours(site)[code % n_near]))
        step = 1 if n_hops is not None else n_near  # hops into one vacancy follow one another
        for k in range(0, len(hops), step):
            if k // step == len(rounds):
                rounds.append([])
            rounds[k // step] += [WantedHop(source, crystal, hop) for hop in hops[k : k + step]]
    return [hop for one_round in rounds for hop in one_round]


def listed_hops(table: Path, folder: Path) -> list[WantedHop]:
    """The hops of a CSV table with the columns ``structure``, ``vacancy_site`` and ``neighbour``.

    Args:
        folder: that the new table will be in, which its paths are relative to.

    Raises:
        StructureError: it cannot be read, a column is missing, or a row names no hop; with the line.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text()), restval=""))
    except (OSError, UnicodeDecodeError) as error:
        raise StructureError(f"{table} cannot be read ({error})") from error
    missing = [name for name in COLUMNS[:3] if not rows or name not in rows[0]]
    if missing:
        raise StructureError(
            f"{table} needs rows and the columns {', '.join(COLUMNS[:3])}; missing: {', '.join(missing)}"
        )
    frames: dict[str, list[Atoms]] = {}
    found = []
    for number, row in enumerate(rows, start=2):
        name, _, index = row["structure"].rpartition("@") if "@" in row["structure"] else (row["structure"], "", "")
        if name not in frames:
            frames[name] = read_structures(table.parent / name)
        try:
            crystal = _chosen(frames[name], name, index)
            hop = VacancyHop(int(row["vacancy_site"]), int(row["neighbour"]))
            with_hop(crystal, hop)
        except (ValueError, StructureError) as error:
            raise StructureError(f"line {number} of {table} names no hop: {error}") from error
        source = path_in(table.parent / name, folder) + (f"@{index}" if index else "")
        found.append(WantedHop(source, crystal, hop))
    return found


def _chosen(frames: Sequence[Atoms], name: str, index: str) -> Atoms:
    if not index and len(frames) > 1:
        raise StructureError(f"{name} holds {len(frames)} structures; name one as {name}@0")
    number = int(index or "0")
    if not 0 <= number < len(frames):
        raise StructureError(f"{name} holds structures 0 to {len(frames) - 1}, got @{index}")
    return frames[number]


def table_text(hops: Sequence[WantedHop], results: Sequence[Label | Failure | None]) -> str:
    """The table of barriers as CSV; hops that have not been reached are left out."""
    pairs = zip(hops, results, strict=True)
    return rows_text([table_row(wanted, result) for wanted, result in pairs if result is not None])


def rows_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of a table of barriers as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def saddle_rows(hops: Sequence[WantedHop], results: Sequence[Label | Failure | None]) -> list[Atoms]:
    """Saddles of the hops that have one, each with its hop and its path in ``info``; the vacancy is an atom ``X``."""
    rows = []
    for wanted, result in zip(hops, results, strict=True):
        if isinstance(result, Label):
            atoms = result.atoms.copy()
            atoms.info |= {"structure": wanted.source, "vacancy_site": wanted.hop.vacancy_site}
            atoms.info["composition"] = _composition(wanted.crystal)
            put_label(atoms, result)
            rows.append(atoms)
    return rows


def table_row(wanted: WantedHop, result: Label | Failure) -> dict[str, str]:
    """A row of the table of barriers, by column."""
    row = {
        "structure": wanted.source,
        "vacancy_site": str(wanted.hop.vacancy_site),
        "neighbour": str(wanted.hop.neighbour),
        "moving_species": str(wanted.crystal.symbols[wanted.hop.neighbour]),
        "composition": _composition(wanted.crystal),
        "split": str(wanted.crystal.info.get("split", "")),
    }
    if isinstance(result, Failure):
        return row | {"failure": str(result.kind), "failure_message": " ".join(result.message.split())}
    return row | {
        "barrier_ev": f"{float(result.values['barrier_forward_ev']):.6f}",
        "barrier_backward_ev": f"{float(result.values['barrier_backward_ev']):.6f}",
        "cpu_s": f"{result.cpu_s:.3f}",
    }


def _composition(crystal: Atoms) -> str:
    symbols, counts = np.unique(crystal.get_chemical_symbols(), return_counts=True)
    return format_composition(dict(zip(symbols.tolist(), counts.tolist(), strict=True)))


def path_in(path: Path, folder: Path) -> str:
    """How a table in ``folder`` names a file: relative to it where the file is below, else from the root."""
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())
