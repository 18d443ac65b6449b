"""What a validation measures: crystals and melts, properties, and the references to set beside them."""

from __future__ import annotations

import difflib
from typing import Annotated, get_args

from pydantic import AfterValidator, Field, model_validator

from ...structures.settings import Settings
from .crystal import ValidatedCrystal
from .dynamics import DynamicsSettings
from .elastic_constants import ElasticConstantsSettings
from .equation_of_state import EquationOfStateSettings
from .melt import MeltSettings
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
    | DynamicsSettings
)
"""Settings of any property; ``.measure(bench, crystal)`` measures it."""
Reference = float | tuple[float, float]
"""A number, or the ends of a range."""

CrystalProperty = Annotated[
    EquationOfStateSettings
    | ElasticConstantsSettings
    | VacancySettings
    | VacancyMigrationSettings
    | SurfacesSettings
    | PhononsSettings
    | PhasesSettings
    | MeltingSettings,
    Field(discriminator="kind"),
]
"""Settings of a property of crystals."""

PROPERTY_KINDS: tuple[str, ...] = tuple(member.model_fields["kind"].default for member in get_args(AnyProperty))


def _known_names(reference: dict[str, dict[str, Reference]]) -> dict[str, dict[str, Reference]]:
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


References = Annotated[dict[str, dict[str, Reference]], AfterValidator(_known_names)]
"""Source -> name of a value -> number or range."""


class CrystalEntry(ValidatedCrystal):
    """A crystal of a validation."""

    properties: tuple[CrystalProperty, ...] | None = None
    """Properties of this crystal instead of those of the whole validation."""
    reference: References = Field(default_factory=dict)
    """Where values come from (`DFT`, `experiment`, any name) -> name of the value -> number or `[low, high]`. The
    first source is what differences are taken to."""


class MeltEntry(MeltSettings):
    """A melt of a validation."""

    reference: References = Field(default_factory=dict)
    """Where values come from (`experiment`, any name) -> name of the value -> number or `[low, high]`; beside the
    figures of `dynamics.reference_potential`."""


class ValidationSettings(Settings):
    """A validation: properties of crystals, beside references."""

    name: str = Field(min_length=1)
    """Title of the report."""
    crystals: tuple[CrystalEntry, ...] = ()
    """Crystals that the potential is judged on."""
    melts: tuple[MeltEntry, ...] = ()
    """Liquids that it is judged on, by molecular dynamics beside a reference potential."""
    properties: tuple[CrystalProperty, ...] = Field(
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
        names = [entry.title for entry in self.entries]
        if not names:
            raise ValueError("there is nothing to measure; name crystals or melts")
        if len(set(names)) != len(names):
            raise ValueError(f"crystals and melts need different names, got {', '.join(names)}")
        for where, properties in (("properties", self.properties), *((c.title, c.properties) for c in self.crystals)):
            kinds = [item.kind for item in properties or ()]
            doubles = sorted({kind for kind in kinds if kinds.count(kind) > 1})
            if doubles:
                raise ValueError(f"{where}: {', '.join(doubles)} is given more than once")
        return self

    @property
    def entries(self) -> tuple[CrystalEntry | MeltEntry, ...]:
        """All that is judged."""
        return (*self.crystals, *self.melts)

    def properties_of(self, entry: CrystalEntry | MeltEntry) -> tuple[AnyProperty, ...]:
        """What is measured of a crystal or a melt."""
        if isinstance(entry, MeltEntry):
            return (entry.dynamics,)
        return self.properties if entry.properties is None else entry.properties

    def reference_potentials(self) -> tuple[str, ...]:
        """Names of the potentials that melts are run with as well."""
        names = [melt.dynamics.reference_potential for melt in self.melts]
        return tuple(dict.fromkeys(name for name in names if name is not None))
