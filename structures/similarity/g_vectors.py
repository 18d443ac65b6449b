"""Atomic fingerprints by symmetry functions, and the distance of two structures that follows from them.

The functions are the modified Behler-Parrinello ones of PANNA (R. Lot et al., Comput. Phys. Commun. 256, 107402
(2020)), whose form is that of J. S. Smith et al., Chem. Sci. 8, 3192 (2017), their equations 3 and 4. PANNA has the
angles' centres in the middle of equal intervals, and adds ``ε sin²θ_s`` below the root of the sine, so that the
derivative is continuous for bonds in line. Two structures are compared as by A. H. Naghdi, G. Kaszuba et al. (P-CDVAE,
NeurIPS 2024): atoms are paired so that the sum of the distances of their fingerprints is the least, and the mean over
the pairs is the distance of the structures.

An atom's own element is no part of its fingerprint, only those of its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from scipy.optimize import linear_sum_assignment
from vesin import NeighborList

from ...errors import StructureError

_SMOOTHING = 0.01  # ε
_MAX_TRIPLETS = 100_000  # at a time; bounds the memory to some 50 MB


@dataclass(frozen=True)
class GVectorSettings:
    """Cutoffs and centres; the defaults are those of the P-CDVAE paper.

    Attributes:
        radial_cutoff_ang, angular_cutoff_ang: of the cosine cutoff functions.
        radial_width, angular_width: η, in 1/Å^2.
        sharpness: ζ of the angular part.
        n_radial: centres of the radial functions, evenly from ``first_center_ang`` on, the cutoff left out.
        n_angular_radii, n_angles: centres of the angular functions: mean distances, and angles.
        first_center_ang: of both kinds.
    """

    radial_cutoff_ang: float = 4.6
    radial_width: float = 8.0
    n_radial: int = 8
    angular_cutoff_ang: float = 3.1
    angular_width: float = 6.0
    sharpness: float = 50.0
    n_angular_radii: int = 4
    n_angles: int = 8
    first_center_ang: float = 0.5

    def size(self, n_elements: int) -> int:
        """Length of the fingerprint of an atom."""
        n_pairs = n_elements * (n_elements + 1) // 2
        return n_elements * self.n_radial + n_pairs * self.n_angular_radii * self.n_angles


PUBLISHED = GVectorSettings()


def g_vectors(atoms: Atoms, elements: Sequence[str] | None = None, settings: GVectorSettings = PUBLISHED) -> np.ndarray:
    """Fingerprints of the atoms of a periodic structure.

    Args:
        elements: symbols that neighbours are told apart by; ``None`` takes all atoms as alike.

    Returns:
        ``[n_atoms, size]``: the radial functions element by element, then the angular ones pair by pair of elements,
        ``(0, 0), (0, 1), …, (1, 1), …``, the angle as the last index.

    Raises:
        StructureError: no atoms, no periodic cell, coordinates that are not finite or the same for two atoms, or an
            element not among ``elements``.
    """
    _check(atoms)
    species = _species(atoms, elements)
    n_elements = 1 if elements is None else len(elements)
    center, neighbour, distance, vector = NeighborList(
        cutoff=max(settings.radial_cutoff_ang, settings.angular_cutoff_ang), full_list=True
    ).compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijdD")
    if len(distance) and distance.min() < 1e-8:
        raise StructureError("two atoms sit at the same place, so that angles between bonds are undefined")
    order = np.argsort(center, kind="stable")
    center, neighbour = center[order].astype(np.intp), neighbour[order].astype(np.intp)
    distance, vector = distance[order], vector[order]
    radial = _radial(len(atoms), n_elements, center, species[neighbour], distance, settings)
    is_near = distance < settings.angular_cutoff_ang
    angular = _angular(
        len(atoms),
        n_elements,
        center[is_near],
        species[neighbour[is_near]],
        distance[is_near],
        vector[is_near],
        settings,
    )
    return np.concatenate([radial, angular], axis=1)


def g_distance(first: Atoms, second: Atoms, *, is_blind: bool = False, settings: GVectorSettings = PUBLISHED) -> float:
    """Mean Euclidean distance of the fingerprints of paired atoms; 0 for the same structure however it is turned,
    shifted or sorted.

    Args:
        is_blind: take all atoms as alike, which leaves the geometry of the lattice ("CP G-distance").

    Raises:
        StructureError: different numbers of atoms, or a structure that :func:`g_vectors` refuses.
    """
    if len(first) != len(second):
        raise StructureError(
            f"a G-distance pairs atom with atom; got {len(first)} and {len(second)} atoms; repeat the smaller cell"
        )
    elements = None if is_blind else sorted({*first.get_chemical_symbols(), *second.get_chemical_symbols()})
    return paired_distance(g_vectors(first, elements, settings), g_vectors(second, elements, settings))


def paired_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of rows ``[n, size]`` paired so that the sum is the least (Hungarian method)."""
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :] - 2.0 * first @ second.T
    costs = np.sqrt(np.maximum(squared, 0.0))
    rows, columns = linear_sum_assignment(costs)
    # Taken anew from differences: the squares above have lost the digits of nearly equal rows.
    return float(np.linalg.norm(first[rows] - second[columns], axis=1).mean())


