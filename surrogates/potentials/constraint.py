"""What a physical constraint is: a term of the loss that looks at the model itself instead of labelled frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from .model import PotentialModel


@runtime_checkable
class Constraint(Protocol):
    """A target that a model should meet, for one crystal (or slab, or defect).

    Attributes:
        name: unique within a fit: ``elastic/fcc Ni``.
    """

    name: str

    def loss(self, model: PotentialModel) -> Tensor:
        """The weighted term of the loss, a scalar that is differentiable in the model's parameters."""
        ...

    def figures(self, model: PotentialModel) -> Mapping[str, tuple[float, float]]:
        """What the model gives and what is wanted, by name with unit: ``{"c11_gpa": (274.1, 276.0)}``."""
        ...
