"""Runs a validation: every property of every crystal, each written down when it ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import orjson

from ...errors import AlloysmithError, ConfigError
from ...structures.base import structure_id
from ..base import FailureKind, OracleError
from .base import Bench, ForceField, PropertyResult
from .crystal import Crystal
from .dynamics import DynamicsSettings
from .record import Entry, PotentialIdentity, PropertyFailure, ValidationRecord, failure_of, read_record, write_record
from .settings import PROPERTY_KINDS, AnyProperty, ValidationSettings


@dataclass(frozen=True)
class Task:
    """One property of one crystal.

    Attributes:
        key: see :class:`~.record.Entry`.
        crystal: the crystal.
        property: settings of the property.
    """

    key: str
    crystal: Crystal
    property: AnyProperty


@dataclass(frozen=True)
class Progress:
    """What a suite tells about itself.

    Attributes:
        task: what it is about.
        entry: its result, ``None`` while it is being measured.
        message: how far it is.
        is_new: whether it was measured now rather than found in the record.
    """

    task: Task
    entry: Entry | None = None
    message: str = ""
    is_new: bool = True


def tasks_of(
    settings: ValidationSettings,
    fingerprint: str,
    only: Sequence[str] = (),
    references: Mapping[str, ForceField] | None = None,
) -> list[Task]:
    """What a validation consists of.

    Args:
        fingerprint: of the potential.
        only: kinds of properties to keep; all when empty.
        references: reference potentials by their names in the settings.

    Raises:
        ConfigError: ``only`` names an unknown kind, or nothing is left.
        StructureError: a crystal's file cannot be read.
    """
    unknown = sorted(set(only) - set(PROPERTY_KINDS))
    if unknown:
        raise ConfigError(f"there is no property {', '.join(unknown)}; there are {', '.join(PROPERTY_KINDS)}")
    tasks = [
        Task(_key(fingerprint, crystal, item, references or {}), crystal, item)
        for entry in settings.entries
        for crystal in [entry.crystal()]
        for item in settings.properties_of(entry)
        if not only or item.kind in only
    ]
    if not tasks:
        raise ConfigError(
            f"{settings.name} has none of the properties {', '.join(only)}; add them to the configuration"
        )
    return tasks


def run_suite(
    tasks: Sequence[Task],
    potential: PotentialIdentity,
    bench: Bench,
    *,
    retry_failed: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ValidationRecord:
    """Measure what the record in the bench's folder does not hold yet.

    Failures are entries like results. They are not tried again, except for those that were not the property's fault
    (``unavailable``), or when asked for.

    Args:
        bench: its folder holds the record, and the state of long measurements.
        retry_failed: measure again what failed before.

    Raises:
        ConfigError: the folder holds results of another potential, or a damaged record.
        OSError: the folder cannot be written.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    record = read_record(bench.folder) or ValidationRecord(potential)
    if record.potential.fingerprint != potential.fingerprint:
        raise ConfigError(
            f"{bench.folder} holds results of {record.potential.label} ({record.potential.fingerprint[:8]}), another "
            f"potential than the {potential.label} ({potential.fingerprint[:8]}) given now; choose another folder"
        )
    for task in tasks:
        known = record.entries.get(task.key)
        if known is not None and not _is_to_repeat(known, retry_failed):
            on_progress(Progress(task, known, is_new=False))
            continue
        on_progress(Progress(task))
        entry = _measured(task, bench, on_progress)
        record = record.with_entry(entry)
        write_record(bench.folder, record)
        on_progress(Progress(task, entry))
    return record


def _is_to_repeat(entry: Entry, retry_failed: bool) -> bool:
    return entry.failure is not None and (retry_failed or entry.failure.kind == FailureKind.UNAVAILABLE)


def _measured(task: Task, bench: Bench, on_progress: Callable[[Progress], None]) -> Entry:
    started_s, n_calls = time.monotonic(), bench.engine.n_calls
    own = replace(bench, report=lambda message: on_progress(Progress(task, message=message)))
    result: PropertyResult | None = None
    failure: PropertyFailure | None = None
    try:
        result = task.property.measure(own, task.crystal)
        _check_finite(result)
    # one property must not end the suite, and libraries below raise what they like on odd potentials
    except (AlloysmithError, ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        failure = failure_of(error)
        result = None
    return Entry(
        key=task.key,
        crystal=task.crystal.name,
        property=task.property.kind,
        settings=task.property.model_dump(mode="json"),
        result=_fields(result) if result is not None else None,
        values=dict(result.values()) if result is not None else {},
        failure=failure,
        wall_s=time.monotonic() - started_s,
        n_calls=bench.engine.n_calls - n_calls,
    )


def _fields(result: Any) -> dict[str, Any]:
    """The fields as a file gives them back, so that a record is the same before and after."""
    fields: dict[str, Any] = orjson.loads(orjson.dumps(asdict(result)))
    return fields


def _check_finite(result: PropertyResult) -> None:
    broken = [name for name, value in result.values().items() if not np.isfinite(value)]
    if broken:
        raise OracleError(FailureKind.CORRUPT_OUTPUT, f"{', '.join(broken)} came out as NaN or infinite")


def _key(fingerprint: str, crystal: Crystal, item: AnyProperty, references: Mapping[str, ForceField]) -> str:
    parts = [
        fingerprint,
        crystal.name,
        structure_id(crystal.atoms),
        str(crystal.lattice),
        crystal.cell_freedom,
        item.kind,
        item.version,
        item.model_dump_json(),
    ]
    if isinstance(item, DynamicsSettings) and item.reference_potential is not None:
        parts.extend(own.fingerprint for name, own in references.items() if name == item.reference_potential)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
