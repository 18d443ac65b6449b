"""A set of generated structures beside a reference set, or pair by pair beside what they should have become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import wasserstein_distance

from ...errors import StructureError
from ..phase import classify_phase
from .g_vectors import g_distance
from .identity import fault_of, identify
from .matching import coordination_fingerprint, match_rms

_N_TOP = 10

Row = dict[str, Any]
"""What is known of one generated structure: JSON-able values by name."""


@dataclass(frozen=True)
class SetFigures:
    """Figures of a generated set; shares are of all structures unless said otherwise.

    Attributes:
        n_generated, n_reference: structures.
        valid: share without a fault, see :func:`~alloysmith.structures.similarity.identity.fault_of`.
        phases: share of the valid ones by the lattice that most of their atoms are on.
        unique: different ones modulo symmetry among the valid, as a share of the valid.
        novel: share of the unique ones that are not in the reference; ``None`` without a reference.
        valid_unique_novel: all three, as a share of everything generated.
        volume_distance_ang3: Wasserstein distance of the volumes per atom (Å^3) of valid structures to the reference's.
        composition_distance: the same of atomic fractions, summed over elements.
        properties: statistics of properties, by name.
    """

    n_generated: int
    n_reference: int
    valid: float
    phases: dict[str, float]
    unique: float
    novel: float | None
    valid_unique_novel: float | None
    volume_distance_ang3: float | None
    composition_distance: float | None
    properties: dict[str, PropertyFigures]


@dataclass(frozen=True)
class PropertyFigures:
    """Statistics of one property over the structures that have it.

    Attributes:
        n: structures that have it.
        mean, std, least, most: over them, in the property's unit.
        top_mean, bottom_mean: means over the ten largest and the ten smallest values.
        above_reference: share above the reference's largest value; ``None`` without reference values.
        reference_mean, reference_most: of the reference.
        distance: Wasserstein distance to the reference's values, in the property's unit.
    """

    n: int
    mean: float
    std: float
    least: float
    most: float
    top_mean: float
    bottom_mean: float
    above_reference: float | None = None
    reference_mean: float | None = None
    reference_most: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class PairFigures:
    """Figures of structures beside their counterparts; means are over the pairs that could be compared.

    Attributes:
        n_pairs: pairs.
        valid: share of generated structures without a fault; the others count as failures below.
        match_rate: share of pairs that ``StructureMatcher`` matches.
        rms: mean root mean square displacement of the matched, in units of the cube root of the volume per atom.
        g_distance, blind_g_distance: mean distances by G vectors, with elements and without.
        fingerprint_distance: mean distance of coordination fingerprints; ``None`` where they were not asked for.
    """

    n_pairs: int
    valid: float
    match_rate: float
    rms: float | None
    g_distance: float | None
    blind_g_distance: float | None
    fingerprint_distance: float | None


def compare_sets(
    generated: Sequence[Atoms], reference: Sequence[Atoms] = (), properties: Sequence[str] = ()
) -> tuple[SetFigures, list[Row]]:
    """Figures of a generated set, and a row for each of its structures.

    Args:
        reference: what the model was trained on, for novelty and distances of distributions.
        properties: keys of ``atoms.info`` to make statistics of; a structure without the value is left out of them.

    Raises:
        StructureError: nothing was generated, a structure of the reference has a fault, or no generated structure has
            a property that was asked for.
    """
    if not generated:
        raise StructureError("there are no generated structures to compare")
    for number, atoms in enumerate(reference):
        if (fault := fault_of(atoms)) is not None:
            raise StructureError(f"structure {number} of the reference has a fault: {fault}; leave it out")
    faults = [fault_of(atoms) for atoms in generated]
    valid = [i for i, fault in enumerate(faults) if fault is None]
    known = identify([*reference, *(generated[i] for i in valid)])
    old, new = set(known[: len(reference)].tolist()), known[len(reference) :].tolist()
    rows: list[Row] = [
        {"index": i, "formula": atoms.get_chemical_formula(), "fault": fault}
        for i, (atoms, fault) in enumerate(zip(generated, faults, strict=True))
    ]
    firsts: dict[int, int] = {}
    for i, group in zip(valid, new, strict=True):
        first = firsts.setdefault(group, i)
        rows[i] |= {"phase": classify_phase(generated[i]).majority, "same_as": None if first == i else first}
        if reference:
            rows[i]["is_novel"] = group not in old
    n_novel = sum(rows[first].get("is_novel", True) for first in firsts.values())
    phases = [rows[i]["phase"] for i in valid]
    good = [generated[i] for i in valid]
    for name in properties:
        for row, atoms in zip(rows, generated, strict=True):
            row[name] = _value(atoms, name)
    figures = SetFigures(
        n_generated=len(generated),
        n_reference=len(reference),
        valid=len(valid) / len(generated),
        phases={phase: phases.count(phase) / len(phases) for phase in sorted(set(phases))},
        unique=len(firsts) / len(valid) if valid else 0.0,
        novel=n_novel / len(firsts) if reference and firsts else None,
        valid_unique_novel=n_novel / len(generated) if reference else None,
        volume_distance_ang3=_distance(good, reference, _volume),
        composition_distance=_composition_distance(good, reference),
        properties={name: _property_figures(name, good, reference) for name in properties},
    )
    return figures, rows


def compare_pairs(
    generated: Sequence[Atoms],
    reference: Sequence[Atoms],
    *,
    has_fingerprints: bool = False,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[PairFigures, list[Row]]:
    """Figures of structures that should have become those of the reference, pair by pair.

    Args:
        has_fingerprints: compute coordination fingerprints too, which takes about a second a pair of 54 atoms.
        report: is told the number of pairs done.

    Raises:
        StructureError: different numbers of structures, or none.
    """
    if len(generated) != len(reference) or not generated:
        raise StructureError(
            f"pairs need as many generated structures as references, got {len(generated)} and {len(reference)}"
        )
    rows: list[Row] = []
    for number, (atoms, target) in enumerate(zip(generated, reference, strict=True)):
        row: Row = {"index": number, "formula": atoms.get_chemical_formula(), "fault": fault_of(atoms)}
        if row["fault"] is None:
            row["rms"] = match_rms(atoms, target)
            if len(atoms) == len(target):
                row["g_distance"] = g_distance(atoms, target)
                row["blind_g_distance"] = g_distance(atoms, target, is_blind=True)
            if has_fingerprints:
                row["fingerprint_distance"] = _fingerprint_distance(atoms, target)
        rows.append(row)
        report(number + 1)
    figures = PairFigures(
        n_pairs=len(rows),
        valid=sum(row["fault"] is None for row in rows) / len(rows),
        match_rate=sum(row.get("rms") is not None for row in rows) / len(rows),
        rms=_mean(rows, "rms"),
        g_distance=_mean(rows, "g_distance"),
        blind_g_distance=_mean(rows, "blind_g_distance"),
        fingerprint_distance=_mean(rows, "fingerprint_distance"),
    )
    return figures, rows


def as_json(figures: SetFigures | PairFigures) -> dict[str, Any]:
    """Figures as plain data."""
    return asdict(figures)


def _fingerprint_distance(first: Atoms, second: Atoms) -> float | None:
    try:
        return float(np.linalg.norm(coordination_fingerprint(first) - coordination_fingerprint(second)))
    except StructureError:
        return None


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def _value(atoms: Atoms, name: str) -> float | None:
    value = atoms.info.get(name)
    is_number = isinstance(value, int | float | np.integer | np.floating) and np.isfinite(value)
    return float(value) if is_number and value is not None else None


def _volume(atoms: Atoms) -> float:
    return float(abs(np.linalg.det(atoms.cell.array)) / len(atoms))


def _distance(first: Sequence[Atoms], second: Sequence[Atoms], of: Callable[[Atoms], float]) -> float | None:
    if not first or not second:
        return None
    return float(wasserstein_distance([of(a) for a in first], [of(a) for a in second]))


def _composition_distance(first: Sequence[Atoms], second: Sequence[Atoms]) -> float | None:
    if not first or not second:
        return None
    numbers = sorted({int(z) for atoms in (*first, *second) for z in atoms.numbers})
    shares = [_distance(first, second, lambda atoms, z=z: float((atoms.numbers == z).mean())) or 0.0 for z in numbers]  # type: ignore[misc]
    return float(sum(shares))


def _property_figures(name: str, generated: Sequence[Atoms], reference: Sequence[Atoms]) -> PropertyFigures:
    values = np.sort([v for atoms in generated if (v := _value(atoms, name)) is not None])
    if not len(values):
        known = sorted({key for atoms in generated for key in atoms.info})
        raise StructureError(
            f"no valid generated structure has a number {name!r}; their info has {', '.join(known) or 'nothing'}"
        )
    old = np.array([v for atoms in reference if (v := _value(atoms, name)) is not None])
    beside = (
        {
            "above_reference": float((values > old.max()).mean()),
            "reference_mean": float(old.mean()),
            "reference_most": float(old.max()),
            "distance": float(wasserstein_distance(values, old)),
        }
        if len(old)
        else {}
    )
    return PropertyFigures(
        n=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        least=float(values[0]),
        most=float(values[-1]),
        top_mean=float(values[-_N_TOP:].mean()),
        bottom_mean=float(values[:_N_TOP].mean()),
        **beside,
    )
