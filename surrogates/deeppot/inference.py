"""Deep potentials on a CPU with compressed embeddings: what MD, relaxations and predictions run.

Energies are those of :class:`~.model.DeepPotModel` within the tolerance of :mod:`.compression`; forces and virials are
their exact derivatives. Loops over neighbours are compiled; what lies between them, from sums over neighbours to
energies and back, are matrix products over the atoms of a species.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..potentials.graph import Graph
from . import kernel
from .compression import MIN_DISTANCE_ANG, tabulate
from .model import DeepPotModel
from .networks import Layer, ResidualNetwork

_BLOCK_ATOMS = 256  # of one species at once, for the caches of the processor


class _Fitting:
    """A fitting network."""

    def __init__(self, network: ResidualNetwork) -> None:
        self._layers: list[Layer] = network.layers()
        self._weight = network.output_weight.detach().numpy()[:, 0].copy()
        self._bias = float(network.output_bias.detach())

    def energies_and_slopes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies ``[n]`` of descriptors ``[n, n_features]``, and their derivatives by them."""
        hidden = []
        for layer in self._layers:
            bent = x @ layer.weight
            bent += layer.bias
            np.tanh(bent, out=bent)
            hidden.append(bent)
            after = bent * layer.time_step
            x = after + np.tile(x, layer.n_copies) if layer.n_copies else after
        energies = x @ self._weight + self._bias
        slope = np.broadcast_to(self._weight, x.shape)
        for layer, bent in zip(reversed(self._layers), reversed(hidden), strict=True):
            bent *= bent
            np.subtract(1.0, bent, out=bent)
            bent *= slope * layer.time_step
            before = bent @ layer.weight.T
            n = before.shape[1]
            for copy in range(layer.n_copies):
                before += slope[:, copy * n : (copy + 1) * n]
            slope = before
        return energies, slope


@dataclass(frozen=True)
class _Centre:
    """What atoms of one species need.

    Attributes:
        nodes: tables of each species of neighbours.
        scales: see there.
        basis: ``[n_species n_columns, n_outputs]``, divided by the room for neighbours.
        empty: ``[n_outputs]``, radial moments of an atom without neighbours.
        means, inverse_deviations: of the descriptors, ``[n_outputs, n_axis]``.
        fitting: from descriptors to energies.
        energy_ev: of an atom, added to what the network gives.
    """

    nodes: np.ndarray
    scales: kernel.Scales
    basis: np.ndarray
    empty: np.ndarray
    means: np.ndarray
    inverse_deviations: np.ndarray
    fitting: _Fitting
    energy_ev: float

    @classmethod
    def of(cls, model: DeepPotModel, species: int) -> _Centre | None:
        """``None`` where a network is too wild for a table."""
        mean, radial, angular = (float(x) for x in (model.means[species], *model.deviations[species]))
        tables = tabulate([model.embedding(species, b) for b in range(len(model.elements))], mean, radial)
        if tables is None:
            return None
        counts, inner = model.n_neighbours.numpy(), model.architecture.switch_ang
        values = np.einsum("bc,bcm->bm", tables.nodes[:, 0, 0], tables.bases)
        n_outputs = values.shape[1]
        return cls(
            nodes=tables.nodes,
            scales=kernel.Scales(tables.step, mean, radial, angular, inner, model.cutoff_ang),
            basis=tables.bases.reshape(-1, n_outputs) / counts.sum(),
            empty=-mean / radial * (counts @ values) / counts.sum(),
            means=model.feature_means[species].numpy().reshape(n_outputs, -1).copy(),
            inverse_deviations=1.0 / model.feature_deviations[species].numpy().reshape(n_outputs, -1),
            fitting=_Fitting(model.fitting(species)),
            energy_ev=float(model.energies_ev[species]),
        )

    def energy_and_slopes(self, sums: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy of some atoms and its derivatives by sums over their neighbours, ``[n, 4, n_species, n_columns]``."""
        n = len(sums)
        moments = (sums.reshape(4 * n, -1) @ self.basis).reshape(n, 4, -1)
        moments[:, 0] += self.empty
        features = kernel.describe(moments, self.means, self.inverse_deviations)
        energies, slopes = self.fitting.energies_and_slopes(features.reshape(n, -1))
        by_moments = kernel.back_to_moments(moments, slopes.reshape(features.shape), self.inverse_deviations)
        by_sums = by_moments.reshape(4 * n, -1) @ self.basis.T
        return float(energies.sum()) + n * self.energy_ev, by_sums.reshape(sums.shape)


class CompressedDeepPot:
    """Evaluates graphs as a model does that does not change any more.

    Args:
        centres: for each species, see :meth:`of`.
    """

    def __init__(self, centres: tuple[_Centre, ...]) -> None:
        self._centres = centres

    @classmethod
    def of(cls, model: DeepPotModel) -> CompressedDeepPot | None:
        """Tabulate a model in float64 on the CPU; ``None`` where one of its networks is too wild for a table."""
        centres = [_Centre.of(model, species) for species in range(len(model.elements))]
        found = tuple(centre for centre in centres if centre is not None)
        return cls(found) if len(found) == len(centres) else None

    def evaluate(self, graph: Graph) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Energy (eV), forces ``[n_atoms, 3]`` (eV/Å) and virial ``[3, 3]`` (eV, volume times stress).

        Returns:
            ``None`` where a pair is closer than the tables reach.
        """
        starts, others, vectors, closest = kernel.sort_edges(
            graph.types, len(self._centres), graph.first, graph.second, graph.vectors
        )
        if closest < MIN_DISTANCE_ANG**2:
            return None
        energy, forces, virial = 0.0, np.zeros((len(graph.types), 3)), np.zeros(6)
        for species, centre in enumerate(self._centres):
            members = np.flatnonzero(graph.types == species)
            for begin in range(0, len(members), _BLOCK_ATOMS):
                atoms = members[begin : begin + _BLOCK_ATOMS]
                sums = kernel.sum_neighbours(atoms, starts, vectors, centre.nodes, centre.scales)
                of_block, slopes = centre.energy_and_slopes(sums)
                energy += of_block
                kernel.add_forces(atoms, starts, others, vectors, centre.nodes, centre.scales, slopes, forces, virial)
        return energy, forces, virial[np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]
