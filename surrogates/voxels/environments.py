"""What an atom sees: the atoms around it, periodic images included, and it itself in the centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..potentials.graph import build_graph


@dataclass(frozen=True)
class Environments:
    """Atoms about each atom of some structures, laid end to end.

    Attributes:
        vectors: float64 ``[n_pairs, 3]``, from the atom in the centre, Å; the atom itself is the first of its own.
        numbers: int64 ``[n_pairs]``, atomic numbers.
        starts: int64 ``[n_environments + 1]``, the first pair of each environment.
    """

    vectors: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


def environments(structures: Sequence[Atoms], elements: Sequence[str], cutoff_ang: float) -> Environments:
    """The environments of all atoms of all structures, in their order.

    Within one the order of the atoms is that of their numbers in the structure.

    Raises:
        SurrogateError: an unknown element, or coordinates that are not finite.
    """
    vectors, numbers, sizes = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for atoms in structures:
        graph = build_graph(atoms, elements, cutoff_ang)
        itself = np.arange(len(atoms))
        first = np.concatenate([itself, graph.first, graph.second])
        second = np.concatenate([itself, graph.second, graph.first])
        order = np.lexsort((second, np.arange(len(first)) >= len(atoms), first))
        vectors.append(np.concatenate([np.zeros((len(atoms), 3)), graph.vectors, -graph.vectors])[order])
        numbers.append(atoms.numbers[second[order]].astype(np.int64))
        sizes.append(np.bincount(first, minlength=len(atoms)))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return Environments(np.concatenate(vectors), np.concatenate(numbers), starts)
