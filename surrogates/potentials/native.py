"""Potentials that LAMMPS runs by itself: exported to a table where one of its pair styles has the same form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...oracles.force_engine import ForceEngine
from ...oracles.potentials import FilesPotentialSettings, LammpsPotential
from ..base import SurrogateError
from ..eam.model import EamModel
from ..eam.table_file import table_format, write_table
from .base import Potential
from .engine import PotentialEngine
from .torch_potential import TorchPotential


def native_suffix(potential: Potential) -> str | None:
    """How the name of the potential's LAMMPS file ends; ``None`` where LAMMPS has no pair style for it."""
    model = _tabulable(potential)
    return None if model is None else table_format(model).suffix


def write_native(potential: Potential, path: Path, *, comment: str = "") -> LammpsPotential:
    """Write a potential as a file that LAMMPS reads by itself.

    Energies in the file are without the reference energies of the potential's data.

    Args:
        path: ends as :func:`native_suffix` says.
        comment: for the first line of the file.

    Raises:
        SurrogateError: LAMMPS has no pair style for it, a wrong name, or the file cannot be written.
    """
    model, symbols = _tabulable(potential), " ".join(potential.spec.elements)
    if model is None:
        raise SurrogateError(
            f"LAMMPS has no pair style for a potential of kind {potential.spec.kind!r}; it runs through `alloysmith md`"
        )
    text = comment or f"{symbols}: fitted by Alloysmith to {potential.spec.n_train} frames"
    write_table(model, path, comment=text)
    settings = FilesPotentialSettings(
        pair_style=table_format(model).pair_style,
        pair_coeff=(f"* * {path.name} {symbols}",),
        elements=potential.spec.elements,
        base_dir=path.resolve().parent,
    )
    return settings.load()


def _tabulable(potential: Potential) -> EamModel | None:
    if isinstance(potential, TorchPotential) and isinstance(potential.model, EamModel):
        return potential.model
    return None


@contextmanager
def force_field_of(potential: LammpsPotential | Potential) -> Iterator[LammpsPotential | ForceEngine]:
    """The fastest way to run a potential in LAMMPS: natively, where need be from a file that lives as long as the
    context; else through its own evaluation."""
    if isinstance(potential, LammpsPotential):
        yield potential
        return
    suffix = native_suffix(potential)
    if suffix is None:
        engine = PotentialEngine(potential)
        try:
            yield engine
        finally:
            engine.close()
        return
    with tempfile.TemporaryDirectory(prefix="alloysmith-") as folder:
        yield write_native(potential, Path(folder) / f"potential{suffix}")
