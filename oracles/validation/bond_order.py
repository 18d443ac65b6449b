"""How crystalline the surroundings of each atom are: averaged bond-orientational order.

W. Lechner, C. Dellago, J. Chem. Phys. 129, 114707 (2008): Steinhardt's q6 vectors averaged over an atom and its
neighbours. Near melting, where an atom's own q6 is blurred by vibration, the average still tells crystal (fcc about
0.5, bcc about 0.4) from liquid (below 0.25).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import sph_harm_y
from vesin import NeighborList

_DEGREE = 6


def averaged_q6(positions: np.ndarray, cell: np.ndarray, cutoff_ang: float) -> np.ndarray:
    """Averaged bond-orientational order of degree 6 of each atom, ``[n_atoms]``, between 0 and 1.

    Args:
        positions: ``[n_atoms, 3]``, Å.
        cell: rows are vectors, ``[3, 3]``, Å; periodic along all.
        cutoff_ang: atoms nearer than this are neighbours.
    """
    n_atoms = len(positions)
    first, second, vectors, lengths = NeighborList(cutoff=cutoff_ang, full_list=True).compute(
        points=positions, box=cell, periodic=True, quantities="ijDd"
    )
    first, second = first.astype(int), second.astype(int)
    polar = np.arccos(np.clip(vectors[:, 2] / lengths, -1.0, 1.0))
    azimuth = np.arctan2(vectors[:, 1], vectors[:, 0])
    # q(-m) has the magnitude of q(m), so that half of the orders is enough
    orders = np.arange(_DEGREE + 1)
    harmonics = sph_harm_y(_DEGREE, orders, polar[:, None], azimuth[:, None])
    ones = np.ones(len(first))
    n_neighbours = np.bincount(first, minlength=n_atoms)[:, None]
    of_bonds = csr_matrix((ones, (first, np.arange(len(first)))), shape=(n_atoms, len(first)))
    q = (of_bonds @ harmonics) / np.maximum(n_neighbours, 1)
    of_neighbours = csr_matrix((ones, (first, second)), shape=(n_atoms, n_atoms))
    averaged = (q + of_neighbours @ q) / (n_neighbours + 1)
    squares = np.abs(averaged) ** 2
    squares[:, 1:] *= 2.0
    return np.sqrt(4.0 * np.pi / (2 * _DEGREE + 1) * squares.sum(axis=1))
