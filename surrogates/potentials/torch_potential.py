"""A fitted potential whose model is a PyTorch module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from ...oracles.force_engine import Evaluation
from ..base import SurrogateState
from .base import PotentialSpec
from .graph import Graph, build_graph, collate
from .model import PotentialModel

_MAX_PAIRS = 400_000  # bounds the memory of a batch


@dataclass(frozen=True)
class TorchPotential:
    """A model and what is known about it.

    Attributes:
        spec: see :class:`~.base.PotentialSpec`.
        model: its parameters are not changed from here on.
    """

    spec: PotentialSpec
    model: PotentialModel

    def evaluate(self, structures: Sequence[Atoms]) -> list[Evaluation]:
        """See :meth:`~.base.Potential.evaluate`."""
        return self._evaluated(build_graph(atoms, self.spec.elements, self.spec.cutoff_ang) for atoms in structures)

    def evaluate_graphs(self, graphs: Sequence[Graph]) -> list[Evaluation]:
        """See :meth:`~.base.GraphPotential.evaluate_graphs`."""
        return self._evaluated(graphs)

    def state(self) -> SurrogateState:
        """See :meth:`~.base.Potential.state`."""
        spec = {
            "elements": list(self.spec.elements),
            "cutoff_ang": self.spec.cutoff_ang,
            "n_train": self.spec.n_train,
            "reference_energies_ev": dict(self.spec.reference_energies_ev),
            "facts": dict(self.spec.facts),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}
        return SurrogateState(self.spec.kind, {"spec": spec, "model": dict(self.model.settings())}, arrays)

    def _evaluated(self, graphs: Iterable[Graph]) -> list[Evaluation]:
        found: list[Evaluation] = []
        parameter = next(self.model.parameters())
        references = np.array([self.spec.reference_energies_ev.get(symbol, 0.0) for symbol in self.spec.elements])
        for members in _chunks(graphs):
            batch = collate(members, dtype=parameter.dtype, device=str(parameter.device))
            with torch.no_grad():
                output = self.model(batch)
            energies = output.energies.double().cpu().numpy()
            volumes = torch.where(batch.volumes > 0.0, batch.volumes, torch.nan)  # molecules have no stress
            stresses = (output.virials / volumes[:, None, None]).double().cpu().numpy()
            forces = np.split(output.forces.double().cpu().numpy(), np.cumsum([len(g.types) for g in members])[:-1])
            for k, graph in enumerate(members):
                reference = float(references[graph.types].sum())
                found.append(Evaluation(float(energies[k]) + reference, forces[k], stresses[k]))
        return found


def _chunks(graphs: Iterable[Graph]) -> Iterator[list[Graph]]:
    members: list[Graph] = []
    n_pairs = 0
    for graph in graphs:
        if members and n_pairs + len(graph.first) > _MAX_PAIRS:
            yield members
            members, n_pairs = [], 0
        members.append(graph)
        n_pairs += len(graph.first)
    if members:
        yield members
