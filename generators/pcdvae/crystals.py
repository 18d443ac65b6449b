"""Structures as the model is trained on them, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.geometry import cell_to_cellpar
from torch import Tensor
from vesin import NeighborList

from ...errors import StructureError
from .torus import Torus

_N_AT_ONCE = 64  # crystals that are encoded together
_LEAST_DISTANCE_ANG = 0.5


@dataclass(frozen=True)
class Crystal:
    """A periodic structure with what the heads predict of it.

    Attributes:
        types: int64 ``[n_atoms]``, indices into the model's elements.
        positions: ``[n_atoms, 3]``, Å.
        torus: the cell that noise is folded into.
        cell: ``[3, 3]``, rows are cell vectors, Å.
        phase: index into the model's phases; 0 where it has none.
        value: the property; NaN where it is not known.
    """

    types: np.ndarray
    positions: np.ndarray
    torus: Torus
    cell: np.ndarray
    phase: int
    value: float

    @property
    def lattice(self) -> np.ndarray:
        """Lengths divided by the cube root of the number of atoms, Å, and angles, degrees: ``[6]``."""
        lattice = np.asarray(cell_to_cellpar(self.cell))
        lattice[:3] /= len(self.types) ** (1.0 / 3.0)
        return lattice

    def of_phase(self, phase: int) -> Crystal:
        """The same structure, said to be of a phase."""
        return replace(self, phase=phase)


def crystal_from(atoms: Atoms, elements: Sequence[str], *, phase: int = 0, value: float = float("nan")) -> Crystal:
    """A structure to train on.

    Args:
        atoms: periodic in all directions.
        elements: chemical symbols of the model's elements.
        phase: index into the model's phases.
        value: the property.

    Raises:
        StructureError: no atoms, an element that is not listed, no periodic cell, coordinates that are not finite,
            or atoms on top of one another.
    """
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(elements))
    if unknown:
        raise StructureError(
            f"a structure holds {', '.join(unknown)}, but the model's elements are {', '.join(elements)}"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise StructureError(f"{atoms.symbols}: some coordinates are NaN or infinite; leave the structure out")
    if len(atoms) == 0 or not (atoms.pbc.all() and abs(atoms.cell.volume) > 0.0):
        raise StructureError(f"the model learns from atoms in a periodic cell, got {atoms!r}")
    search = NeighborList(cutoff=_LEAST_DISTANCE_ANG, full_list=False)
    (distances,) = search.compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="d")
    if len(distances):
        raise StructureError(
            f"{atoms.symbols}: two atoms are {distances.min():.3g} Å apart, closer than {_LEAST_DISTANCE_ANG} Å; leave "
            "the structure out"
        )
    cell = atoms.cell.array.copy()
    types = np.array([elements.index(symbol) for symbol in symbols], dtype=np.int64)
    return Crystal(types, atoms.positions.copy(), Torus(cell), cell, phase, value)


@dataclass(frozen=True)
class CrystalBatch:
    """Crystals laid end to end.

    Attributes:
        crystals: the crystals.
        types: int64 ``[n_atoms]``.
        structure_of_atom: int64 ``[n_atoms]``.
        n_atoms: int64 ``[n_structures]``.
        fractions: of each element, ``[n_structures, n_elements]``.
        lattices: as :attr:`Crystal.lattice`, ``[n_structures, 6]``.
        phases: int64 ``[n_structures]``.
        values: ``[n_structures]``.
    """

    crystals: tuple[Crystal, ...]
    types: Tensor
    structure_of_atom: Tensor
    n_atoms: Tensor
    fractions: Tensor
    lattices: Tensor
    phases: Tensor
    values: Tensor


def collate(
    crystals: Sequence[Crystal], n_elements: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> CrystalBatch:
    """Lay crystals end to end on a device."""
    sizes = np.array([len(c.types) for c in crystals])
    counts = np.stack([np.bincount(c.types, minlength=n_elements) for c in crystals])
    return CrystalBatch(
        crystals=tuple(crystals),
        types=torch.from_numpy(np.concatenate([c.types for c in crystals])).to(device),
        structure_of_atom=torch.from_numpy(np.repeat(np.arange(len(crystals)), sizes)).to(device),
        n_atoms=torch.from_numpy(sizes).to(device),
        fractions=torch.from_numpy(counts / sizes[:, None]).to(device, dtype),
        lattices=torch.from_numpy(np.stack([c.lattice for c in crystals])).to(device, dtype),
        phases=torch.tensor([c.phase for c in crystals], device=device),
        values=torch.tensor([c.value for c in crystals], dtype=dtype, device=device),
    )


def batches(crystals: Sequence[Crystal], n_elements: int, like: Tensor) -> Iterator[CrystalBatch]:
    """Lay crystals end to end, some at a time, in the precision of a tensor and on its device."""
    for start in range(0, len(crystals), _N_AT_ONCE):
        yield collate(crystals[start : start + _N_AT_ONCE], n_elements, dtype=like.dtype, device=str(like.device))
