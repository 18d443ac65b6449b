"""Any potential as a force engine, so that relaxations, elastic constants, validations and MD run with it."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ...oracles.base import FailureKind, OracleError
from ...oracles.force_engine import Evaluation
from ...oracles.structure_guard import check_geometry, check_structure
from ..base import SurrogateError
from .base import GraphPotential, Potential
from .graph import type_indices
from .neighbours import NeighbourCache

SKIN_ANG = 0.5
"""Saves a third of a step of MD with an EAM model of 256 atoms, as do 0.3 and 1 Å."""


class PotentialEngine:
    """Evaluates structures with a potential, as :class:`~alloysmith.oracles.force_engine.ForceEngine` asks.

    A sequence of evaluations after :meth:`load` is a pure function of the structures in it, to the last bit. Alone,
    one of them may differ in the last digits, because sums over pairs run in the order of an earlier search.

    Args:
        potential: what evaluates.
        skin_ang: neighbours are searched this much beyond the cutoff, Å, and found again only when atoms may have
            come into range; it has an effect on potentials that take graphs.
    """

    def __init__(self, potential: Potential, *, skin_ang: float = SKIN_ANG) -> None:
        self.potential = potential
        self.n_calls = 0
        """Force evaluations so far."""
        self._skin_ang = skin_ang
        self._atoms: Atoms | None = None
        self._neighbours: NeighbourCache | None = None

    def compute(self, atoms: Atoms) -> Evaluation:
        """Energy, forces and stress of a structure as it is.

        Raises:
            OracleError: see :meth:`load` and :meth:`evaluate`.
        """
        self.load(atoms)
        return self.evaluate(atoms.positions, atoms.cell.array)

    def load(self, atoms: Atoms) -> None:
        """Check a structure and make its species the current ones.

        Raises:
            OracleError: ``bad_structure``: see :func:`~alloysmith.oracles.structure_guard.check_structure`; or an
                element that the potential lacks.
        """
        check_structure(atoms)
        try:
            types = type_indices(atoms, self.potential.spec.elements)
        except SurrogateError as error:
            raise OracleError(FailureKind.BAD_STRUCTURE, str(error)) from error
        self._atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        self._neighbours = NeighbourCache(types, self.potential.spec.cutoff_ang, self._skin_ang)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and stress of the loaded species at other positions and in another cell.

        Args:
            positions: ``[n_atoms, 3]``, Å, in the order of the loaded structure; need not be inside the cell.
            cell: rows are vectors, ``[3, 3]``, Å.

        Raises:
            OracleError: ``bad_structure`` for an impossible geometry, ``corrupt_output`` for a result that is not
                finite, ``unavailable`` when no structure is loaded.
        """
        if self._atoms is None or self._neighbours is None:
            raise OracleError(FailureKind.UNAVAILABLE, "no structure is loaded; call load() first")
        check_geometry(positions, cell)
        if isinstance(self.potential, GraphPotential):
            graph = self._neighbours.graph(np.asarray(positions, dtype=float), np.asarray(cell, dtype=float))
            (found,) = self.potential.evaluate_graphs([graph])
        else:
            self._atoms.set_cell(cell)
            self._atoms.positions = positions
            (found,) = self.potential.evaluate([self._atoms])
        self.n_calls += 1
        if not (np.isfinite(found.energy_ev) and np.isfinite(found.forces).all() and np.isfinite(found.stress).all()):
            raise OracleError(
                FailureKind.CORRUPT_OUTPUT,
                f"the potential gave an energy of {found.energy_ev} eV with forces or stresses that are not finite",
            )
        return found

    def close(self) -> None:
        """Forget the loaded structure."""
        self._atoms = self._neighbours = None