def _check(atoms: Atoms) -> None:
    volume = abs(np.linalg.det(atoms.cell.array))
    if len(atoms) == 0 or not atoms.pbc.all() or not (np.isfinite(volume) and volume > 0.0):
        raise StructureError(f"G vectors need atoms in a periodic cell with a volume, got {atoms!r}")
    if not np.isfinite(atoms.positions).all():
        raise StructureError("G vectors need finite coordinates; some are not")


def _species(atoms: Atoms, elements: Sequence[str] | None) -> np.ndarray:
    if elements is None:
        return np.zeros(len(atoms), dtype=np.intp)
    species = np.full(len(atoms), -1, dtype=np.intp)
    for k, element in enumerate(elements):
        species[atoms.numbers == atomic_numbers[element]] = k
    if (species < 0).any():
        others = sorted({s for s, k in zip(atoms.get_chemical_symbols(), species.tolist(), strict=True) if k < 0})
        raise StructureError(f"the structure holds {', '.join(others)}, the elements are {', '.join(elements)}")
    return species


def _centers(n: int, cutoff_ang: float, settings: GVectorSettings) -> np.ndarray:
    return settings.first_center_ang + (cutoff_ang - settings.first_center_ang) / n * np.arange(n)


def _cutoff(distance: np.ndarray, cutoff_ang: float) -> np.ndarray:
    return np.where(distance < cutoff_ang, 0.5 * (1.0 + np.cos(np.pi * distance / cutoff_ang)), 0.0)


def _radial(
    n_atoms: int,
    n_elements: int,
    center: np.ndarray,
    species: np.ndarray,
    distance: np.ndarray,
    settings: GVectorSettings,
) -> np.ndarray:
    offset = distance[:, None] - _centers(settings.n_radial, settings.radial_cutoff_ang, settings)
    weight = _cutoff(distance, settings.radial_cutoff_ang)[:, None]
    values = np.exp(-settings.radial_width * offset**2) * weight
    return _sum_at(n_elements * center + species, values, n_elements * n_atoms).reshape(n_atoms, -1)


def _angular(
    n_atoms: int,
    n_elements: int,
    center: np.ndarray,
    species: np.ndarray,
    distance: np.ndarray,
    vector: np.ndarray,
    settings: GVectorSettings,
) -> np.ndarray:
    n_pairs = n_elements * (n_elements + 1) // 2
    n_values = settings.n_angular_radii * settings.n_angles
    total = np.zeros((n_atoms * n_pairs, n_values))
    pair_of = np.zeros((n_elements, n_elements), dtype=np.intp)
    rows, columns = np.triu_indices(n_elements)
    pair_of[rows, columns] = pair_of[columns, rows] = np.arange(n_pairs)
    unit = vector / distance[:, None]
    weight = _cutoff(distance, settings.angular_cutoff_ang)
    # Every bond with every later one of the same atom.
    n_later = np.searchsorted(center, center, side="right") - np.arange(len(center)) - 1
    ends = np.cumsum(n_later)
    begin = 0
    while begin < len(center):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _MAX_TRIPLETS, side="right")))
        first = np.repeat(np.arange(begin, end), n_later[begin:end])
        starts = np.repeat(ends[begin:end] - n_later[begin:end] - done, n_later[begin:end])
        second = first + 1 + np.arange(len(first)) - starts
        cosine = np.clip((unit[first] * unit[second]).sum(axis=1), -1.0, 1.0)
        around = _angles(cosine, settings) * (2.0 * weight[first] * weight[second])[:, None]
        offset = 0.5 * (distance[first] + distance[second])[:, None] - _centers(
            settings.n_angular_radii, settings.angular_cutoff_ang, settings
        )
        values = np.exp(-settings.angular_width * offset**2)[:, :, None] * around[:, None, :]
        slot = center[first] * n_pairs + pair_of[species[first], species[second]]
        total += _sum_at(slot, values.reshape(len(first), n_values), len(total))
        begin = end
    return total.reshape(n_atoms, -1)


def _angles(cosine: np.ndarray, settings: GVectorSettings) -> np.ndarray:
    """Angular functions ``[n, n_angles]``, 1 at their centres up to the smoothing."""
    angles = (np.arange(settings.n_angles) + 0.5) * np.pi / settings.n_angles
    softened = _SMOOTHING * np.sin(angles) ** 2
    sine = np.sqrt(1.0 - cosine[:, None] ** 2 + softened)
    value = 0.5 * (1.0 + cosine[:, None] * np.cos(angles) + sine * np.sin(angles))
    return (value / (0.5 * (1.0 + np.sqrt(1.0 + softened)))) ** settings.sharpness


def _sum_at(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sums ``[size, n_values]`` of the rows of ``values`` with the same index."""
    order = np.argsort(index, kind="stable")
    total = np.zeros((size, values.shape[1]))
    if len(order):
        slots, starts = np.unique(index[order], return_index=True)
        total[slots] = np.add.reduceat(values[order], starts, axis=0)
    return total
