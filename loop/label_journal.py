"""What `label` has finished, one line an outcome, so that a killed labelling goes on where it was."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
from ase import Atoms

from ..errors import AlloysmithError
from ..generators.base import Failure
from ..oracles.base import FailureKind, Label
from ..structures.base import structure_id
from ..structures.vacancy_hop import NEIGHBOUR_KEY
from .encoding import StoredLabel, decode_value, encode_label, encode_value

_VERSION = 1


class JournalError(AlloysmithError):
    """The journal of a labelling cannot be used."""


def request_key(atoms: Atoms, phase: str | None) -> str:
    """What an oracle's answer depends on: the structure, the phase it must keep, and the hop that is marked in it."""
    hop = f"-{atoms.info[NEIGHBOUR_KEY]}" if NEIGHBOUR_KEY in atoms.info and (atoms.numbers == 0).any() else ""
    return f"{structure_id(atoms)}-{phase or 'any'}{hop}"


class LabelJournal:
    """Outcomes by request key, for one oracle, in a file that only grows. A context manager; one process at a time.

    Attributes:
        outcomes: request key -> label or failure; the latest of several counts.

    Raises:
        JournalError: it belongs to another oracle, is in use, damaged, or cannot be written.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.outcomes: dict[str, Label | Failure] = {}
        self._size = 0
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise JournalError(f"{path} cannot be written ({error.strerror}); choose another OUT") from error
        try:
            self._lock()
            self._size = self._read(fingerprint)
            os.ftruncate(self._descriptor, self._size)
            if self._size == 0:
                self._append([{"v": _VERSION, "oracle": fingerprint}])
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> LabelJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def record(self, outcomes: Iterable[tuple[str, Label | Failure]]) -> None:
        """Write outcomes down and sync; they count from now on.

        Raises:
            JournalError: the disk is full or failing; what was written before is safe.
        """
        new = dict(outcomes)
        self._append([{"key": key, **_encoded(result)} for key, result in new.items()])
        self.outcomes.update(new)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"{self.path} is in use: another `alloysmith label` writes the same OUT; wait for it, or stop it first"
            ) from error

    def _read(self, fingerprint: str) -> int:
        """Take the lines in; return the length of the whole ones."""
        size = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                record = self._checked(line, number)
                if number == 1 and record.get("oracle") != fingerprint:
                    raise JournalError(
                        f"{self.path} holds labels of another oracle ({record.get('oracle')}, now {fingerprint}): its "
                        "settings, potential or version differ. Choose another OUT, or delete that file to begin anew"
                    )
                if number > 1:
                    self.outcomes[record["key"]] = _decoded(record)
                size += len(line)
        return size

    def _checked(self, line: bytes, number: int) -> dict[str, Any]:
        checksum, _, body = line.rstrip(b"\n").partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            raise JournalError(
                f"line {number} of {self.path} is damaged; keep the lines before it "
                f"(`head -n {number - 1}`) and run the same command again, or delete the file to begin anew"
            )
        record: dict[str, Any] = orjson.loads(body)
        return record

    def _append(self, records: Iterable[dict[str, Any]]) -> None:
        bodies = [orjson.dumps(record) for record in records]
        block = memoryview(b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies))
        n_written = 0
        try:
            while n_written < len(block):
                n_written += os.pwrite(self._descriptor, block[n_written:], self._size + n_written)
            os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(
                f"{self.path} cannot be written: {error.strerror}; make room, then run the same command again. "
                "Nothing that was finished before is lost"
            ) from error
        self._size = self._size + len(block)


def _encoded(result: Label | Failure) -> dict[str, Any]:
    if isinstance(result, Label):
        return {"label": encode_label(result)}
    return {"failure": {"kind": str(result.kind), "message": result.message, "details": encode_value(result.details)}}


def _decoded(record: dict[str, Any]) -> Label | Failure:
    if "label" in record:
        return StoredLabel.of(record["label"])
    failure = record["failure"]
    return Failure(FailureKind(failure["kind"]), failure["message"], decode_value(failure["details"]))
