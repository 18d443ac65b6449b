"""The results of a validation in one JSON file: finished properties are kept for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from ...errors import ConfigError
from ..base import FailureKind, OracleError
from .base import PropertyResult
from .settings import AnyProperty
from .state_file import read_json, write_json

RECORD_NAME = "validation.json"
_SCHEMA = 1


@dataclass(frozen=True)
class PotentialIdentity:
    """Which potential was measured.

    Attributes:
        label: what to call it.
        fingerprint: hash of what it is.
        elements: chemical symbols.
    """

    label: str
    fingerprint: str
    elements: tuple[str, ...]


@dataclass(frozen=True)
class PropertyFailure:
    """Why a property has no result.

    Attributes:
        kind: class of failure, of :class:`~alloysmith.oracles.base.FailureKind`.
        message: what was got, what is allowed, what to do.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Entry:
    """One property of one crystal.

    Attributes:
        key: hash of the potential, the crystal, the settings and the property's version.
        crystal: name of the crystal.
        property: kind of the property.
        settings: its settings, as JSON.
        result: the result's fields, or ``None`` when it failed.
        values: the result's values.
        failure: or why there is none.
        wall_s, n_calls: wall seconds and force calls it took, of the last attempt.
    """

    key: str
    crystal: str
    property: str
    settings: dict[str, Any]
    result: dict[str, Any] | None
    values: dict[str, float]
    failure: PropertyFailure | None
    wall_s: float
    n_calls: int

    def read_result(self) -> PropertyResult | None:
        """The result as its own dataclass."""
        if self.result is None:
            return None
        found: PropertyResult = TypeAdapter(_RESULT_TYPES[self.property]).validate_python(self.result)
        return found


_RESULT_TYPES: Mapping[str, type] = {
    member.model_fields["kind"].default: member.result_type for member in get_args(AnyProperty)
}


@dataclass(frozen=True)
class ValidationRecord:
    """All results so far.

    Attributes:
        potential: what was measured.
        entries: by key.
    """

    potential: PotentialIdentity
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def with_entry(self, entry: Entry) -> ValidationRecord:
        """The record with one more entry, or another one for its key."""
        return ValidationRecord(self.potential, {**self.entries, entry.key: entry})

    def selected(self, keys: Sequence[str]) -> tuple[Entry, ...]:
        """The entries of some keys, in their order; keys without one are left out."""
        return tuple(self.entries[key] for key in keys if key in self.entries)


def read_record(folder: Path) -> ValidationRecord | None:
    """The record in a folder, or ``None`` where there is none.

    Raises:
        ConfigError: the file is damaged, or of another version.
    """
    path = folder / RECORD_NAME
    try:
        content = read_json(path)
        if content is None:
            return None
        if content["schema"] != _SCHEMA:
            raise ConfigError(
                f"{path} has version {content['schema']}; this program reads {_SCHEMA}: take another folder"
            )
        potential = TypeAdapter(PotentialIdentity).validate_python(content["potential"])
        entries = TypeAdapter(list[Entry]).validate_python(content["entries"])
    except (OracleError, ValidationError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it, and everything is measured again") from error
    return ValidationRecord(potential, {entry.key: entry for entry in entries})


def write_record(folder: Path, record: ValidationRecord) -> None:
    """Write a record; a kill leaves the old one or the new one.

    Raises:
        OSError: the folder cannot be written.
    """
    content = {
        "schema": _SCHEMA,
        "potential": asdict(record.potential),
        "entries": [asdict(entry) for entry in record.entries.values()],
    }
    write_json(folder / RECORD_NAME, content)


def failure_of(error: Exception) -> PropertyFailure:
    """A failure as a record."""
    kind = error.kind if isinstance(error, OracleError) else FailureKind.CRASHED
    text = " ".join(str(error).split()) or type(error).__name__
    return PropertyFailure(str(kind), text if isinstance(error, OracleError) else f"{type(error).__name__}: {text}")
