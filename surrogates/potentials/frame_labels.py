"""Labels of structures as files hold them, in ``info`` and ``arrays``, made into frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa

from .data_settings import FrameFileSettings
from .frame import Frame
from .frame_report import Defect, RowDefect

_STRESS_UNITS = {"ev_ang3": 1.0, "gpa": GPa, "kbar": 0.1 * GPa}
_ASYMMETRY_EV_ANG3 = 1e-4
_CONTRADICTION_EV_ANG3 = 1e-3


@dataclass(frozen=True)
class LabelNames:
    """Under which names a program writes its labels; the first of each that is there counts.

    Attributes:
        energy_per_atom: used where there is no total energy.
    """

    energy: str
    forces: tuple[str, ...]
    stress: tuple[str, ...]
    virial: tuple[str, ...]
    energy_per_atom: str = ""


ASE_NAMES = LabelNames("energy", ("forces", "force"), ("stress",), ("virial", "virials"))
SCHEMES = (
    ASE_NAMES,
    LabelNames("energy_ev", ("forces_ev_ang",), ("stress_ev_ang3",), (), "energy_ev_per_atom"),
    LabelNames("REF_energy", ("REF_forces",), ("REF_stress",), ("REF_virial", "REF_virials")),
)
"""Schemes that are recognized; a frame's labels are all taken from the same one."""


class _LabelError(Exception):
    """A label that cannot be used."""

    def __init__(self, kind: Defect, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def read_frame(
    atoms: Atoms, source: str, group: str, settings: FrameFileSettings, forces_needed: bool
) -> tuple[Frame | None, list[RowDefect]]:
    """Make a frame of a structure whose labels are in ``info`` and ``arrays``.

    Args:
        source: file and row, for messages.
        group: of a frame whose ``info`` names none.
        forces_needed: whether a frame without forces is defective.

    Returns:
        The frame, ``None`` if it has no usable labels; and what is wrong with them.
    """
    defects: list[RowDefect] = []
    values: dict[str, Any] = {}
    for name, read in (("energy", _energy), ("forces", _forces), ("stress", _stress)):
        try:
            values[name] = read(atoms, _names(atoms, settings), settings)
        except _LabelError as error:
            defects.append(RowDefect(error.kind, source, str(error)))
            if error.kind == "ambiguous_labels":
                break
    if forces_needed and settings.has_forces and values.get("forces", False) is None:
        defects.append(RowDefect("missing_forces", source, _present(atoms)))
    if defects:
        return None, defects
    named = settings.group if settings.group is not None else atoms.info.get(settings.group_from, group)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return Frame(bare, values["energy"], values["forces"], values["stress"], str(named), source), defects


def _names(atoms: Atoms, settings: FrameFileSettings) -> LabelNames:
    """The names of a frame's labels: what the settings say, completed from one scheme."""
    there = [s for s in SCHEMES if s.energy in atoms.info or s.energy_per_atom in atoms.info]
    if settings.energy_key is not None:
        scheme = next((s for s in SCHEMES if s.energy == settings.energy_key), ASE_NAMES)
    elif len(there) > 1:
        raise _LabelError("ambiguous_labels", f"has {' and '.join(s.energy for s in there)}")
    else:
        scheme = there[0] if there else ASE_NAMES
    stress, virial = scheme.stress, scheme.virial
    if settings.stress_key is not None or settings.virial_key is not None:
        stress, virial = _only(settings.stress_key), _only(settings.virial_key)
    return LabelNames(
        energy=settings.energy_key or scheme.energy,
        forces=scheme.forces if settings.forces_key is None else (settings.forces_key,),
        stress=stress,
        virial=virial,
        energy_per_atom=scheme.energy_per_atom if settings.energy_key is None else "",
    )


def _only(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _energy(atoms: Atoms, names: LabelNames, settings: FrameFileSettings) -> float:
    for name, factor in ((names.energy, 1), (names.energy_per_atom, len(atoms))):
        if name in atoms.info:
            return float(_numbers(name, atoms.info[name], [()])) * factor
    raise _LabelError("no_energy", f"no {names.energy}; {_present(atoms)}")


def _forces(atoms: Atoms, names: LabelNames, settings: FrameFileSettings) -> np.ndarray | None:
    name = next((n for n in names.forces if n in atoms.arrays or n in atoms.info), None)
    if name is None:
        return None
    found = atoms.arrays[name] if name in atoms.arrays else atoms.info[name]
    return _numbers(name, found, [(len(atoms), 3)]).reshape(len(atoms), 3)


def _stress(atoms: Atoms, names: LabelNames, settings: FrameFileSettings) -> np.ndarray | None:
    found: list[np.ndarray] = []
    volume = abs(atoms.cell.volume)
    name = next((n for n in names.stress if n in atoms.info), None)
    if name is not None:
        sign = 1.0 if settings.stress_sign == "tension" else -1.0
        found.append(_tensor(name, atoms.info[name]) * (sign * _STRESS_UNITS[settings.stress_unit]))
    elif settings.stress_key is not None:
        raise _LabelError("missing_stress", _present(atoms))
    name = next((n for n in names.virial if n in atoms.info), None)
    if name is not None:
        if volume == 0.0:
            raise _LabelError("bad_cell", f"has a {name} but no volume")
        # the derivative of the energy by strain with the sign of a pressure, as in the fields' other codes
        found.append(-_tensor(name, atoms.info[name]) / volume)
    elif settings.virial_key is not None:
        raise _LabelError("missing_stress", _present(atoms))
    if not found:
        return None
    if len(found) == 2 and not np.allclose(found[0], found[1], rtol=1e-3, atol=_CONTRADICTION_EV_ANG3):
        difference = np.abs(found[0] - found[1]).max()
        raise _LabelError("contradicting_stress", f"stress and {name} differ by {difference:.3g} eV/Å^3")
    return found[0]


def _tensor(name: str, value: Any) -> np.ndarray:
    numbers = _numbers(name, value, [(6,), (9,), (3, 3)])
    tensor = voigt_6_to_full_3x3_stress(numbers) if numbers.shape == (6,) else numbers.reshape(3, 3)
    skew = float(np.abs(tensor - tensor.T).max())
    if skew > _ASYMMETRY_EV_ANG3 and skew > 1e-3 * float(np.abs(tensor).max()):
        raise _LabelError("asymmetric_stress", f"{name} differs from its transpose by {skew:.3g}")
    return (tensor + tensor.T) / 2


def _numbers(name: str, value: Any, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise _LabelError("bad_shape", f"{name} is {value!r}, not a number") from None
    if numbers.shape not in shapes:
        raise _LabelError("bad_shape", f"{name} has shape {numbers.shape}, expected {' or '.join(map(str, shapes))}")
    if not np.isfinite(numbers).all():
        raise _LabelError(
            "not_finite", f"{name} has {int((~np.isfinite(numbers)).sum())} values that are NaN or infinite"
        )
    return numbers


def _present(atoms: Atoms) -> str:
    names = sorted({*atoms.info, *atoms.arrays} - {"numbers", "positions"})
    return f"the frame has {', '.join(names)}" if names else "the frame has no labels"
