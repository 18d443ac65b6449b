"""A fitted potential whose model is a PyTorch module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        found: list[Evaluation] = []
        parameter = next(self.model.parameters())
        for members, graphs in self._chunks(structures):
            batch = collate(graphs, dtype=parameter.dtype, device=str(parameter.device))
            with torch.no_grad():
                output = self.model(batch)
            energies = output.energies.double().cpu().numpy()
            stresses = (output.virials / batch.volumes[:, None, None]).double().cpu().numpy()
            forces = np.split(output.forces.double().cpu().numpy(), np.cumsum([len(g.types) for g in graphs])[:-1])
            for k, atoms in enumerate(members):
                found.append(Evaluation(float(energies[k]) + self._reference(atoms), forces[k], stresses[k]))
        return found

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

    def _reference(self, atoms: Atoms) -> float:
        energies = self.spec.reference_energies_ev
        return sum(energies.get(symbol, 0.0) * n for symbol, n in atoms.symbols.formula.count().items())

    def _chunks(self, structures: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], list[Graph]]]:
        members: list[Atoms] = []
        graphs: list[Graph] = []
        n_pairs = 0
        for atoms in structures:
            graph = build_graph(atoms, self.spec.elements, self.spec.cutoff_ang)
            if graphs and n_pairs + len(graph.first) > _MAX_PAIRS:
                yield members, graphs
                members, graphs, n_pairs = [], [], 0
            members.append(atoms)
            graphs.append(graph)
            n_pairs += len(graph.first)
        if graphs:
            yield members, graphs
