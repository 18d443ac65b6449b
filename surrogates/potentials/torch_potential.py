"""A fitted potential whose model is a PyTorch module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ...oracles.force_engine import Evaluation
from ..base import SurrogateError, SurrogateState
from .base import PotentialSpec
from .core_repulsion import CoreRepulsion
from .graph import Graph, build_graph, collate
from .model import GraphEvaluator, PotentialModel

_MAX_PAIRS = 400_000  # bounds the memory of a batch
_Result = tuple[float, np.ndarray, np.ndarray]


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
            "core_ang": dict(self.spec.core_ang),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}
        return SurrogateState(self.spec.kind, {"spec": spec, "model": dict(self.model.settings())}, arrays)

    @classmethod
    def from_state(
        cls, state: SurrogateState, kind: str, build: Callable[[Any, tuple[str, ...]], PotentialModel]
    ) -> TorchPotential:
        """The potential of a state that :meth:`state` gave; its evaluations are identical.

        Args:
            state: of the potential.
            kind: what it must be of.
            build: makes an untrained model of what its ``settings()`` gave, and of the elements.

        Raises:
            SurrogateError: another kind, or an incomplete state.
        """
        if state.kind != kind:
            raise SurrogateError(f"expected a model of kind {kind!r}, got {state.kind!r}")
        try:
            spec: Mapping[str, Any] = state.settings["spec"]
            elements = tuple(spec["elements"])
            model = build(state.settings["model"], elements)
            model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.arrays.items()})
            return cls(PotentialSpec(kind=kind, **{**spec, "elements": elements}), model)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SurrogateError(
                f"the state of the {kind} model is incomplete or damaged: {' '.join(str(error).split())}; fit it again"
            ) from error

    @cached_property
    def _core(self) -> CoreRepulsion | None:
        return CoreRepulsion(self.spec.core_ang, self.spec.elements) if self.spec.core_ang else None

    @cached_property
    def _evaluator(self) -> GraphEvaluator | None:
        return self.model.evaluator()

    def _evaluated(self, graphs: Iterable[Graph]) -> list[Evaluation]:
        references = np.array([self.spec.reference_energies_ev.get(symbol, 0.0) for symbol in self.spec.elements])
        found: list[Evaluation] = []
        for members in _chunks(graphs):
            for graph, result in zip(members, self._results(members), strict=True):
                energy, forces, virial = self._with_core(graph, result)
                reference = float(references[graph.types].sum())
                volume = graph.volume_ang3 if graph.volume_ang3 > 0.0 else np.nan  # molecules have no stress
                found.append(Evaluation(energy + reference, forces, virial / volume))
        return found

    def _with_core(self, graph: Graph, result: _Result) -> _Result:
        """With the repulsion of nuclei that are too close."""
        core = None if self._core is None else self._core.evaluate(graph)
        if core is None:
            return result
        return result[0] + core[0], result[1] + core[1], result[2] + core[2]

    def _results(self, graphs: Sequence[Graph]) -> list[_Result]:
        """Energy, forces and virial of each graph."""
        if self._evaluator is None:
            return self._from_model(graphs)
        results = (self._evaluator.evaluate(graph) for graph in graphs)
        return [
            self._from_model([graph])[0] if result is None else result
            for graph, result in zip(graphs, results, strict=True)
        ]

    def _from_model(self, graphs: Sequence[Graph]) -> list[_Result]:
        parameter = next(self.model.parameters())
        with torch.no_grad():
            output = self.model(collate(graphs, dtype=parameter.dtype, device=str(parameter.device)))
        energies, forces, virials = (x.double().cpu().numpy() for x in (output.energies, output.forces, output.virials))
        ends = np.cumsum([len(graph.types) for graph in graphs])
        return list(zip(energies.tolist(), np.split(forces, ends[:-1]), virials, strict=True))


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
