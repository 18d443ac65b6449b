"""Several potentials that learnt the same labels differently: where they disagree, none of them knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from ...oracles.force_engine import Evaluation
from ..base import SurrogateError, SurrogateState
from .base import Potential, PotentialSpec

KIND: Literal["committee"] = "committee"


@dataclass(frozen=True)
class Disagreement:
    """How far the members of a committee are apart on structures.

    Attributes:
        force_ev_ang: ``[n]``, eV/Å: the largest over the atoms of sqrt(mean over members of |F - mean F|^2), the
            maximum force deviation of Zhang et al., Phys. Rev. Mater. 3, 023804 (2019), Eq. 2.
        energy_ev_per_atom: ``[n]``, standard deviation of the energy per atom.
    """

    force_ev_ang: np.ndarray
    energy_ev_per_atom: np.ndarray


@dataclass(frozen=True)
class Committee:
    """Potentials of the same elements; evaluates to the mean of its members.

    Attributes:
        members: at least two.

    Raises:
        SurrogateError: fewer than two members, or members of different elements.
    """

    members: tuple[Potential, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise SurrogateError(f"a committee needs at least two members, got {len(self.members)}")
        if len({member.spec.elements for member in self.members}) > 1:
            raise SurrogateError("the members of a committee must have the same elements in the same order")

    @property
    def spec(self) -> PotentialSpec:
        """The first member's, under the kind of a committee."""
        first = self.members[0].spec
        cutoff = max(member.spec.cutoff_ang for member in self.members)
        return PotentialSpec(KIND, first.elements, cutoff, first.n_train, first.reference_energies_ev, first.facts)

    def evaluate(self, structures: Sequence[Atoms]) -> list[Evaluation]:
        """See :meth:`~.base.Potential.evaluate`."""
        return self.evaluate_with_disagreement(structures)[0]

    def evaluate_with_disagreement(self, structures: Sequence[Atoms]) -> tuple[list[Evaluation], Disagreement]:
        """The mean of the members, and how far they are apart."""
        return mean_and_disagreement([member.evaluate(structures) for member in self.members])

    def state(self) -> SurrogateState:
        """See :meth:`~.base.Potential.state`."""
        states = [member.state() for member in self.members]
        arrays = {f"{i}.{name}": array for i, state in enumerate(states) for name, array in state.arrays.items()}
        settings = {"members": [{"kind": state.kind, "settings": dict(state.settings)} for state in states]}
        return SurrogateState(KIND, settings, arrays)


def mean_and_disagreement(answers: Sequence[Sequence[Evaluation]]) -> tuple[list[Evaluation], Disagreement]:
    """The mean of what each member says about each structure, and how far they are apart.

    Args:
        answers: of each member, of each structure.
    """
    means: list[Evaluation] = []
    forces_apart, energies_apart = [], []
    for found in zip(*answers, strict=True):
        energies = np.array([evaluation.energy_ev for evaluation in found])
        forces = np.stack([evaluation.forces for evaluation in found])
        stresses = np.stack([evaluation.stress for evaluation in found])
        means.append(Evaluation(float(energies.mean()), forces.mean(axis=0), stresses.mean(axis=0)))
        squares = ((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
        forces_apart.append(np.sqrt(squares.max()))
        energies_apart.append(energies.std() / forces.shape[1])
    return means, Disagreement(np.array(forces_apart), np.array(energies_apart))


def member_states(state: SurrogateState) -> list[SurrogateState]:
    """The states of a committee's members.

    Raises:
        SurrogateError: the state is of another kind or incomplete.
    """
    if state.kind != KIND:
        raise SurrogateError(f"a {KIND} cannot be made of a {state.kind}")
    members: list[SurrogateState] = []
    try:
        for i, member in enumerate(state.settings["members"]):
            prefix = f"{i}."
            arrays: Mapping[str, np.ndarray] = {
                name.removeprefix(prefix): array for name, array in state.arrays.items() if name.startswith(prefix)
            }
            members.append(SurrogateState(member["kind"], member["settings"], arrays))
    except (KeyError, TypeError) as error:
        raise SurrogateError(f"the state of a committee is incomplete ({error!r})") from error
    return members
