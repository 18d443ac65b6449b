"""Structures with a property and a phase, from any file or campaign, as the model is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from ...errors import StructureError
from ...structures.composition import reduced_formula
from ...structures.phase import classify_phase
from ...structures.settings import Settings
from .crystals import Crystal, crystal_from

_N_NAMED = 5


class CrystalDataSettings(Settings):
    """What of the structures is learnt."""

    property: str | None = "bulk_modulus_gpa"
    """Name, in the rows' `info`, of the number that the latent vector is to tell; null: none."""
    elements: tuple[str, ...] = ()
    """Chemical symbols the model is to know; those in the data when left out."""
    phases: tuple[str, ...] = ()
    """Phases the model is to tell apart; those in the data when left out. A row's phase is the `phase` of its `info`,
    or found from its neighbourhoods. With a single phase there is no phase head: plain CDVAE."""
    validation_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the compositions that is held out; the losses on them decide about learning rate and weights. 0: the
    training structures themselves, under noise of their own."""
    on_bad_row: Literal["error", "drop"] = "error"
    """`error`: rows that cannot be learnt from end the fit before it begins, all of them counted. `drop`: they are
    left out, and told. Rows without the property are always left out."""


@dataclass(frozen=True)
class LabelledCrystals:
    """Structures to learn from.

    Attributes:
        crystals: the structures.
        groups: name of each one's composition.
        elements: chemical symbols that the crystals' types index.
        phases: names that their phases index.
        rows: number of each one's row, from 0.
        unusable: number of each row that cannot be used, from 0, and why.
        n_unlabelled: rows without the property.
    """

    crystals: tuple[Crystal, ...]
    groups: tuple[str, ...]
    elements: tuple[str, ...]
    phases: tuple[str, ...]
    rows: tuple[int, ...]
    unusable: Mapping[int, str]
    n_unlabelled: int

    def split(self, fraction: float, seed: int) -> tuple[tuple[Crystal, ...], tuple[Crystal, ...]]:
        """Training and held-out structures; compositions are held out as a whole.

        Raises:
            StructureError: too few compositions.
        """
        names = sorted(set(self.groups))
        n_held = max(1, round(fraction * len(names))) if fraction > 0.0 else 0
        if n_held >= len(names):
            named = ", ".join(names[:_N_NAMED]) + (", …" if len(names) > _N_NAMED else "")
            raise StructureError(
                f"validation_fraction: {fraction:g} would hold out all compositions; the {len(self.crystals)} "
                f"structures have {len(names)} ({named}). Add others, or set it to 0"
            )
        held = {names[k] for k in np.random.default_rng(seed).permutation(len(names))[:n_held]}
        pairs = list(zip(self.crystals, self.groups, strict=True))
        return tuple(c for c, g in pairs if g not in held), tuple(c for c, g in pairs if g in held)


def labelled_crystals(rows: Sequence[Atoms], settings: CrystalDataSettings) -> LabelledCrystals:
    """Read what the model learns from.

    Args:
        rows: structures of any source; periodic, with the property in ``info``.

    Raises:
        StructureError: fewer than two structures, a phase without any, rows that cannot be used (all of them are
            counted), or a property that no row has.
    """
    known = [i for i, atoms in enumerate(rows) if settings.property is None or _has_value(atoms, settings.property)]
    if not known and rows:
        names = sorted({name for atoms in rows for name, x in atoms.info.items() if _number(x) is not None})
        raise StructureError(
            f"no row holds the property {settings.property}; the rows hold {', '.join(names) or 'no numbers'}"
        )
    elements = settings.elements or tuple(sorted({s for i in known for s in rows[i].symbols.species()} - {"X"}))
    found: list[tuple[int, Crystal, str]] = []
    unusable: dict[int, str] = {}
    for i in known:
        value = _number(rows[i].info[settings.property]) if settings.property else None
        try:
            crystal = crystal_from(rows[i], elements, value=float("nan") if value is None else value)
            found.append((i, crystal, _phase(rows[i], settings.phases)))
        except StructureError as error:
            unusable[i] = str(error)
    if unusable and settings.on_bad_row == "error":
        listed = "\n  ".join(f"row {i}: {reason}" for i, reason in list(unusable.items())[:_N_NAMED])
        raise StructureError(
            f"{len(unusable)} of {len(known)} rows cannot be learnt from (set on_bad_row: drop to leave them out):\n"
            f"  {listed}" + ("\n  …" if len(unusable) > _N_NAMED else "")
        )
    if len(found) < 2:
        n = "one usable structure" if found else "no usable structure"
        raise StructureError(f"{n}; at least two are needed to learn what they share")
    counts = Counter(phase for _, _, phase in found)
    phases = settings.phases or tuple(sorted(counts))
    empty = [phase for phase in phases if not counts[phase]]
    if empty:
        raise StructureError(
            f"no structure of phase {' or '.join(empty)}; the data has "
            + ", ".join(f"{n} {phase}" for phase, n in sorted(counts.items()))
        )
    crystals = tuple(crystal.of_phase(phases.index(phase)) for _, crystal, phase in found)
    groups = tuple(reduced_formula(rows[i]) for i, _, _ in found)
    used = tuple(i for i, _, _ in found)
    return LabelledCrystals(crystals, groups, elements, phases, used, unusable, len(rows) - len(known))


def _has_value(atoms: Atoms, name: str) -> bool:
    return not atoms.info.get("failure") and _number(atoms.info.get(name)) is not None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if np.isfinite(value) else None


def _phase(atoms: Atoms, allowed: Sequence[str]) -> str:
    said = atoms.info.get("phase")
    phase = said if isinstance(said, str) and said else classify_phase(atoms).majority
    if allowed and phase not in allowed:
        raise StructureError(f"{atoms.symbols}: its phase is {phase}, but the model's phases are {', '.join(allowed)}")
    return phase
