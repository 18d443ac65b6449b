"""What a property of the validation is: settings that measure it, and a result that names its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from ..force_engine import ForceEngine
from ..potentials import LammpsPotential
from .crystal import Crystal


def _say_nothing(message: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class ForceField:
    """A potential that dynamics are run with.

    Attributes:
        label: what to call it.
        fingerprint: hash of what it is.
        source: as LAMMPS commands, or as an engine.
    """

    label: str
    fingerprint: str
    source: LammpsPotential | ForceEngine


@dataclass(frozen=True)
class Bench:
    """What a measurement may use.

    Attributes:
        engine: evaluates the potential.
        lammps: the potential as LAMMPS commands, for molecular dynamics at native speed; ``None`` when it has none.
        folder: where a long measurement keeps its state, so that it goes on after a kill.
        report: is told how far a long measurement is.
        label, fingerprint: what to call the potential, and hash of what it is.
        references: other potentials that a measurement sets beside this one, by the names they have in the settings.
    """

    engine: ForceEngine
    lammps: LammpsPotential | None = None
    folder: Path = field(default_factory=Path.cwd)
    report: Callable[[str], None] = _say_nothing
    label: str = "the potential"
    fingerprint: str = ""
    references: Mapping[str, ForceField] = field(default_factory=dict)

    @property
    def force_field(self) -> ForceField:
        """The potential for dynamics, in its fastest form."""
        return ForceField(self.label, self.fingerprint, self.lammps or self.engine)


@runtime_checkable
class PropertyResult(Protocol):
    """A measured property: a frozen dataclass of numbers, texts and tuples, so that it can be written as JSON."""

    def values(self) -> Mapping[str, float]:
        """Name with unit -> value, of what is compared with references."""
        ...


class Property(Protocol):
    """Settings of a property.

    Attributes:
        version: changes whenever the result of unchanged settings could change.
        result_type: the dataclass that :meth:`measure` returns.
    """

    version: ClassVar[str]
    result_type: ClassVar[type]

    @property
    def kind(self) -> str: ...

    def model_dump_json(self) -> str:
        """The settings as JSON, as pydantic writes them."""
        ...

    @classmethod
    def value_names(cls) -> tuple[str, ...]:
        """Names that values of results may have, which references may be given for."""
        ...

    def measure(self, bench: Bench, crystal: Crystal) -> PropertyResult:
        """Measure it.

        Raises:
            OracleError: with the kind of failure.
        """
        ...
