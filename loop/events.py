"""What is written down while a campaign runs. The state of a campaign is a function of these events alone.

One event is one line of ``events.jsonl``. All requests of a decision are one event, so that a line torn by a crash
takes the whole decision with it, never half of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import orjson

from ..generators.base import Candidate, Failure
from ..oracles.base import FailureKind, Label
from .encoding import StoredCandidate, StoredLabel, decode_value, encode_candidate, encode_label, encode_value

SCHEMA_VERSION = 1
"""Version of the lines; raised when an old reader could misread a new line. Old versions are read for ever."""

StopReason = Literal["agent", "budget", "wall_time", "idle", "interrupted", "failures", "error"]
"""Why a session ended: the agent said so; all evaluations are spent; the wall time is; nobody had anything to do; a
signal came; too many evaluations failed; an error ended it."""

FailureAction = Literal["retry", "quarantine", "abort"]


class EventFormatError(ValueError):
    """A line is not an event: damaged, or written by a newer version."""


@dataclass(frozen=True)
class Event:
    """What all events have.

    Attributes:
        seq: position in the log, from 0.
        at: Unix time of writing, s.
    """

    type: ClassVar[str]
    seq: int
    at: float


@dataclass(frozen=True)
class Started(Event):
    """A campaign was created; always the first event.

    Attributes:
        config: the resolved configuration.
        config_hash: hash of the part of it that decides the results.
        software: name -> version.
        oracle_fingerprint: of the oracle that makes the labels; empty in logs that were written before it was kept.
    """

    type: ClassVar[str] = "started"
    config: Mapping[str, Any]
    config_hash: str
    software: Mapping[str, str]
    oracle_fingerprint: str = ""


@dataclass(frozen=True)
class Resumed(Event):
    """A driver took the campaign up; also written when it runs for the first time.

    Attributes:
        driver: host and process id of the driver.
        execution: execution and budget settings of this session, which may differ from those it started with.
    """

    type: ClassVar[str] = "resumed"
    driver: str
    execution: Mapping[str, Any]
    budget: Mapping[str, Any]


@dataclass(frozen=True)
class RequestRecord:
    """One request of a decision.

    Attributes:
        request_id: unique and increasing.
        candidate: what is to be evaluated.
        warm_start: request id of the evaluation the oracle starts from, if any.
    """

    request_id: str
    candidate: Candidate
    warm_start: str | None = None


@dataclass(frozen=True)
class Requested(Event):
    """A decision to evaluate, written before anything of it is submitted."""

    type: ClassVar[str] = "requested"
    round: int
    requests: tuple[RequestRecord, ...]


@dataclass(frozen=True)
class Evaluated(Event):
    """A request ended with a label."""

    type: ClassVar[str] = "evaluated"
    request_id: str
    attempt: int
    worker: str
    started_at: float
    ended_at: float
    label: Label


@dataclass(frozen=True)
class Failed(Event):
    """An attempt ended without a label.

    Attributes:
        action: what the failure policy decided: try again, set the request aside, or (and) end the campaign.
    """

    type: ClassVar[str] = "failed"
    request_id: str
    attempt: int
    worker: str
    started_at: float
    ended_at: float
    failure: Failure
    action: FailureAction


@dataclass(frozen=True)
class Retrained(Event):
    """The surrogate was fitted.

    Attributes:
        round: decision round it happened in.
        n_train: labels it was fitted on.
        model: name of the model file in ``models/``, which is the hash of its content.
    """

    type: ClassVar[str] = "retrained"
    round: int
    n_train: int
    model: str
    metrics: Mapping[str, float]
    wall_s: float
    reason: str


@dataclass(frozen=True)
class Tuned(Event):
    """The surrogate's settings were searched.

    Attributes:
        round: decision round it happened in.
        n_labels: labels that they were judged by.
        settings: of the surrogate from now on.
        error, error_before: cross-validated, of these settings and of those before; ``None`` where it was not finite.
        n_trials: settings that were tried.
    """

    type: ClassVar[str] = "tuned"
    round: int
    n_labels: int
    settings: Mapping[str, Any]
    error: float | None
    error_before: float | None
    n_trials: int
    wall_s: float
    reason: str


@dataclass(frozen=True)
class GeneratorTraining(Event):
    """A generator's model is being trained; written when that begins and now and then until it ends.

    Attributes:
        generator: name of the generator.
        n_train: labels it is trained on, the first so many.
        step: of the training; 0 where it begins.
        figures: among them ``share``, of all work that is done.
    """

    type: ClassVar[str] = "generator_training"
    generator: str
    n_train: int
    step: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class GeneratorTrained(Event):
    """A generator's model was trained.

    Attributes:
        model: name of the model file in ``models/``, which ends with the hash of its content.
        labels: hash of the labels it was trained on.
        before: name of the model file it started from, if any.
        figures: the latest of the training.
        wall_s: of this attempt.
    """

    type: ClassVar[str] = "generator_trained"
    generator: str
    n_train: int
    model: str
    labels: str
    before: str | None
    figures: Mapping[str, float]
    worker: str
    wall_s: float


@dataclass(frozen=True)
class GeneratorTrainingFailed(Event):
    """An attempt to train a generator's model failed.

    Attributes:
        action: try again, go on with the model before, or end the campaign.
    """

    type: ClassVar[str] = "generator_training_failed"
    generator: str
    n_train: int
    attempt: int
    worker: str
    failure: Failure
    action: FailureAction


@dataclass(frozen=True)
class Stopped(Event):
    """A session ended in good order."""

    type: ClassVar[str] = "stopped"
    reason: StopReason
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def encode_event(event: Event) -> bytes:
    """The line of an event: JSON with a checksum, ended by a newline."""
    record: dict[str, Any] = {"v": SCHEMA_VERSION, "seq": event.seq, "t": event.at, "type": event.type}
    record.update(_WRITERS[event.type](event))
    body = orjson.dumps(record)
    return b'%s,"crc":%d}\n' % (body[:-1], zlib.crc32(body))


def decode_event(line: bytes) -> Event:
    """Read a line back.

    Raises:
        EventFormatError: the line is damaged, or its schema version is newer than this software.
    """
    body, separator, checksum = line.rstrip(b"\n").rpartition(b',"crc":')
    body += b"}"
    if not separator or checksum != b"%d}" % zlib.crc32(body):
        raise EventFormatError("its checksum does not match its content")
    record = orjson.loads(body)
    if record["v"] > SCHEMA_VERSION:
        raise EventFormatError(
            f"it has schema version {record['v']}, this Alloysmith reads up to {SCHEMA_VERSION}: install a newer one"
        )
    reader = _READERS.get(record["type"])
    if reader is None:
        raise EventFormatError(f"its type {record['type']!r} is unknown")
    return reader(record)


def _write_requested(event: Requested) -> dict[str, Any]:
    requests = []
    for request in event.requests:
        record = {"id": request.request_id, **encode_candidate(request.candidate)}
        if request.warm_start is not None:
            record["warm_start"] = request.warm_start
        requests.append(record)
    return {"round": event.round, "requests": requests}


def _write_ended(event: Evaluated | Failed) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": event.request_id,
        "attempt": event.attempt,
        "worker": event.worker,
        "started": event.started_at,
        "ended": event.ended_at,
    }
    if isinstance(event, Evaluated):
        record["label"] = encode_label(event.label)
        return record
    return {**record, **_write_failure(event)}


def _write_failure(event: Failed | GeneratorTrainingFailed) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": str(event.failure.kind), "message": event.failure.message}
    if event.failure.details:
        record["details"] = encode_value(event.failure.details)
    return {**record, "action": event.action}


def _write_training_failed(event: GeneratorTrainingFailed) -> dict[str, Any]:
    names = ("generator", "n_train", "attempt", "worker")
    return {**{name: getattr(event, name) for name in names}, **_write_failure(event)}


def _write_plainly(event: Event) -> dict[str, Any]:
    return {name: encode_value(value) for name, value in vars(event).items() if name not in ("seq", "at")}


def _read_requested(record: dict[str, Any]) -> Requested:
    requests = tuple(RequestRecord(r["id"], StoredCandidate.of(r), r.get("warm_start")) for r in record["requests"])
    return Requested(record["seq"], record["t"], record["round"], requests)


def _read_evaluated(record: dict[str, Any]) -> Evaluated:
    return Evaluated(*_ended_fields(record), label=StoredLabel.of(record["label"]))


def _read_failed(record: dict[str, Any]) -> Failed:
    return Failed(*_ended_fields(record), failure=_read_failure(record), action=record["action"])


def _read_failure(record: dict[str, Any]) -> Failure:
    return Failure(FailureKind(record["kind"]), record["message"], decode_value(record.get("details", {})))


def _read_training_failed(record: dict[str, Any]) -> GeneratorTrainingFailed:
    names = (record["seq"], record["t"], record["generator"], record["n_train"], record["attempt"], record["worker"])
    return GeneratorTrainingFailed(*names, failure=_read_failure(record), action=record["action"])


def _ended_fields(record: dict[str, Any]) -> tuple[int, float, str, int, str, float, float]:
    return (
        record["seq"],
        record["t"],
        record["id"],
        record["attempt"],
        record["worker"],
        record["started"],
        record["ended"],
    )


def _plain_reader(kind: type[Event]) -> Callable[[dict[str, Any]], Event]:
    def read(record: dict[str, Any]) -> Event:
        fields = {key: decode_value(value) for key, value in record.items() if key not in ("v", "seq", "t", "type")}
        return kind(seq=record["seq"], at=record["t"], **fields)

    return read


_WRITERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    Started.type: _write_plainly,
    Resumed.type: _write_plainly,
    Requested.type: _write_requested,
    Evaluated.type: _write_ended,
    Failed.type: _write_ended,
    Retrained.type: _write_plainly,
    Tuned.type: _write_plainly,
    GeneratorTraining.type: _write_plainly,
    GeneratorTrained.type: _write_plainly,
    GeneratorTrainingFailed.type: _write_training_failed,
    Stopped.type: _write_plainly,
}

_READERS: Mapping[str, Callable[[dict[str, Any]], Event]] = {
    Started.type: _plain_reader(Started),
    Resumed.type: _plain_reader(Resumed),
    Requested.type: _read_requested,
    Evaluated.type: _read_evaluated,
    Failed.type: _read_failed,
    Retrained.type: _plain_reader(Retrained),
    Tuned.type: _plain_reader(Tuned),
    GeneratorTraining.type: _plain_reader(GeneratorTraining),
    GeneratorTrained.type: _plain_reader(GeneratorTrained),
    GeneratorTrainingFailed.type: _read_training_failed,
    Stopped.type: _plain_reader(Stopped),
}
