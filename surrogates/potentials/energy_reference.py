"""Energies of the elements that are taken from the labels before a fit, and added again to predictions.

Total energies of a DFT code carry the energies of its free pseudo-atoms, hundreds of eV that no interatomic potential
should have to describe. Which energies to take off is never guessed: none by default, given ones, or those of a
least-squares fit to composition, which needs frames that tell the elements apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ..base import SurrogateError
from .data_settings import EnergyReference
from .frame import Frame

_MIN_SINGULAR_SHARE = 1e-3
"""Compositions that span less are of one stoichiometry but for a few defects."""


def reference_energies(
    reference: EnergyReference, frames: Sequence[Frame], elements: Sequence[str]
) -> dict[str, float]:
    """Energy per atom of each element, eV, that is to be taken from the labels; empty for none.

    Args:
        frames: those that are learned from (never test frames, which would leak into the fit).
        elements: of the potential, in order.

    Raises:
        SurrogateError: an element has no given energy, or the compositions do not determine the energies.
    """
    if reference == "none":
        return {}
    if reference == "least_squares":
        return _fitted(frames, elements)
    missing = [symbol for symbol in elements if symbol not in reference]
    if missing:
        raise SurrogateError(
            f"energy_reference has no energy of {', '.join(missing)}; it has {', '.join(reference) or 'none at all'}"
        )
    return {symbol: float(reference[symbol]) for symbol in elements}


def without_reference(frames: Sequence[Frame], energies_ev: Mapping[str, float]) -> list[Frame]:
    """Frames whose energies are relative to those of the elements; forces and stresses stay as they are."""
    if not energies_ev:
        return list(frames)
    return [replace(frame, energy_ev=frame.energy_ev - reference_energy(frame, energies_ev)) for frame in frames]


def reference_energy(frame: Frame, energies_ev: Mapping[str, float]) -> float:
    """Sum of the elements' energies over a frame's atoms, eV.

    Raises:
        SurrogateError: an element has no energy.
    """
    numbers, counts = np.unique(frame.atoms.numbers, return_counts=True)
    symbols = [chemical_symbols[number] for number in numbers]
    missing = sorted(set(symbols) - set(energies_ev))
    if missing:
        raise SurrogateError(f"{frame.source or 'a frame'} has {', '.join(missing)}, which has no reference energy")
    return float(sum(energies_ev[symbol] * n for symbol, n in zip(symbols, counts.tolist(), strict=True)))


def _fitted(frames: Sequence[Frame], elements: Sequence[str]) -> dict[str, float]:
    numbers = np.array([atomic_numbers[symbol] for symbol in elements])
    fractions = np.array([(frame.atoms.numbers[:, None] == numbers).mean(axis=0) for frame in frames])
    fractions = fractions.reshape(len(frames), len(elements))
    energies = np.array([frame.energy_ev / len(frame.atoms) for frame in frames])
    absent = [symbol for symbol, column in zip(elements, fractions.T, strict=True) if not column.any()]
    if absent:
        raise SurrogateError(
            f"least_squares cannot give a reference energy of {', '.join(absent)}, which no training frame has; give "
            "energies by element, or frames with it"
        )
    _, singular, directions = np.linalg.svd(fractions, full_matrices=len(frames) < len(elements))
    strengths = np.zeros(len(elements))
    strengths[: len(singular)] = singular
    free = directions[strengths < _MIN_SINGULAR_SHARE * strengths[0]]
    if len(free) > 0:
        involved = np.abs(free).max(axis=0) > 0.05
        named = ", ".join(symbol for symbol, is_free in zip(elements, involved, strict=True) if is_free)
        raise SurrogateError(
            f"the compositions of the {len(frames)} training frames do not tell apart the reference energies of "
            f"{named}; give energies by element, or frames of other compositions (the pure elements, for example)"
        )
    solution = np.linalg.lstsq(fractions, energies, rcond=None)[0]
    return {symbol: float(energy) for symbol, energy in zip(elements, solution, strict=True)}
