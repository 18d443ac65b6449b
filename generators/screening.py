"""Which generated structures are crystals worth a label, by their energies before and after relaxation.

The filter of Naghdi, Kaszuba et al., "Efficient autoencoder pipeline for discovering high entropy alloys with molecular
dynamics data" (2024), Sec. 4.3: after relaxation a structure must not have more energy per atom than the worst of the
training data, and before it at most 10 eV more than after; and no element may take more of it than in the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms

from ..errors import StructureError

ENERGY = "energy_ev_per_atom"
"""Key of the potential energy in the info of rows."""
_ROUNDING_EV = 1e-4  # of a cell's energies in files
FAULT = "fault"
"""In the info of drafts that do not count: what is wrong with them."""


@dataclass(frozen=True)
class ScreeningLimits:
    """What a generated structure may have.

    Attributes:
        energy_ev_per_atom: after relaxation, at most.
        relaxation_ev: of a cell, lost in relaxation, at most.
        fraction: of the most frequent element, at most.
    """

    energy_ev_per_atom: float
    relaxation_ev: float
    fraction: float


def limits_of(reference: Sequence[Atoms], relaxation_ev: float = 10.0) -> ScreeningLimits:
    """The limits that a reference set gives, labelled with relaxed energies.

    Raises:
        StructureError: no row has an energy.
    """
    known = [atoms for atoms in reference if _has_energy(atoms)]
    if not known:
        raise StructureError(
            f"no row of the reference holds {ENERGY}; label it with the oracle that relaxed the structures"
        )
    highest = max(float(atoms.info[ENERGY]) for atoms in known)
    return ScreeningLimits(highest, relaxation_ev, max(_largest_fraction(atoms)[1] for atoms in known))


def faults(drafts: Sequence[Atoms], relaxed: Sequence[Atoms], limits: ScreeningLimits) -> list[str]:
    """What is wrong with each structure; an empty text where nothing is.

    Args:
        drafts: as generated, with their energies in ``info``.
        relaxed: the same, relaxed.

    Raises:
        StructureError: the two do not belong together.
    """
    if len(drafts) != len(relaxed):
        raise StructureError(f"{len(drafts)} structures before relaxation and {len(relaxed)} after it")
    for number, (draft, after) in enumerate(zip(drafts, relaxed, strict=True)):
        if sorted(draft.numbers) != sorted(after.numbers):
            raise StructureError(f"row {number} is {draft.symbols} before relaxation and {after.symbols} after it")
    return [_fault(draft, after, limits) for draft, after in zip(drafts, relaxed, strict=True)]


def check_energies(drafts: Sequence[Atoms], relaxed: Sequence[Atoms]) -> None:
    """Find out whether two files can be what :func:`faults` is given.

    Raises:
        StructureError: no row of one of them has an energy, or they are the wrong way round.
    """
    for rows, when, oracle in ((drafts, "as generated", "single_point"), (relaxed, "relaxed", "relaxation")):
        if rows and not any(map(_has_energy, rows)):
            raise StructureError(
                f"{_no_energy(rows[0], when)}, and none in the other rows either; label them with `alloysmith label "
                f"oracles/{oracle}` first"
            )
    pairs = [pair for pair in zip(drafts, relaxed, strict=False) if all(map(_has_energy, pair))]
    n_gained = sum(_lost_ev(*pair) < -_ROUNDING_EV for pair in pairs)
    if n_gained > len(pairs) / 2:
        raise StructureError(
            f"{n_gained} of {len(pairs)} structures have more energy relaxed than as generated; are the two files "
            "swapped, or labelled with different potentials?"
        )


def early_fault(draft: Atoms, limits: ScreeningLimits) -> str:
    """What is wrong with a structure whatever relaxation makes of it, so that it need not be relaxed; often nothing."""
    if not _has_energy(draft):
        return _no_energy(draft, "as generated")
    element, fraction = _largest_fraction(draft)
    if fraction > limits.fraction + 1e-6:
        return f"{100.0 * fraction:.0f} % of it is {element}, more than {100.0 * limits.fraction:.0f} %"
    above = (float(draft.info[ENERGY]) - limits.energy_ev_per_atom) * len(draft)
    if above > limits.relaxation_ev:
        return f"{above:.1f} eV above what it may have when relaxed, more than {limits.relaxation_ev:g} eV"
    return ""


def _no_energy(atoms: Atoms, when: str) -> str:
    reason = atoms.info.get("failure_message") or atoms.info.get("failure") or f"no {ENERGY}"
    return f"no energy {when}: {reason}"


def _fault(draft: Atoms, relaxed: Atoms, limits: ScreeningLimits) -> str:
    for atoms, when in ((draft, "as generated"), (relaxed, "relaxed")):
        if not _has_energy(atoms):
            return _no_energy(atoms, when)
    per_atom, lost = float(relaxed.info[ENERGY]), _lost_ev(draft, relaxed)
    element, fraction = _largest_fraction(relaxed)
    # rounding in files must not decide about what equals the limit
    if per_atom > limits.energy_ev_per_atom + 1e-6:
        return f"{per_atom:.3f} eV per atom when relaxed, above {limits.energy_ev_per_atom:.3f} eV"
    if lost > limits.relaxation_ev:
        return f"relaxation takes {lost:.1f} eV off it, more than {limits.relaxation_ev:g} eV"
    if fraction > limits.fraction + 1e-6:
        return f"{100.0 * fraction:.0f} % of it is {element}, more than {100.0 * limits.fraction:.0f} %"
    return ""


def _lost_ev(draft: Atoms, relaxed: Atoms) -> float:
    """Energy of a cell that relaxation took."""
    return (float(draft.info[ENERGY]) - float(relaxed.info[ENERGY])) * len(relaxed)


def _has_energy(atoms: Atoms) -> bool:
    return ENERGY in atoms.info and not atoms.info.get("failure")


def _largest_fraction(atoms: Atoms) -> tuple[str, float]:
    element, count = Counter(atoms.symbols).most_common(1)[0]
    return str(element), count / len(atoms)
