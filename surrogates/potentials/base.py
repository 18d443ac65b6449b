"""What an interatomic potential is: energies, forces and stresses of any structure of its elements.

A potential is a surrogate of a kind of its own: where a :class:`~alloysmith.surrogates.base.Surrogate` predicts scalar
properties with a spread, a potential gives the energy surface, with which MD and relaxations run. A committee of
potentials gives the spread (:mod:`.committee`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from ase import Atoms

from ...oracles.force_engine import Evaluation
from ..base import SurrogateState
from .graph import Graph


@dataclass(frozen=True)
class PotentialSpec:
    """What a potential declares about itself.

    Attributes:
        kind: the ``kind:`` of its settings in a configuration file.
        elements: chemical symbols of its types, in order.
        cutoff_ang: range of its pairs, Å.
        n_train: number of frames it was fitted to; 0 for published parameters.
        reference_energies_ev: energy per atom of each element, eV, that was taken from the labels before the fit and
            that :meth:`Potential.evaluate` adds again, so that it compares with the labels. Empty when none was.
        facts: JSON-able facts for the potential's card: data, constraints, errors, valid range.
        core_ang: pair of elements ``A-B`` -> distance, Å, below which :meth:`Potential.evaluate` adds the repulsion of
            the nuclei, see :mod:`.core_repulsion`. Empty where it never does.
    """

    kind: str
    elements: tuple[str, ...]
    cutoff_ang: float
    n_train: int = 0
    reference_energies_ev: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    core_ang: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class Potential(Protocol):
    """A fitted potential; never changes."""

    @property
    def spec(self) -> PotentialSpec: ...

    def evaluate(self, structures: Sequence[Atoms]) -> list[Evaluation]:
        """Energies, forces and stresses; NaN for the stress of a structure that has no cell.

        Raises:
            SurrogateError: an element the potential does not know, or coordinates that are not finite.
        """
        ...

    def state(self) -> SurrogateState:
        """The potential as plain data; reading it back gives identical evaluations."""
        ...


@runtime_checkable
class GraphPotential(Potential, Protocol):
    """A potential that also takes graphs, so that neighbours of atoms that move can be kept."""

    def evaluate_graphs(self, graphs: Sequence[Graph]) -> list[Evaluation]:
        """Energies, forces and stresses of structures whose neighbours are known; types as in ``spec.elements``."""
        ...
