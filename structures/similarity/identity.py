"""Which structures of a set are sound, which are the same, and which are new."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from ase import Atoms
from vesin import NeighborList

from ...errors import StructureError
from ..base import PHASES
from ..lattice import CELL_KINDS, ParentLattice, parent_lattice
from ..locate import locate_sites
from .matching import match_rms

_LEAST_DISTANCE_ANG = 0.5
_LEAST_VOLUME_ANG3 = 0.1


def fault_of(atoms: Atoms) -> str | None:
    """What makes a structure unusable, or ``None``.

    The limits are those of T. Xie et al., CDVAE (ICLR 2022): no two atoms within 0.5 Å, a cell of more than 0.1 Å^3. A
    composition cannot be wrong in an alloy, so that charges are not looked at.
    """
    cell = atoms.cell.array
    if len(atoms) == 0:
        return "no atoms"
    if not (np.isfinite(cell).all() and np.isfinite(atoms.positions).all()):
        return "coordinates that are not finite"
    if not atoms.pbc.all():
        return "not periodic in all directions"
    if (atoms.numbers < 1).any():
        return "atoms without an element"
    volume = abs(np.linalg.det(cell))
    if volume <= _LEAST_VOLUME_ANG3:
        return f"a cell of {volume:.3g} Å^3"
    (distance,) = NeighborList(cutoff=_LEAST_DISTANCE_ANG, full_list=False).compute(
        points=atoms.positions, box=cell, periodic=True, quantities="d"
    )
    return f"two atoms {distance.min():.2f} Å apart" if len(distance) else None


def identify(structures: Sequence[Atoms]) -> np.ndarray:
    """Tell structures apart modulo symmetry.

    Structures near the sites of an FCC or BCC cell (relaxed ones too) are the same if a symmetry of the cell maps one
    ordering onto the other; cells of another size or shape are others. What is on no such lattice is compared by
    pymatgen's ``StructureMatcher`` with those of the same formula.

    Args:
        structures: without faults, see :func:`fault_of`.

    Returns:
        Number of each structure's group, int ``[n]``: equal for equal structures, counted as they appear.
    """
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    code = {z: k for k, z in enumerate(elements)}
    group_of_key: dict[str, int] = {}
    others: defaultdict[str, list[tuple[Atoms, int]]] = defaultdict(list)
    groups: list[int] = []
    n_groups = 0
    for atoms in structures:
        key = _lattice_key(atoms, code)
        if key is not None:
            group = group_of_key.setdefault(key, n_groups)
        else:
            known = others[atoms.get_chemical_formula()]
            group = next((g for other, g in known if match_rms(atoms, other) is not None), n_groups)
            known.append((atoms, group))
        n_groups = max(n_groups, group + 1)
        groups.append(group)
    return np.array(groups, dtype=int)


def _lattice_key(atoms: Atoms, code: dict[int, int]) -> str | None:
    """A key of the ordering modulo symmetry; ``None`` for a structure on no known lattice."""
    try:
        lattice, atom_of_site = locate_sites(atoms, _lattices_of(len(atoms)))
    except StructureError:
        return None
    occupation = np.array([code[int(z)] for z in atoms.numbers[atom_of_site]], dtype=np.int8)
    return hashlib.blake2b(lattice.canonical(occupation), digest_size=16).hexdigest()


@lru_cache(maxsize=16)
def _lattices_of(n_sites: int) -> tuple[ParentLattice, ...]:
    """All cells of this many sites, those that differ by the order of their axes once.

    Raises:
        StructureError: there are none.
    """
    found = []
    for phase in PHASES:
        # A tetragonal cell of BCC is a cubic one, and would give the same crystal a second name.
        for kind in (kind for kind in CELL_KINDS if (phase, kind) != ("bcc", "tetragonal")):
            basis = parent_lattice(phase, kind, (1, 1, 1)).n_sites
            if n_sites % basis == 0:
                found += [parent_lattice(phase, kind, repeat) for repeat in _repeats(n_sites // basis, kind)]
    if not found:
        raise StructureError(f"no lattice has {n_sites} sites")
    return tuple(found)


def _repeats(n_cells: int, kind: str) -> Iterable[tuple[int, int, int]]:
    """Repeats with this many cells; of cells with equal axes only those in ascending order."""
    for a in (a for a in range(1, n_cells + 1) if n_cells % a == 0):
        for b in (b for b in range(a, n_cells // a + 1) if n_cells // a % b == 0):
            c = n_cells // a // b
            if kind == "tetragonal" or b <= c:  # a tetragonal cell's third axis differs from the others
                yield a, b, c
