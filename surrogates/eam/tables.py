"""The functions of a model on uniform grids, as files for other programs hold them.

All functions start at zero distance and zero density, where they are finite. Between grid points programs interpolate
with cubic polynomials; with the default grids that changes energies by less than 1e-8 eV/atom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers, reference_states

from ...structures.whole_file import write_whole
from ..base import SurrogateError
from .model import EamModel
from .radial import type_pairs

_SHORTEST_OF_NEIGHBOUR = 0.65
_FCC_SHELLS = ((12, 1.0), (6, math.sqrt(2.0)), (24, math.sqrt(3.0)), (12, 2.0))
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
        pair: φ in eV, ``[n_type_pairs, n_r]``, pairs in the order of :func:`~.radial.type_pairs`.
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


def tabulate(model: EamModel, *, n_r: int = 4001, n_rho: int = 10001, rho_max: float | None = None) -> EamTables:
    """Evaluate the functions of a model on grids.

    Args:
        n_r, n_rho: number of grid points.
        rho_max: highest density; :func:`highest_density` by default.

    Raises:
        SurrogateError: grids too coarse to be used, or a function that is not finite on them.
    """
    if min(n_r, n_rho) < 500:
        raise SurrogateError(f"tables need at least 500 points, got n_r = {n_r} and n_rho = {n_rho}")
    elements = model.elements
    pairs = type_pairs(len(elements))
    top = highest_density(model) if rho_max is None else rho_max
    if not (math.isfinite(top) and top > 0.0):
        raise SurrogateError(f"the highest density of the tables must be finite and above zero, got {top}")
    dr, drho = _step(model.cutoff_ang, n_r), top / (n_rho - 1)
    distances = torch.arange(n_r, dtype=torch.float64) * dr
    distances[-1] = model.cutoff_ang
    densities = torch.arange(n_rho, dtype=torch.float64) * drho
    counts = [n_r] * len(pairs)
    with torch.no_grad():
        repeated = distances.repeat(len(pairs))
        curves = model.radial(repeated, counts)
        angular = model.angular(repeated, counts) if model.angular is not None else None
        embedding = [
            model.embedding(densities, torch.full((n_rho,), k, dtype=torch.int64))[0] for k in range(len(elements))
        ]
    diagonal = [k for k, (a, b) in enumerate(pairs) if a == b]
    tables = EamTables(
        elements=elements,
        cutoff_ang=model.cutoff_ang,
        dr_ang=dr,
        drho=drho,
        embedding=torch.stack(embedding).numpy(),
        density=curves.density_low[0].reshape(len(pairs), n_r)[diagonal].numpy(),
        pair=curves.pair[0].reshape(len(pairs), n_r).numpy(),
        dipole=angular[0][0].reshape(len(pairs), n_r).numpy() if angular else None,
        quadrupole=angular[1][0].reshape(len(pairs), n_r).numpy() if angular else None,
    )
    for name in ("embedding", "density", "pair", "dipole", "quadrupole"):
        values = getattr(tables, name)
        if values is not None and not np.isfinite(values).all():
            raise SurrogateError(f"the {name} function is not finite everywhere on its grid; the model is unusable")
    return tables


def highest_density(model: EamModel) -> float:
    """A density that no simulation should reach: that of close packing at 0.65 times the usual neighbour distance.

    That is a crystal at 3.6 times its density; the highest over the elements, and not less than twice their typical
    densities.
    """
    pairs = type_pairs(len(model.elements))
    found = [2.0 * density for density in model.embedding.typical_densities()]
    for k, symbol in enumerate(model.elements):
        shortest = _SHORTEST_OF_NEIGHBOUR * neighbour_distance(symbol)
        shells = torch.tensor([shortest * factor for _, factor in _FCC_SHELLS], dtype=torch.float64)
        shells = shells[shells < model.cutoff_ang]
        counts = [len(shells) if pair == (k, k) else 0 for pair in pairs]
        with torch.no_grad():
            density = model.radial(shells, counts).density_low[0]
        found.append(sum(n * float(rho) for (n, _), rho in zip(_FCC_SHELLS, density, strict=False)))
    return max(found)


def neighbour_distance(symbol: str) -> float:
    """Distance of nearest neighbours in an element's crystal, Å, from ASE's reference states; 2.8 where unknown."""
    state = reference_states[atomic_numbers[symbol]] or {}
    factor = {"fcc": math.sqrt(0.5), "bcc": math.sqrt(0.75), "hcp": 1.0, "diamond": math.sqrt(3.0) / 4.0}
    return factor[state["symmetry"]] * state["a"] if state.get("symmetry") in factor else 2.8


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


def write_text(text: str, path: Path) -> None:
    """Write a file that is complete or not there at all.

    Raises:
        SurrogateError: the folder does not exist or cannot be written to.
    """
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise SurrogateError(f"{path} cannot be written ({error}); choose a folder that exists and is yours") from error


def _file_order(n_elements: int) -> list[int]:
    """Places of the type pairs in the order of setfl files: (1,1), (2,1), (2,2), (3,1), …."""
    place = {pair: k for k, pair in enumerate(type_pairs(n_elements))}
    return [place[(b, a)] for a in range(n_elements) for b in range(a + 1)]


def _step(length: float, n_points: int) -> float:
    """The grid's step, rounded so that the last point is not below the cutoff: some readers insist."""
    step = length / (n_points - 1)
    return step if step * (n_points - 1) >= length else math.nextafter(step, math.inf)


def _block(values: np.ndarray) -> str:
    words = [f"{value: .16e}" for value in values.tolist()]
    return "\n".join(" ".join(words[k : k + _NUMBERS_PER_LINE]) for k in range(0, len(words), _NUMBERS_PER_LINE))
