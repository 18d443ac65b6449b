"""What an oracle is: it turns a request for a structure into a label, or raises a typed error.

An oracle never returns a NaN, a penalty value or a partial label. Its evaluation is a pure function of the
request: the same request gives the same label to the last bit, on any worker, whatever was evaluated before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms

from ..errors import AlloysmithError
from ..structures.base import Phase

Value = float | np.ndarray
"""A scalar, or an array such as the 6×6 elastic tensor (Voigt order xx yy zz yz xz xy)."""


class FailureKind(StrEnum):
    """Why an evaluation gave no label."""

    BAD_STRUCTURE = "bad_structure"
    NOT_CONVERGED = "not_converged"
    LEFT_PHASE = "left_phase"
    FELL_BACK = "fell_back"
    """The end of a hop is no minimum: relaxed, it is the state that the hop began in."""
    OTHER_PATH = "other_path"
    """Another hop than the one that was asked for."""
    NO_SADDLE = "no_saddle"
    """No maximum of the energy between the ends of a hop: a barrier of zero or below."""
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    CORRUPT_OUTPUT = "corrupt_output"
    UNAVAILABLE = "unavailable"


class OracleError(AlloysmithError):
    """An evaluation that gave no label.

    Args:
        kind: the class of failure, which the failure policy acts on.
        message: what was got, what is allowed, what to do.
        details: JSON-able facts for the record (residual force in eV/Å, coordination found, …).
    """

    def __init__(self, kind: FailureKind, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = FailureKind(kind)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions pickle by args alone, which would lose the kind
        return type(self), (self.kind, self.message, self.details)


@dataclass(frozen=True)
class OracleSpec:
    """What an oracle declares about itself.

    Attributes:
        name: registry-free name, e.g. ``"lammps_bulk_modulus"``.
        version: changes whenever the labels of an unchanged request could change.
        properties: property name -> unit; a unit ends the name of a bare number (``bulk_modulus_gpa``).
        fingerprint: hash of everything that decides the labels: potential files and commands, settings, version.
            Labels with different fingerprints are never mixed.
        supports_warm_start: whether :attr:`Request.warm_start` speeds it up.
        cost_hint_s: rough CPU seconds of one evaluation, for ``plan``.
        arrays: names of those properties that are arrays, which cannot be optimized.
    """

    name: str
    version: str
    properties: Mapping[str, str]
    fingerprint: str
    supports_warm_start: bool = False
    cost_hint_s: float = 1.0
    arrays: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WarmStart:
    """A finished evaluation on the same sites, to start from.

    Attributes:
        atoms: its relaxed structure, sites in the same order as the request's.
        values: its scalar label values (the bulk modulus guides the volume search).
    """

    atoms: Atoms
    values: Mapping[str, float]


@dataclass(frozen=True)
class Request:
    """A structure submitted to an oracle.

    Attributes:
        request_id: unique within the campaign.
        atoms: the structure to label, usually on ideal sites.
        phase: the phase it must still be in when relaxed; ``None`` means no check.
        warm_start: a neighbour's result, when one is known.
    """

    request_id: str
    atoms: Atoms
    phase: Phase | None = None
    warm_start: WarmStart | None = None


@dataclass(frozen=True)
class Label:
    """What an oracle found.

    Attributes:
        values: property name -> finite value, every property of the spec present.
        atoms: the structure the values belong to (relaxed, sites in the request's order).
        fingerprint: :attr:`OracleSpec.fingerprint` of the oracle that made it.
        cpu_s: CPU seconds spent.
        details: JSON-able facts worth keeping (number of force calls, residual force).
    """

    values: Mapping[str, Value]
    atoms: Atoms
    fingerprint: str
    cpu_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class Oracle(Protocol):
    """Labels structures. Built once per worker and used for many requests in turn."""

    @property
    def spec(self) -> OracleSpec: ...

    def evaluate(self, request: Request) -> Label:
        """Label ``request.atoms``.

        Raises:
            OracleError: with the kind of failure; nothing else escapes on bad input.
        """
        ...

    def close(self) -> None:
        """Release what the oracle holds (a live LAMMPS instance)."""
        ...
