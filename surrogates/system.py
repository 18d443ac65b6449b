"""What a surrogate is built for: a design space, or just elements (to learn from files)."""

from __future__ import annotations

from collections.abc import Sequence

from ..structures.lattice import ParentLattice
from ..structures.space import DesignSpace

System = DesignSpace | Sequence[str]
"""A design space, or chemical symbols."""


def elements_of(system: System) -> tuple[str, ...]:
    """Chemical symbols."""
    return system.elements if isinstance(system, DesignSpace) else tuple(system)


def lattices_of(system: System) -> tuple[ParentLattice, ...]:
    """Lattices that structures are expected on, none for bare elements."""
    return system.lattices if isinstance(system, DesignSpace) else ()
