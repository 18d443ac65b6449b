"""Vacancies and the hops of neighbours into them, marked in a structure.

A vacancy is an atom of the species ``X`` (number 0): sites keep their indices, and what was removed no longer matters.
``info["neighbour"]`` is the index of the atom that hops into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from ..errors import StructureError
from .base import PHASES, Phase
from .phase import classify_phase

NEIGHBOUR_KEY = "neighbour"
N_NEAREST: dict[Phase, int] = {"bcc": 8, "fcc": 12}


@dataclass(frozen=True)
class VacancyHop:
    """Which atom hops where.

    Attributes:
        vacancy_site: index of the empty site.
        neighbour: index of the atom that hops into it, in the same numbering.
    """

    vacancy_site: int
    neighbour: int


def with_hop(perfect: Atoms, hop: VacancyHop) -> Atoms:
    """A copy of a structure with the vacancy and the hop marked.

    Args:
        perfect: the structure before anything is taken out.

    Raises:
        StructureError: an index that the structure does not have, or the same one twice.
    """
    for name in ("vacancy_site", "neighbour"):
        index = getattr(hop, name)
        if not 0 <= index < len(perfect):
            raise StructureError(f"{name} is {index}; the structure has atoms 0 to {len(perfect) - 1}")
    if hop.vacancy_site == hop.neighbour:
        raise StructureError(f"vacancy_site and neighbour are both {hop.neighbour}; an atom hops to another's site")
    marked = perfect.copy()
    marked.calc = None
    marked.numbers[hop.vacancy_site] = 0
    marked.info[NEIGHBOUR_KEY] = hop.neighbour
    return marked


def read_hop(atoms: Atoms) -> VacancyHop:
    """The hop that is marked in a structure.

    Raises:
        StructureError: not exactly one site is empty, or no atom is named that hops.
    """
    vacancies = np.flatnonzero(atoms.numbers == 0)
    if len(vacancies) != 1:
        raise StructureError(f"a hop needs one vacancy (an atom of species X), the structure has {len(vacancies)}")
    neighbour: Any = atoms.info.get(NEIGHBOUR_KEY)
    is_index = isinstance(neighbour, int | np.integer) and not isinstance(neighbour, bool)
    if not is_index or not 0 <= neighbour < len(atoms) or neighbour == vacancies[0]:
        raise StructureError(
            f"info[{NEIGHBOUR_KEY!r}] must be the index of the atom that hops into the vacancy {vacancies[0]}, got "
            f"{neighbour!r}"
        )
    return VacancyHop(int(vacancies[0]), int(neighbour))


def vector_between(atoms: Atoms, first: int, second: int) -> np.ndarray:
    """The shortest vector ``[3]``, Å, from an atom to an image of another."""
    vectors, _ = find_mic([atoms.positions[second] - atoms.positions[first]], atoms.cell, atoms.pbc)
    return np.asarray(vectors[0])


def nearest_neighbours(atoms: Atoms, site: int, phase: Phase | None = None) -> list[int]:
    """The atoms of the first shell, nearest first: 8 in BCC, 12 in FCC.

    Args:
        phase: by default what ``info["phase"]`` says, else what most of the atoms are in.

    Raises:
        StructureError: neither FCC nor BCC, or a cell so small that an atom is a neighbour twice.
    """
    stated = phase or atoms.info.get("phase")
    if stated not in PHASES:
        fractions = classify_phase(atoms).fractions
        stated = max(PHASES, key=lambda name: fractions[name])
        if fractions[stated] < 0.5:
            raise StructureError(
                "most atoms are neither in BCC nor in FCC, so their nearest neighbours are not defined; state the phase"
            )
    n = N_NEAREST[stated]
    _, distances = find_mic(atoms.positions - atoms.positions[site], atoms.cell, atoms.pbc)
    distances[site] = np.inf
    found = np.argsort(distances, kind="stable")[:n]
    # an atom that is reached twice fills one place only, and the next shell would fill the others
    if len(found) < n or distances[found[-1]] > (1.1 if stated == "bcc" else 1.3) * distances[found].mean():
        raise StructureError(
            f"the cell is too small: atom {site} has fewer than {n} different nearest neighbours; repeat the cell"
        )
    return [int(index) for index in found]
