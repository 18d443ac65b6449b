"""Compositions: reading and writing them, grids over the simplex, and what a cell can realize."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ..errors import StructureError
from .lattice import ParentLattice
from .space import DesignSpace

_TERM = re.compile(r"([A-Z][a-z]?)\s*:?\s*((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)?[\s,_-]*")

Composition = str | Mapping[str, float]
"""``"Ni0.5Fe0.3Cr0.2"``, ``"Ni50Fe30Cr20"``, ``"NiFeCr"`` (equal parts) or a mapping; amounts are relative."""


def reduced_formula(atoms: Atoms) -> str:
    """The composition by name: the same for cells of any size, elements in Hill's order."""
    return str(atoms.symbols.formula.reduce()[0].format("hill"))


def parse_composition(composition: Composition) -> dict[str, float]:
    """Atomic fractions by element, adding up to 1.

    Raises:
        StructureError: not a formula, an unknown or repeated element, or amounts that are not positive numbers.
    """
    amounts: dict[str, float] = {}
    for element, amount in _terms(composition):
        if element not in atomic_numbers or element == "X":
            raise StructureError(f"{element!r} in the composition {composition!r} is not an element")
        if element in amounts:
            raise StructureError(f"{element} stands twice in the composition {composition!r}")
        if not (np.isfinite(amount) and amount >= 0.0):
            raise StructureError(f"the amount of {element} in {composition!r} must not be negative, got {amount:g}")
        amounts[element] = amount
    total = sum(amounts.values())
    if total <= 0.0:
        raise StructureError(f"the composition {composition!r} holds nothing; write for example 'Ni0.5Fe0.3Cr0.2'")
    return {element: amount / total for element, amount in amounts.items()}


def _terms(composition: Composition) -> list[tuple[str, float]]:
    if isinstance(composition, Mapping):
        return [(element, float(amount)) for element, amount in composition.items()]
    text = composition.strip()
    terms, position = [], 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise StructureError(
                f"the composition {composition!r} cannot be read at {text[position:]!r}; "
                "write for example 'Ni0.5Fe0.3Cr0.2', 'Ni3Fe' or 'NiFeCr'"
            )
        terms.append((match[1], float(match[2]) if match[2] else 1.0))
        position = match.end()
    return terms


def format_composition(amounts: Mapping[str, float], digits: int = 3) -> str:
    """A formula such as ``"Ni0.5Fe0.3Cr0.2"``: fractions rounded to ``digits``, elements that are absent left out."""
    fractions = parse_composition(amounts)
    present = {element: fraction for element, fraction in fractions.items() if fraction > 0.0}
    if len(present) == 1:
        return next(iter(present))
    return "".join(element + f"{fraction:.{digits}f}".rstrip("0").rstrip(".") for element, fraction in present.items())


def format_counts(elements: Sequence[str], counts: np.ndarray) -> str:
    """A formula of whole numbers such as ``"Ni27Fe16Cr11"``; elements that are absent left out."""
    return "".join(f"{e}{int(n)}" for e, n in zip(elements, counts, strict=True) if n > 0)


def nearest_counts(space: DesignSpace, fractions: np.ndarray, n_sites: int) -> np.ndarray:
    """The allowed counts ``[n_elements]`` nearest to ``fractions`` ``[n_elements]`` (least squares)."""
    low, high = space.count_bounds(n_sites)
    target = np.asarray(fractions) * n_sites
    counts = low.copy()
    for _ in range(n_sites - int(low.sum())):  # the cost is convex, so the best next atom is always right
        counts[np.where(counts < high, target - counts, -np.inf).argmax()] += 1
    return counts


def realize(space: DesignSpace, lattice: ParentLattice, composition: Composition) -> np.ndarray:
    """Counts ``[n_elements]`` of a composition in a cell, rounded to whole atoms.

    Raises:
        StructureError: an element outside the space, or a composition that the bounds of the space forbid.
    """
    parsed = parse_composition(composition)
    others = sorted(element for element, x in parsed.items() if x > 0.0 and element not in space.elements)
    if others:
        raise StructureError(
            f"{', '.join(others)} in the composition {composition!r} is not among the elements "
            f"{', '.join(space.elements)}; leave it out or add it to the system"
        )
    fractions = np.array([parsed.get(element, 0.0) for element in space.elements])
    counts = nearest_counts(space, fractions, lattice.n_sites)
    if np.abs(counts - fractions * lattice.n_sites).max() > 1.0 - 1e-9:  # more than rounding
        raise StructureError(
            f"the composition {format_composition(parsed)} is outside the bounds of the design space; the nearest one "
            f"that {lattice.n_sites} sites allow is {format_counts(space.elements, counts)} "
            f"({format_composition(dict(zip(space.elements, counts.tolist(), strict=True)))})"
        )
    return counts


def composition_grid(space: DesignSpace, step: float) -> np.ndarray:
    """All compositions on a grid over the simplex within the bounds of the space.

    Args:
        step: spacing of the fractions; must divide 1.

    Returns:
        Fractions ``[n, n_elements]``, in lexicographic order.

    Raises:
        StructureError: the step does not divide 1, or no grid point is within the bounds.
    """
    n_steps = round(1.0 / step) if step > 0.0 else 0
    if n_steps < 1 or abs(n_steps * step - 1.0) > 1e-6:
        raise StructureError(f"the step of a composition grid must divide 1, got {step:g}; try 0.05, 0.1 or 0.25")
    low, high = space.count_bounds(n_steps)
    partial: list[tuple[int, ...]] = [()]
    for k in range(len(space.elements)):
        rest_low, rest_high = int(low[k + 1 :].sum()), int(high[k + 1 :].sum())
        partial = [
            (*head, count)
            for head in partial
            for count in range(int(low[k]), int(high[k]) + 1)
            if rest_low <= n_steps - sum(head) - count <= rest_high
        ]
    if not partial:
        raise StructureError(f"no composition on a grid of step {step:g} is within the bounds; use a finer step")
    return np.array(partial) / n_steps
