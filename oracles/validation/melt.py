"""The liquids that a potential is judged on."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ...errors import ConfigError, StructureError
from ...structures.files import read_structures
from ...structures.settings import Settings
from ...structures.space import elemental_volume
from .crystal import Crystal
from .dynamics import DynamicsSettings

_EXPANSION = 1.1
"""Volume of a melt over that of its elements' crystals, where it begins."""


class MeltSettings(Settings):
    """A liquid, by its composition or from a file; it is melted before anything is measured."""

    name: str = Field(default="", max_length=60)
    """Name in reports; by default made of composition and temperature."""
    composition: dict[str, PositiveInt] | None = None
    """Number of atoms of each element in the cell: `{Al: 36, Cu: 36, Ni: 36}`."""
    volume_ang3_per_atom: PositiveFloat | None = None
    """Volume at the start, which the pressure soon changes; by default a tenth above that of the elements' crystals."""
    seed: int = Field(default=0, ge=0)
    """Seed of the species' places at the start."""
    file: Path | None = None
    """A start structure instead of a composition; its cell keeps its shape."""
    dynamics: DynamicsSettings
    """What is run and measured."""

    @field_validator("composition")
    @classmethod
    def _names_elements(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        unknown = sorted(set(value or {}) - set(atomic_numbers))
        if unknown or value == {}:
            raise ValueError(f"composition names {', '.join(unknown) or 'nothing'}; use chemical symbols and counts")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> MeltSettings:
        if (self.composition is None) == (self.file is None):
            raise ValueError("a melt needs either 'composition' or 'file'")
        if self.file is not None and self.volume_ang3_per_atom is not None:
            raise ValueError("volume_ang3_per_atom belongs to a composition, not to a melt from a file")
        return self

    @property
    def title(self) -> str:
        """What results are filed under."""
        if self.name:
            return self.name
        what = self.file.stem if self.file is not None else "".join(f"{s}{n}" for s, n in self._counts.items())
        return f"{what} at {self.dynamics.temperature_k:g} K"

    def build(self) -> Atoms:
        """The start structure: species at random on an fcc lattice in a cube, some sites empty, or as in the file.

        Raises:
            ConfigError: the file cannot be read, or the volume of an element is not known.
        """
        if self.file is not None:
            try:
                found = read_structures(self.file)[-1]
            except StructureError as error:
                raise ConfigError(f"melt {self.title!r}: {error}") from error
            if not found.pbc.all():
                raise ConfigError(f"melt {self.title!r}: the structure of {self.file} must be periodic")
            return Atoms(numbers=found.numbers, positions=found.positions, cell=found.cell, pbc=True)
        n_atoms = sum(self._counts.values())
        n_cells = ceil((n_atoms / 4.0) ** (1.0 / 3.0) - 1e-9)
        edge = (self._volume() * n_atoms) ** (1.0 / 3.0)
        sites = bulk("Al", cubic=True, a=edge / n_cells).repeat(n_cells)
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.permutation(len(sites))[:n_atoms])
        symbols = rng.permutation([symbol for symbol, n in self._counts.items() for _ in range(n)])
        return Atoms(symbols, positions=sites.positions[chosen], cell=sites.cell, pbc=True)

    def crystal(self) -> Crystal:
        """The start structure as what properties are measured of.

        Raises:
            ConfigError: see :meth:`build`.
        """
        return Crystal(self.title, self.build(), None, "isotropic")

    @property
    def _counts(self) -> dict[str, int]:
        return dict(self.composition or {})

    def _volume(self) -> float:
        if self.volume_ang3_per_atom is not None:
            return self.volume_ang3_per_atom
        try:
            volumes = [n * elemental_volume(symbol) for symbol, n in self._counts.items()]
        except StructureError as error:
            raise ConfigError(f"melt {self.title!r}: {error}; give volume_ang3_per_atom") from error
        return _EXPANSION * sum(volumes) / sum(self._counts.values())
