"""What a validation measures: crystals, properties, and the references to set beside them."""

from __future__ import annotations

import difflib
from typing import Annotated, get_args

from pydantic import Field, field_validator, model_validator

from ...structures.settings import Settings
from .crystal import ValidatedCrystal
from .elastic_constants import ElasticConstantsSettings
from .equation_of_state import EquationOfStateSettings
from .melting import MeltingSettings
from .phases import PhasesSettings
from .phonons import PhononsSettings
from .surfaces import SurfacesSettings
from .vacancy import VacancySettings
from .vacancy_migration import VacancyMigrationSettings

AnyProperty = (
    EquationOfStateSettings
    | ElasticConstantsSettings
    | VacancySettings
    | VacancyMigrationSettings
    | SurfacesSettings
    | PhononsSettings
    | PhasesSettings
    | MeltingSettings
)
PropertySettings = Annotated[AnyProperty, Field(discriminator="kind")]
"""Settings of any property; ``.measure(bench, crystal)`` measures it."""

Reference = float | tuple[float, float]
"""A number, or the ends of a range."""

PROPERTY_KINDS: tuple[str, ...] = tuple(member.model_fields["kind"].default for member in get_args(AnyProperty))


class CrystalEntry(ValidatedCrystal):
    """A crystal of a validation."""

    properties: tuple[PropertySettings, ...] | None = None
    """Properties of this crystal instead of those of the whole validation."""
    reference: dict[str, dict[str, Reference]] = Field(default_factory=dict)
    """Where values come from (`DFT`, `experiment`, any name) -> name of the value -> number or `[low, high]`. The
    first source is what differences are taken to."""

    @field_validator("reference")
    @classmethod
    def _names_known_values(cls, reference: dict[str, dict[str, Reference]]) -> dict[str, dict[str, Reference]]:
        known = {name for member in get_args(AnyProperty) for name in member.value_names()}
        for source, values in reference.items():
            for name, value in values.items():
                if name not in known:
                    close = difflib.get_close_matches(name, known, n=1)
                    hint = f"; did you mean {close[0]}?" if close else ""
                    raise ValueError(f"{source} names {name!r}, which no property gives{hint}")
                if isinstance(value, tuple) and not value[0] <= value[1]:
                    raise ValueError(f"{source} gives {name} the range {value}; write [low, high]")
        return reference


class ValidationSettings(Settings):
    """A validation: properties of crystals, beside references."""

    name: str = Field(min_length=1)
    """Title of the report."""
    crystals: tuple[CrystalEntry, ...] = Field(min_length=1)
    """What the potential is judged on."""
    properties: tuple[PropertySettings, ...] = Field(
        default=(
            EquationOfStateSettings(),
            ElasticConstantsSettings(),
            VacancySettings(),
            VacancyMigrationSettings(),
            SurfacesSettings(),
            PhononsSettings(),
            PhasesSettings(),
        ),
        min_length=1,
    )
    """Properties of every crystal that names none of its own; by default all but melting, which takes hours."""

    @model_validator(mode="after")
    def _has_no_doubles(self) -> ValidationSettings:
        names = [crystal.title for crystal in self.crystals]
        if len(set(names)) != len(names):
            raise ValueError(f"crystals need different names, got {', '.join(names)}")
        for where, properties in (("properties", self.properties), *((c.title, c.properties) for c in self.crystals)):
            kinds = [item.kind for item in properties or ()]
            doubles = sorted({kind for kind in kinds if kinds.count(kind) > 1})
            if doubles:
                raise ValueError(f"{where}: {', '.join(doubles)} is given more than once")
        return self

    def properties_of(self, crystal: CrystalEntry) -> tuple[AnyProperty, ...]:
        """What is measured of a crystal."""
        return self.properties if crystal.properties is None else crystal.properties
