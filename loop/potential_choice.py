"""A potential as people name one on a command line, opened for measurements."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..oracles.force_engine import ForceEngine
from ..oracles.lammps_engine import LammpsEngine, try_potential
from ..oracles.potentials import LammpsPotential, named_potentials
from ..surrogates.eam.parameters import published_names
from ..surrogates.eam.settings import EamSettings
from ..surrogates.model_file import dump_state
from ..surrogates.potentials.base import Potential, PotentialSpec
from ..surrogates.potentials.engine import PotentialEngine
from ..surrogates.potentials.native import native_suffix, write_native
from ..surrogates.potentials.torch_potential import TorchPotential
from .potential_source import find_potential

ZJW04 = "zjw04"


@dataclass(frozen=True)
class OpenPotential:
    """A potential, ready to be evaluated.

    Attributes:
        label: what to call it.
        fingerprint: hash of what it is; a file that moved keeps it.
        elements: chemical symbols.
        engine: evaluates it; in LAMMPS wherever it can.
        lammps: its LAMMPS commands, if it has any.
    """

    label: str
    fingerprint: str
    elements: tuple[str, ...]
    engine: ForceEngine
    lammps: LammpsPotential | None


def open_potential(text: str, elements: Sequence[str], folder: Path) -> OpenPotential:
    """Open a potential named on a command line.

    Args:
        text: see :data:`~.potential_source.POTENTIAL_HELP`; or ``zjw04``, or the name of another published set.
        elements: chemical symbols that it is wanted for.
        folder: where the table of a model is written, for LAMMPS.

    Raises:
        ConfigError: there is no such potential, it lacks an element, or LAMMPS cannot use it.
        SurrogateError: a model file is damaged, or published parameters lack an element.
    """
    if text in (ZJW04, *published_names()):
        return _of_model(_published(text, elements), text, elements, folder)
    path = Path(text).expanduser()
    names = (ZJW04, *published_names(), *named_potentials())
    if not path.exists() and (close := difflib.get_close_matches(text, names, n=1)) and close[0] != text:
        raise ConfigError(f"there is no potential {text}; did you mean {close[0]}?")
    found = find_potential(text)
    if not isinstance(found, LammpsPotential):
        # `fit` and campaigns give many models the same name, in folders that tell them apart
        label = f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem
        return _of_model(found, label, elements, folder)
    found.require(elements)
    try_potential(found)
    return OpenPotential(path.name, found.fingerprint, found.elements, LammpsEngine(found), found)


def _of_model(potential: Potential, label: str, elements: Sequence[str], folder: Path) -> OpenPotential:
    known = tuple(potential.spec.elements)
    missing = sorted(set(elements) - set(known))
    if missing:
        raise ConfigError(f"{label} has no {', '.join(missing)}; it has {', '.join(known)}")
    fingerprint = hashlib.blake2b(dump_state(potential.state()), digest_size=16).hexdigest()
    suffix = native_suffix(potential)
    if suffix is None:
        return OpenPotential(label, fingerprint, known, PotentialEngine(potential), None)
    folder.mkdir(parents=True, exist_ok=True)
    lammps = write_native(potential, folder / f"{fingerprint[:16]}{suffix}")
    return OpenPotential(label, fingerprint, known, LammpsEngine(lammps), lammps)


def _published(name: str, elements: Sequence[str]) -> TorchPotential:
    """Published parameters, in the form of their publication."""
    settings = EamSettings(start=name, angular="adp" in name, embedding="piecewise" if name == ZJW04 else "smooth")
    symbols = tuple(dict.fromkeys(elements))
    spec = PotentialSpec(kind=settings.kind, elements=symbols, cutoff_ang=settings.cutoff_ang)
    return TorchPotential(spec, settings.build(symbols))
