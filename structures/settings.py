"""The common base of all settings models, and the settings of the system under study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import StructureError
from .base import PHASES, Phase
from .lattice import CellKind, parent_lattice
from .space import DesignSpace, elemental_volume


class Settings(BaseModel):
    """A frozen settings model that refuses unknown keys.

    Where a field's default is other settings with values of its own, a mapping of some of them changes these and leaves
    the others as the default has them; pydantic alone would take the others from their class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _lay_over_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        defaults = {name: fields[name].default for name in data if name in fields}
        return {name: _laid_over(defaults.get(name), given) for name, given in data.items()}


def _laid_over(default: object, given: object) -> object:
    """A mapping with what it does not say taken from a default; another kind of settings says all by itself."""
    if not isinstance(default, Settings) or not isinstance(given, Mapping):
        return given
    kind = type(default).model_fields.get("kind")
    kept = {name: getattr(default, name) for name in default.model_fields_set}
    if kind is not None:
        if given.get("kind", kind.default) not in get_args(kind.annotation):
            return given
        kept = {"kind": kind.default, **kept}
    return kept | {name: _laid_over(getattr(default, name, None), value) for name, value in given.items()}


class CellSettings(Settings):
    """The periodic cell whose sites are occupied."""

    kind: CellKind = "tetragonal"
    """Unit cell that is repeated: `tetragonal` (two atoms, body-centred), `cubic` (conventional; four atoms in FCC,
    two in BCC) or `primitive` (one atom)."""
    repeat: tuple[int, int, int] = (3, 3, 3)
    """Number of unit cells along each cell vector; 3 × 3 × 3 tetragonal cells hold 54 atoms."""

    @field_validator("repeat")
    @classmethod
    def _is_positive(cls, repeat: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(repeat) < 1:
            raise ValueError(f"repeat must be three positive integers, got {repeat}")
        return repeat


class SystemSettings(Settings):
    """What the campaign searches: elements on lattices, within bounds of composition."""

    elements: tuple[str, ...] = Field(min_length=1)
    """Chemical symbols of the elements, for example `[Ni, Fe, Cr]`."""
    phases: tuple[Phase, ...] = Field(default=PHASES, min_length=1)
    """Parent lattices to search: `fcc`, `bcc` or both."""
    cell: CellSettings = CellSettings()
    """The periodic cell, the same for all phases."""
    min_fraction: float | dict[str, float] = 0.0
    """Smallest atomic fraction of every element, or of the elements named (0 for the others)."""
    max_fraction: float | dict[str, float] = 1.0
    """Largest atomic fraction of every element, or of the elements named (1 for the others)."""
    volumes: dict[str, float] = Field(default_factory=dict)
    """Volume per atom in Å^3 of elements, for the first guess of a structure's volume by Vegard's law; by default that
    of the element's own crystal."""

    @model_validator(mode="after")
    def _is_possible(self) -> SystemSettings:
        for name in ("min_fraction", "max_fraction", "volumes"):
            value = getattr(self, name)
            unknown = sorted(set(value) - set(self.elements)) if isinstance(value, Mapping) else []
            if unknown:
                raise ValueError(f"{name} names {', '.join(unknown)}, but elements are {', '.join(self.elements)}")
        try:
            self.space()
        except StructureError as error:
            raise ValueError(str(error)) from error
        return self

    def space(self) -> DesignSpace:
        """The design space of these settings."""
        return DesignSpace(
            elements=self.elements,
            lattices=tuple(parent_lattice(phase, self.cell.kind, self.cell.repeat) for phase in self.phases),
            min_fraction=self._per_element(self.min_fraction, 0.0),
            max_fraction=self._per_element(self.max_fraction, 1.0),
            volumes=tuple(self.volumes[e] if e in self.volumes else elemental_volume(e) for e in self.elements),
        )

    def _per_element(self, value: float | Mapping[str, float], default: float) -> tuple[float, ...]:
        if isinstance(value, Mapping):
            return tuple(float(value.get(e, default)) for e in self.elements)
        return (float(value),) * len(self.elements)
