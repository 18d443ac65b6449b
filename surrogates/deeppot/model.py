"""Deep potentials with a smooth descriptor (DeepPot-SE), with forces in closed form.

Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model for finite and extended systems"
(NeurIPS 2018), with the conventions of DeePMD-kit 3, so that equal parameters give equal energies.

The environment of an atom i is ``T_i = sum_j R_ij G(s_ij)``, with the rows R of the normalized environment matrix
and an embedding network G of its first column; the descriptor is ``T_i^t T_i'``, where ``'`` keeps the first columns
(the axis neurons), and a fitting network makes an energy of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..potentials.frame import Frame
from ..potentials.graph import Batch, build_graph, collate
from ..potentials.model import GraphEvaluator, LinearRows, PotentialModel
from .adjoints import embeddings, output_and_gradient, slopes_by_rows
from .environment import environment, slopes_by_vector
from .linear_rows import linear_parameters, linear_rows
from .neighbours import Neighbours, neighbours
from .networks import ResidualNetwork
from .principal_start import first_fitting_layer
from .radial_start import first_embeddings
from .statistics import statistics

_MAX_FRAMES = 200  # enough for means of descriptors
_FLAT = 0.01  # descriptors that vary less than this share of the most variable or largest one count as that
_FIRST_NEIGHBOURS = 64.0  # shared by the species, before any data was seen


@dataclass(frozen=True)
class Architecture:
    """Shape of a deep potential; names as in :class:`~.settings.DeepPotSettings`."""

    switch_ang: float
    embedding: tuple[int, ...]
    axis_neurons: int
    fitting: tuple[int, ...]
    embedding_time_step: bool
    fitting_time_step: bool
    one_side: bool
    normalize_features: bool
    radial_start: bool = False
    principal_start: float | None = None


class DeepPotModel(PotentialModel):
    """A deep potential.

    Args:
        elements: chemical symbols of the species, in order.
        cutoff_ang: pairs further apart do not interact, Å.
        architecture: widths and options.
        seed: of the first parameters; where ``None``, :meth:`prepare` draws them anew from the training's seed.
        settings: facts from which an equal model without its parameters can be built.
    """

    means: Tensor
    deviations: Tensor
    n_neighbours: Tensor
    energies_ev: Tensor
    feature_means: Tensor
    feature_deviations: Tensor
    is_prepared: Tensor

    def __init__(
        self,
        elements: tuple[str, ...],
        cutoff_ang: float,
        architecture: Architecture,
        *,
        seed: int | None,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__(elements, cutoff_ang)
        self.architecture = architecture
        self._seed = seed
        self._settings = dict(settings)
        n = len(elements)
        self.embeddings = nn.ModuleList(
            ResidualNetwork(1, architecture.embedding, has_time_step=architecture.embedding_time_step, has_output=False)
            for _ in range(n if architecture.one_side else n * n)
        )
        n_features = architecture.embedding[-1] * architecture.axis_neurons
        self.fittings = nn.ModuleList(
            ResidualNetwork(
                n_features, architecture.fitting, has_time_step=architecture.fitting_time_step, has_output=True
            )
            for _ in range(n)
        )
        self.register_buffer("means", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("deviations", torch.ones(n, 2, dtype=torch.float64))
        self.register_buffer("n_neighbours", torch.full((n,), _FIRST_NEIGHBOURS / n, dtype=torch.float64))
        self.register_buffer("energies_ev", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("feature_means", torch.zeros(n, n_features, dtype=torch.float64))
        self.register_buffer("feature_deviations", torch.ones(n, n_features, dtype=torch.float64))
        self.register_buffer("is_prepared", torch.tensor(False))
        self._draw(seed or 0)

    def settings(self) -> Mapping[str, Any]:
        """See :meth:`~alloysmith.surrogates.potentials.model.PotentialModel.settings`."""
        return self._settings

    def embedding(self, centre: int, neighbour: int) -> ResidualNetwork:
        """The embedding network of atoms of one species and their neighbours of another."""
        n = len(self.elements)
        found = self.embeddings[neighbour if self.architecture.one_side else centre * n + neighbour]
        assert isinstance(found, ResidualNetwork)
        return found

    def fitting(self, species: int) -> ResidualNetwork:
        """The fitting network of a species."""
        found = self.fittings[species]
        assert isinstance(found, ResidualNetwork)
        return found

    def prepare(self, frames: Sequence[Frame], *, seed: int) -> None:
        """Take normalization and energies of the species from the training data, once.

        A model that was prepared before, and so perhaps trained, stays as it is.

        Raises:
            SurrogateError: an element that the model lacks, or coordinates that are not finite.
        """
        if bool(self.is_prepared):
            return
        found = statistics(frames, self.elements, self.architecture.switch_ang, self.cutoff_ang, seed=seed)
        self.means.copy_(torch.from_numpy(found.means))
        self.deviations.copy_(torch.from_numpy(found.deviations))
        self.n_neighbours.copy_(torch.from_numpy(found.n_neighbours))
        self.energies_ev.copy_(torch.from_numpy(found.energies_ev))
        self.is_prepared.fill_(True)
        if self._seed is None:
            self._draw(seed)
        if self.architecture.radial_start:
            self._start_embeddings(frames, seed)
        if self.architecture.normalize_features:
            self._take_features(frames, seed)

    def evaluator(self) -> GraphEvaluator | None:
        """See :meth:`~alloysmith.surrogates.potentials.model.PotentialModel.evaluator`; for a CPU, in float64."""
        if self.means.device.type != "cpu" or self.means.dtype != torch.float64:
            return None
        from .inference import CompressedDeepPot  # Numba takes half a second that trainings need not wait for

        return CompressedDeepPot.of(self)

    def energies(self, batch: Batch) -> Tensor:
        """Energy of each structure, ``[n_frames]``, eV; differentiable to any order in vectors and parameters."""
        near = neighbours(batch, len(self.elements))
        edges = self.edges(batch)
        per_atom = []
        for a in range(len(self.elements)):
            features = self._normalized(a, self._features(self._moments(a, edges, near)))
            per_atom.append(self.fitting(a)(features) + self.energies_ev[a])
        return torch.zeros_like(batch.volumes).index_add(0, near.frames, torch.cat(per_atom))

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Energies ``[n_frames]`` and the energy's derivative by each pair vector, ``[n_pairs, 3]``, in closed form.

        No automatic derivative is taken, so a loss in both needs a single backward pass.
        """
        near = neighbours(batch, len(self.elements))
        edges = self.edges(batch)
        per_atom, by_edge = [], []
        for a in range(len(self.elements)):
            moments, blocks = self.moments_and_blocks(a, edges, near)
            energies, by_moments = self.energies_and_moment_slopes(a, moments)
            per_atom.append(energies)
            by_moments = by_moments / self.n_neighbours.sum()
            for rows, values, slopes in blocks:
                if self.is_composable:
                    by_rows = torch.bmm(values, by_moments.mT)
                    by_s = (torch.bmm(slopes, by_moments.mT) * rows).sum(-1, keepdim=True)
                    by_rows = torch.cat([by_rows[..., :1] + by_s, by_rows[..., 1:]], -1)
                else:
                    by_rows = slopes_by_rows(rows, values, slopes, by_moments)
                by_edge.append((by_rows / self.row_deviations(a)).reshape(-1, 4))
        total = torch.zeros_like(batch.volumes).index_add(0, near.frames, torch.cat(per_atom))
        of_edges = torch.cat(by_edge).index_select(0, near.slots)
        n_pairs = len(batch.first)
        forth, back = of_edges[:n_pairs], of_edges[n_pairs:]
        by_row = torch.cat([forth[:, :1] + back[:, :1], forth[:, 1:] - back[:, 1:]], 1)
        return total, slopes_by_vector(batch.vectors, by_row, self.architecture.switch_ang, self.cutoff_ang)

    def energies_and_moment_slopes(self, species: int, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``[n]``, eV, of atoms of a species and their derivatives by the moments T, ``[n, 4, n_outputs]``."""
        features = self._normalized(species, self._features(moments))
        network = self.fitting(species)
        energies, by_features = (
            network.output_and_gradient(features) if self.is_composable else output_and_gradient(network, features)
        )
        by_moments = self._back_from_features(moments, by_features / self.feature_deviations[species])
        return energies + self.energies_ev[species], by_moments

    def linear_parameters(self) -> tuple[str, ...]:
        """See :meth:`~alloysmith.surrogates.potentials.model.PotentialModel.linear_parameters`."""
        return linear_parameters(len(self.elements))

    def linear_rows(self, batch: Batch) -> LinearRows:
        """See :meth:`~alloysmith.surrogates.potentials.model.PotentialModel.linear_rows`."""
        return linear_rows(self, batch)

    def hidden_and_moment_slopes(self, species: int, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden layer ``[n, n_hidden]`` of atoms of a species, and its derivatives by the moments before their
        division by the room for neighbours, ``[n, n_hidden, 4, n_outputs]``."""
        hidden, by_features = self.fitting(species).hidden_and_jacobian(
            self._normalized(species, self._features(moments))
        )
        n_hidden = hidden.shape[1]
        flat = (by_features / self.feature_deviations[species]).flatten(0, 1)
        by_moments = self._back_from_features(moments.repeat_interleave(n_hidden, 0), flat)
        return hidden, by_moments.unflatten(0, (-1, n_hidden)) / self.n_neighbours.sum()

    def moments_and_blocks(
        self, centre: int, edges: Tensor, near: Neighbours
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Moments T of atoms of a species, ``[n_a, 4, n_outputs]``, and for the neighbours of each species their
        normalized rows ``[n_a, n_neighbours, 4]``, embeddings and derivatives of these ``[.., n_outputs]``."""
        n_outputs = self.architecture.embedding[-1]
        moments = edges.new_zeros(len(near.atoms[centre]), 4, n_outputs)
        radial = edges.new_zeros(n_outputs)
        blocks = []
        for b, block in enumerate(near.blocks[centre]):
            rows = self._normalized_rows(centre, edges, block.edges)
            s = (edges.index_select(0, block.embedded)[:, :1] - self.means[centre]) / self.deviations[centre, 0]
            if self.is_composable:
                flat, steep = self.embedding(centre, b).values_and_slopes(s)
                values, slopes = (x[block.rows].reshape(*rows.shape[:2], n_outputs) for x in (flat, steep))
                of_nobody = flat[-1]
            else:
                values, slopes, of_nobody = embeddings(self.embedding(centre, b), s, block)
            moments = moments + torch.bmm(rows.mT, values)
            radial = radial + (self.n_neighbours[b] - rows.shape[1]) * s[-1] * of_nobody
            blocks.append((rows, values, slopes))
        moments = moments + torch.cat([radial[None], radial.new_zeros(3, n_outputs)])
        return moments / self.n_neighbours.sum(), blocks

    def edges(self, batch: Batch) -> Tensor:
        """Rows of the environment matrix of each edge of :class:`~.neighbours.Neighbours`, ``[2 n_pairs + 1, 4]``."""
        rows = environment(batch.vectors, self.architecture.switch_ang, self.cutoff_ang)
        return torch.cat([rows, torch.cat([rows[:, :1], -rows[:, 1:]], 1), rows.new_zeros(1, 4)])

    def _normalized_rows(self, centre: int, edges: Tensor, chosen: Tensor) -> Tensor:
        """Normalized rows of the chosen edges, ``[.., 4]``; empty places are as at the cutoff, where a neighbour
        leaves."""
        mean = torch.nn.functional.pad(self.means[centre : centre + 1], (0, 3))
        rows = edges.index_select(0, chosen.reshape(-1))
        return ((rows - mean) / self.row_deviations(centre)).reshape(*chosen.shape, 4)

    def row_deviations(self, centre: int) -> Tensor:
        """Deviations ``[4]`` by which the rows of the environment matrix are divided."""
        radial, angular = self.deviations[centre].unbind()
        return torch.stack([radial, angular, angular, angular])

    def _moments(self, centre: int, edges: Tensor, near: Neighbours) -> Tensor:
        """T of each atom of a species, ``[n_a, 4, last embedding width]``, divided by the room for neighbours."""
        moments = self._empty_places(centre, near)
        for b, block in enumerate(near.blocks[centre]):
            rows = self._normalized_rows(centre, edges, block.edges)
            values = self.embedding(centre, b)(rows[..., :1].reshape(-1, 1))
            moments = moments + torch.bmm(rows.mT, values.reshape(*rows.shape[:2], values.shape[1]))
        return moments / self.n_neighbours.sum()

    def _empty_places(self, centre: int, near: Neighbours) -> Tensor:
        """What places beyond the widest row add to the moments, ``[n_a, 4, last embedding width]``."""
        s = (-self.means[centre] / self.deviations[centre, 0]).reshape(1, 1)
        radial = s.new_zeros(self.architecture.embedding[-1])
        for b, block in enumerate(near.blocks[centre]):
            radial = radial + (self.n_neighbours[b] - block.edges.shape[1]) * (s * self.embedding(centre, b)(s))[0]
        return torch.cat([radial[None], radial.new_zeros(3, len(radial))]).expand(len(near.atoms[centre]), -1, -1)

    def _features(self, moments: Tensor) -> Tensor:
        """Descriptors ``[n_a, n_features]`` from moments ``[n_a, 4, last embedding width]``."""
        return torch.bmm(moments.mT, moments[..., : self.architecture.axis_neurons]).flatten(1)

    def _normalized(self, centre: int, features: Tensor) -> Tensor:
        return (features - self.feature_means[centre]) / self.feature_deviations[centre]

    def _take_features(self, frames: Sequence[Frame], seed: int) -> None:
        """Normalize descriptors as they are before the first step, over some frames."""
        chosen = np.random.default_rng([seed, 3]).permutation(len(frames))[:_MAX_FRAMES]
        rows: list[list[Tensor]] = [[] for _ in self.elements]
        for k in chosen.tolist():
            batch = collate([build_graph(frames[k].atoms, self.elements, self.cutoff_ang)], dtype=self.means.dtype)
            near = neighbours(batch, len(self.elements))
            with torch.no_grad():
                edges = self.edges(batch)
                for a, found in enumerate(rows):
                    found.append(self._features(self._moments(a, edges, near)))
        for a, found in enumerate(rows):
            features = torch.cat(found)
            if len(features) > 1:
                means, deviations = features.mean(0), features.std(0)
                floor = _FLAT * max(float(deviations.max()), float(means.abs().max()), 1e-10)
                self.feature_means[a] = means
                self.feature_deviations[a] = deviations.clamp_min(floor)
                if self.architecture.principal_start is not None:
                    generator = torch.Generator().manual_seed((self._seed or seed) + a)
                    first_fitting_layer(
                        self.fitting(a),
                        features,
                        self.feature_means[a],
                        self.feature_deviations[a],
                        spread=self.architecture.principal_start,
                        generator=generator,
                    )

    def _start_embeddings(self, frames: Sequence[Frame], seed: int) -> None:
        """Radial functions and contrasts; all species get the same normalization of rows."""
        self.means.copy_(self.means.mean().expand_as(self.means))
        self.deviations.copy_(self.deviations.mean(0).expand_as(self.deviations))
        n = len(self.elements)
        first_embeddings(
            [[self.embedding(a, b) for b in range(n)] for a in range(n)],
            self.elements,
            frames,
            inner_ang=self.architecture.switch_ang,
            cutoff_ang=self.cutoff_ang,
            mean=float(self.means[0]),
            deviation=float(self.deviations[0, 0]),
            n_common=self.architecture.axis_neurons,
            seed=seed,
        )

    def _back_from_features(self, moments: Tensor, by_features: Tensor) -> Tensor:
        """Derivatives by the moments from those by the descriptors."""
        n_axis = self.architecture.axis_neurons
        slopes = by_features.reshape(len(moments), moments.shape[2], n_axis)
        by_moments = torch.bmm(moments[..., :n_axis], slopes.mT)
        of_axis = torch.bmm(moments, slopes)
        return torch.cat([by_moments[..., :n_axis] + of_axis, by_moments[..., n_axis:]], -1)

    def _draw(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for network in (*self.embeddings, *self.fittings):
            assert isinstance(network, ResidualNetwork)
            network.draw(generator)
