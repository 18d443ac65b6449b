"""Potentials that LAMMPS runs by itself: exported to a table where one of its pair styles has the same form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...oracles.force_engine import ForceEngine
from ...oracles.potentials import FilesPotentialSettings, LammpsPotential
from ..base import SurrogateError
from ..eam import adp, setfl
from ..eam.model import EamModel
from .base import Potential
from .engine import PotentialEngine
from .torch_potential import TorchPotential


def native_suffix(potential: Potential) -> str | None:
    """How the name of the potential's LAMMPS file ends; ``None`` where LAMMPS has no pair style for it."""
    if isinstance(potential, TorchPotential) and isinstance(potential.model, EamModel):
        return setfl.SUFFIX if potential.model.angular is None else adp.SUFFIX
    return None


def write_native(potential: Potential, path: Path, *, comment: str = "") -> LammpsPotential:
    """Write a potential as a file that LAMMPS reads by itself.

    Energies in the file are without the reference energies of the potential's data.

    Args:
        path: ends as :func:`native_suffix` says.
        comment: for the first line of the file.

    Raises:
        SurrogateError: LAMMPS has no pair style for it, a wrong name, or the file cannot be written.
    """
    suffix = native_suffix(potential)
    if suffix is None or not isinstance(potential, TorchPotential) or not isinstance(potential.model, EamModel):
        raise SurrogateError(
            f"LAMMPS has no pair style for a potential of kind {potential.spec.kind!r}; it runs through `alloysmith md`"
        )
    if not path.name.endswith(suffix):
        raise SurrogateError(f"the file of this potential must be named *{suffix}, got {path.name}")
    text = comment or f"{' '.join(potential.spec.elements)}: fitted by Alloysmith to {potential.spec.n_train} frames"
    if suffix == adp.SUFFIX:
        adp.write_adp(potential.model, path, comment=text)
        style = "adp"
    else:
        setfl.write_setfl(potential.model, path, comment=text)
        style = "eam/alloy"
    symbols = " ".join(potential.spec.elements)
    coeff = f"* * {path.name} {symbols}"
    settings = FilesPotentialSettings(
        pair_style=style, pair_coeff=(coeff,), elements=potential.spec.elements, base_dir=path.resolve().parent
    )
    return settings.load()


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
