"""Tables of an embedded-atom potential, and the ``setfl`` files that hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers, reference_states

_NUMBERS_PER_LINE = 5


@dataclass(frozen=True)
class EamTables:
    """A model on grids.

    Attributes:
        elements: chemical symbols, in order.
        cutoff_ang: range of the pairs, Å; the last grid point.
        dr_ang: step of distances, Å; the first is 0.
        drho: step of densities; the first is 0.
        embedding: F in eV, ``[n_elements, n_rho]``.
        density: ρ made by each element, ``[n_elements, n_r]``.
        pair: φ in eV, ``[n_type_pairs, n_r]``, pairs (a, b) of elements with a ≤ b: (0, 0), (0, 1), ….
        dipole, quadrupole: u and w, as ``pair``; ``None`` for a model without angular terms.
    """

    elements: tuple[str, ...]
    cutoff_ang: float
    dr_ang: float
    drho: float
    embedding: np.ndarray
    density: np.ndarray
    pair: np.ndarray
    dipole: np.ndarray | None
    quadrupole: np.ndarray | None

    @property
    def rho_max(self) -> float:
        """The highest tabulated density; LAMMPS continues the embedding energy in a straight line beyond."""
        return self.drho * (self.embedding.shape[1] - 1)

    @property
    def is_angular(self) -> bool:
        """Whether there are dipole and quadrupole functions."""
        return self.dipole is not None and self.quadrupole is not None


def setfl_text(tables: EamTables, comment: str) -> str:
    """The tables in the ``setfl`` format of DYNAMO, which LAMMPS (``eam/alloy``, ``adp``), ASE and OpenKIM read.

    Args:
        comment: where the potential comes from, one line.
    """
    n_rho, n_r = tables.embedding.shape[1], tables.pair.shape[1]
    lines = [
        f"UNITS: metal {' '.join(comment.split())}",
        f"Functions of {' '.join(tables.elements)}: F(rho), rho(r), r*phi(r)" + (", u(r), w(r)" * tables.is_angular),
        f"Valid for densities from 0 to {tables.rho_max:.6g} and distances from 0 to {tables.cutoff_ang:g} Angstrom",
        f"{len(tables.elements)} {' '.join(tables.elements)}",
        f"{n_rho} {tables.drho:.17g} {n_r} {tables.dr_ang:.17g} {tables.cutoff_ang:.17g}",
    ]
    for k, symbol in enumerate(tables.elements):
        number = atomic_numbers[symbol]
        state = reference_states[number] or {}
        lines.append(f"{number} {atomic_masses[number]:.6f} {state.get('a', 0.0):.4f} {state.get('symmetry', 'none')}")
        lines += [_block(tables.embedding[k]), _block(tables.density[k])]
    distances = np.arange(n_r) * tables.dr_ang
    for index in _file_order(len(tables.elements)):
        lines.append(_block(distances * tables.pair[index]))
    for table in (tables.dipole, tables.quadrupole):
        if table is not None:
            lines += [_block(table[index]) for index in _file_order(len(tables.elements))]
    return "\n".join(lines) + "\n"


def grid_step(length: float, n_points: int) -> float:
    """The grid's step, rounded so that the last point is not below the cutoff: some readers insist."""
    step = length / (n_points - 1)
    return step if step * (n_points - 1) >= length else math.nextafter(step, math.inf)


def _file_order(n_elements: int) -> list[int]:
    """Places of the type pairs in the order of setfl files: (1,1), (2,1), (2,2), (3,1), …."""
    place = {pair: k for k, pair in enumerate((a, b) for a in range(n_elements) for b in range(a, n_elements))}
    return [place[(b, a)] for a in range(n_elements) for b in range(a + 1)]


def _block(values: np.ndarray) -> str:
    words = [f"{value: .16e}" for value in values.tolist()]
    return "\n".join(" ".join(words[k : k + _NUMBERS_PER_LINE]) for k in range(0, len(words), _NUMBERS_PER_LINE))
