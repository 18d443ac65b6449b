"""Times, numbers, properties and compositions as people read them, in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms


def duration_text(seconds: float | None) -> str:
    """Seconds as people say them: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def number_text(value: float, digits: int = 0) -> str:
    """A number with thin spaces between thousands."""
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def value_text(value: float) -> str:
    """A property's value with six significant digits at most and two decimals at least where it is of order 1 or more:
    ``197.31``, ``0.00123457``."""
    return f"{value:.2f}" if 0.1 <= abs(value) < 1e6 else f"{value:.6g}"


def composition_text(atoms: Atoms, elements: Sequence[str]) -> str:
    """Counts of atoms in the order of ``elements``: ``Ni5Fe30Cr19``; absent elements are left out."""
    return "".join(f"{element}{count}" for element, count in composition_counts(atoms, elements))


def composition_counts(atoms: Atoms, elements: Sequence[str]) -> list[tuple[str, int]]:
    """(element, number of atoms) in the order of ``elements``, then others by name; absent ones are left out."""
    counts = atoms.symbols.formula.count()
    order = [e for e in elements if e in counts] + sorted(set(counts) - set(elements))
    return [(element, counts[element]) for element in order]


_UNIT_SUFFIXES = {
    "gpa": "GPa",
    "ev": "eV",
    "ev_per_atom": "eV/atom",
    "ang3_per_atom": "Å³/atom",
    "ang3": "Å³",
    "ang": "Å",
    "ev_ang": "eV/Å",
    "ev_ang3": "eV/Å³",
    "k": "K",
    "j_m2": "J/m²",
    "thz": "THz",
}


def unit_of(property_name: str) -> str:
    """The unit at the end of a property's name (``bulk_modulus_gpa``: GPa); empty when it names none."""
    for suffix in sorted(_UNIT_SUFFIXES, key=len, reverse=True):
        if property_name.lower().endswith(f"_{suffix}"):
            return _UNIT_SUFFIXES[suffix]
    return ""


def axis_label(property_name: str, unit: str) -> str:
    """A property for people: ``bulk_modulus_gpa`` in GPa becomes ``bulk modulus (GPa)``."""
    words = property_name
    for suffix, known in _UNIT_SUFFIXES.items():
        if known == unit and words.lower().endswith(f"_{suffix}"):
            words = words[: -len(suffix) - 1]
    return words.replace("_", " ") + (f" ({unit})" if unit else "")
