"""Deep potentials on a CPU with compressed embeddings: what MD and relaxations run.

Energies are those of :class:`~.model.DeepPotModel` within the tolerance of :mod:`.compression`, and forces and virials
their exact derivatives. Two loops over neighbours are compiled; what lies between them, from moments to energies and
back, are matrix products over the atoms of a species.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..potentials.graph import Graph
from . import kernel
from .compression import MIN_DISTANCE_ANG, tabulate
from .model import DeepPotModel

_BLOCK_ATOMS = 256  # of one species at once, for the caches of the processor


@dataclass(frozen=True)
class _Centre:
    """What atoms of one species need.

    Attributes:
        nodes, steps, spans: tables of each species of neighbours, and their columns among all.
        basis: ``[n_columns of all, n_outputs]``, divided by the room for neighbours.
        empty: ``[n_outputs]``, radial moments of an atom without neighbours.
        scales: see :func:`.kernel.add_moments`.
    """

    nodes: tuple[np.ndarray, ...]
    steps: tuple[float, ...]
    spans: tuple[tuple[int, int], ...]
    basis: Tensor
    empty: Tensor
    scales: tuple[float, float, float]


class CompressedDeepPot:
    """Evaluates graphs with a model, which must not change any more.

    Args:
        model: in float64, on the CPU.
        centres: see :meth:`of`.
    """

    def __init__(self, model: DeepPotModel, centres: tuple[_Centre, ...]) -> None:
        self._model = model
        self._centres = centres

    @classmethod
    def of(cls, model: DeepPotModel) -> CompressedDeepPot | None:
        """Tabulate a model; ``None`` where one of its networks is too wild for a table."""
        centres = []
        n_species = len(model.elements)
        for a in range(n_species):
            mean, radial, angular = (float(x) for x in (model.means[a], *model.deviations[a]))
            tables = [tabulate(model.embedding(a, b), mean, radial) for b in range(n_species)]
            found = [table for table in tables if table is not None]
            if len(found) < n_species:
                return None
            ends = np.cumsum([0, *(len(table.basis) for table in found)]).tolist()
            room = float(model.n_neighbours.sum())
            empty = [float(n) * t.nodes[0, 0] @ t.basis for n, t in zip(model.n_neighbours, found, strict=True)]
            centres.append(
                _Centre(
                    nodes=tuple(table.nodes for table in found),
                    steps=tuple(table.step for table in found),
                    spans=tuple(itertools.pairwise(ends)),
                    basis=torch.from_numpy(np.concatenate([table.basis for table in found]) / room),
                    empty=torch.from_numpy(-mean / radial / room * np.sum(empty, axis=0)),
                    scales=(mean, radial, angular),
                )
            )
        return cls(model, tuple(centres))

    def evaluate(self, graph: Graph) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and virial ``[3, 3]`` (eV, volume times stress).

        Returns:
            ``None`` where a pair is closer than the tables reach.
        """
        model, n_species = self._model, len(self._centres)
        starts, others, vectors, closest = kernel.sort_edges(
            graph.types, n_species, graph.first, graph.second, graph.vectors
        )
        if closest < MIN_DISTANCE_ANG**2:
            return None
        cutoffs = (model.architecture.switch_ang, model.cutoff_ang)
        forces, virial = np.zeros((len(graph.types), 3)), np.zeros((3, 3))
        energy = 0.0
        for a, centre in enumerate(self._centres):
            members = np.flatnonzero(graph.types == a)
            for begin in range(0, len(members), _BLOCK_ATOMS):
                atoms = members[begin : begin + _BLOCK_ATOMS]
                moments = [np.zeros((len(atoms), 4, end - first)) for first, end in centre.spans]
                for b, found in enumerate(moments):
                    kernel.add_moments(
                        atoms,
                        b,
                        n_species,
                        starts,
                        vectors,
                        centre.nodes[b],
                        centre.steps[b],
                        centre.scales,
                        cutoffs,
                        found,
                    )
                sums = np.concatenate(moments, axis=2)
                energies, slopes = self._between(a, torch.from_numpy(sums))
                energy += energies
                for b, (first, end) in enumerate(centre.spans):
                    kernel.add_forces(
                        atoms,
                        b,
                        n_species,
                        starts,
                        others,
                        vectors,
                        centre.nodes[b],
                        centre.steps[b],
                        centre.scales,
                        cutoffs,
                        np.ascontiguousarray(slopes[..., first:end]),
                        forces,
                        virial,
                    )
        return energy, forces, virial

    def _between(self, species: int, sums: Tensor) -> tuple[float, np.ndarray]:
        """Energy of some atoms of a species, and its derivative by the sums over neighbours ``[n, 4, n_columns]``."""
        model, centre = self._model, self._centres[species]
        with torch.no_grad():
            moments = (sums.reshape(-1, sums.shape[2]) @ centre.basis).reshape(len(sums), 4, -1)
            moments[:, 0] += centre.empty
            energies, by_moments = model.energies_and_moment_slopes(species, moments)
            slopes = (by_moments.reshape(4 * len(sums), -1) @ centre.basis.T).reshape(sums.shape)
        return float(energies.sum()), slopes.numpy()
