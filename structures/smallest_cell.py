"""The smallest cell of a crystal, with its axes left as they are, so that its elastic tensor stays the same."""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms

_SITE_TOLERANCE_ANG = 1e-3


def smallest_cell(atoms: Atoms) -> Atoms:
    """A primitive cell of a supercell; atoms keep their order and the crystal its orientation.

    Sites have to repeat within 0.001 Å; so a rattled supercell comes back as it is.
    """
    translations = _translations(atoms)
    if len(translations) == 1:
        return atoms.copy()
    cell = _shortest_basis(translations, atoms.cell.array)
    wanted = atoms.get_volume() / len(translations)
    if cell is None or abs(np.linalg.det(cell) / wanted - 1.0) > 1e-3:
        return atoms.copy()
    scaled = atoms.positions @ np.linalg.inv(cell)
    distances = _distances(scaled[:, None] - scaled[None, :], cell)
    is_first = np.argmax(distances < 10.0 * _SITE_TOLERANCE_ANG, axis=1) == np.arange(len(atoms))
    if is_first.sum() * len(translations) != len(atoms):
        return atoms.copy()
    small = Atoms(numbers=atoms.numbers[is_first], positions=atoms.positions[is_first], cell=cell, pbc=True)
    small.wrap()
    return small


def _translations(atoms: Atoms) -> np.ndarray:
    """Vectors ``[n, 3]``, Å, that carry the crystal into itself, zero first, up to those of the cell."""
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    rarest = np.flatnonzero(atoms.numbers == numbers[np.argmin(counts)])
    scaled = atoms.get_scaled_positions()
    found = []
    for k in rarest:
        shift = scaled[k] - scaled[rarest[0]]
        meets = _distances(scaled[:, None] + shift - scaled[None, :], atoms.cell.array) < _SITE_TOLERANCE_ANG
        if (meets & (atoms.numbers[:, None] == atoms.numbers[None, :])).any(axis=1).all():
            found.append(shift @ atoms.cell.array)
    return np.array(found)


def _distances(scaled: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Length, Å, of differences of scaled positions ``[..., 3]`` to the nearest image along each axis."""
    return np.asarray(np.linalg.norm((scaled - np.round(scaled)) @ cell, axis=-1))


def _shortest_basis(translations: np.ndarray, cell: np.ndarray) -> np.ndarray | None:
    """Three short vectors that are not coplanar, ``[3, 3]``, right-handed."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ cell
    vectors = (translations[:, None] + images[None]).reshape(-1, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    basis: list[np.ndarray] = []
    for k in np.argsort(lengths, kind="stable"):
        trial = np.array([*basis, vectors[k]])
        spans = np.linalg.svd(trial, compute_uv=False)[-1]
        if lengths[k] > 0.1 and spans > 0.1:
            largest = vectors[k][np.argmax(np.abs(vectors[k]))]
            basis.append(vectors[k] * np.sign(largest))
            if len(basis) == 3:
                return np.array(basis if np.linalg.det(np.array(basis)) > 0.0 else [basis[1], basis[0], basis[2]])
    return None
