"""What all physical constraints share: residuals, the loss they make, and the zero of energies.

A constraint compares a few quantities of a model with targets. Its differences are divided by a tolerance, so that they
have no unit; the sum of their squares is the loss. A trainer that knows nothing of constraints adds up the losses; one
of the Gauss-Newton kind stacks the residuals under those of the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ...base import SurrogateError
from ..constraint import Constraint
from ..graph import type_indices
from ..model import PotentialModel

EnergyZero = Literal["labels", "atoms"]
"""What a target's energy counts from: the zero of the training labels, or free atoms."""

LossForm = Literal["squared", "norm"]
"""Mean squares of differences over tolerances, or the norms of the paper."""


@runtime_checkable
class ResidualConstraint(Constraint, Protocol):
    """A constraint whose loss comes from residuals, for trainers of the Gauss-Newton kind."""

    def residuals(self, model: PotentialModel) -> Tensor:
        """``[k]``, dimensionless and weighted; the sum of their squares is the loss in its squared form."""
        ...


@runtime_checkable
class RefreshedConstraint(Constraint, Protocol):
    """A constraint that remembers a geometry between calls; a checkpoint has to hold it for an exact resume."""

    def reset(self) -> None:
        """Forget it, as before the first call, so that a training does not depend on an earlier one."""
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """What it remembers, as named arrays."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what :meth:`state` gave."""
        ...


@dataclass(frozen=True)
class Setting:
    """Where a constraint is evaluated: what it has to know of the model before there is one.

    Attributes:
        elements: chemical symbols of the model's types, in order.
        cutoff_ang: range of the model's pairs, Å.
        dtype: precision of the model's parameters.
        device: where the model is.
        reference_energies_ev: energy per atom of each element that was taken from the labels before the fit, eV.
    """

    elements: tuple[str, ...]
    cutoff_ang: float
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    reference_energies_ev: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def require(self, model: PotentialModel) -> None:
        """Check that neighbours that were found for this setting are those of a model.

        Raises:
            SurrogateError: the model has other elements or another range.
        """
        if (model.elements, model.cutoff_ang) != (self.elements, self.cutoff_ang):
            raise SurrogateError(
                f"a constraint was built for {', '.join(self.elements)} within {self.cutoff_ang:g} Å, but the model is "
                f"of {', '.join(model.elements)} within {model.cutoff_ang:g} Å; build it for this model"
            )

    def model_energy_ev(self, energy_ev_per_atom: float, atoms: Atoms, zero: EnergyZero) -> float:
        """A target energy per atom on the model's scale, eV/atom.

        A model learns labels less the reference energies. So a target on the labels' zero loses them too; one that
        counts from free atoms is taken as it is, which is right when the model's energy of a free atom is zero.
        """
        if zero == "atoms":
            return energy_ev_per_atom
        symbols = atoms.get_chemical_symbols()
        taken = sum(self.reference_energies_ev.get(symbol, 0.0) for symbol in symbols)
        return energy_ev_per_atom - taken / len(symbols)


@dataclass(frozen=True)
class Differences:
    """Differences of one kind of quantity.

    Attributes:
        values: ``[k]``, model less target, in their unit.
        tolerance: the difference that counts as one, in the same unit.
    """

    values: Tensor
    tolerance: float


class PhysicalConstraint(ABC):
    """A constraint made of differences from targets; see :class:`~..constraint.Constraint`.

    Args:
        name: unique within a fit.
        weight: factor of the loss.
    """

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight

    @abstractmethod
    def differences(self, model: PotentialModel) -> Sequence[Differences]:
        """Model less target, by kind of quantity; differentiable in the model's parameters."""

    @abstractmethod
    def figures(self, model: PotentialModel) -> Mapping[str, tuple[float, float]]:
        """What the model gives and what is wanted, by name with unit."""

    def residuals(self, model: PotentialModel) -> Tensor:
        """``[k]``: differences over their tolerance, each kind divided by the root of its number, times √weight."""
        parts = [part.values / (part.tolerance * len(part.values) ** 0.5) for part in self.differences(model)]
        return self.weight**0.5 * torch.cat(parts)

    def loss(self, model: PotentialModel) -> Tensor:
        """Weight times the sum over kinds of the mean squared difference over tolerance; a scalar."""
        return self.residuals(model).square().sum()


def require_elements(atoms: Atoms, setting: Setting, name: str) -> None:
    """Check that a model of this setting has all elements of a structure.

    Raises:
        SurrogateError: it does not; the constraint is named.
    """
    try:
        type_indices(atoms, setting.elements)
    except SurrogateError as error:
        raise SurrogateError(f"constraint {name!r}: {error}; leave it out or add the element") from error
