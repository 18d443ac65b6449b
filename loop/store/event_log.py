"""The append-only log of a campaign: one line an event, written and synced before anything acts on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunDirectoryError
from ..events import Event, EventFormatError, decode_event, encode_event

LOG_NAME = "events.jsonl"


@dataclass(frozen=True)
class LogPosition:
    """A place between two lines of a log.

    Attributes:
        n_events: events before it.
        offset: bytes before it.
    """

    n_events: int = 0
    offset: int = 0


def read_events(run_dir: Path) -> Iterator[Event]:
    """All events of a run directory; see :func:`read_log`."""
    for event, _ in read_log(run_dir, LogPosition()):
        yield event


def read_log(run_dir: Path, start: LogPosition) -> Iterator[tuple[Event, LogPosition]]:
    """The events of a run directory from ``start`` on, each with the position behind it.

    A torn last line, which a crash or a driver at work leaves, is left out.

    Raises:
        RunDirectoryError: no log, or a damaged line.
    """
    path = run_dir / LOG_NAME
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise RunDirectoryError(
            f"{path.parent} is not a run directory: it has no {path.name}. "
            f"`alloysmith run CONFIG --run-dir {path.parent}` starts a campaign there"
        ) from None
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        offset = start.offset
        file.seek(offset)
        for number, line in enumerate(file, start.n_events):
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = decode_event(line)
                if event.seq != number:
                    raise EventFormatError(f"it has number {event.seq} where {number} should follow")
            except (EventFormatError, KeyError, TypeError, ValueError) as error:
                raise RunDirectoryError(_damage_message(path, number, error)) from error
            yield event, LogPosition(number + 1, offset)


def _damage_message(path: Path, n_intact: int, error: Exception) -> str:
    saved = f"{path}.damaged"
    return (
        f"line {n_intact + 1} of {path} is damaged: {error}. The {n_intact} lines before it are intact. "
        "Restore the file from a copy if there is one; otherwise go on from the intact part with "
        f"`mv {path} {saved} && head -n {n_intact} {saved} > {path}` and resume: only what came after is done again"
    )


class EventLog:
    """Appends to a log. One writer at a time, which :class:`~.lock.RunLock` sees to.

    :meth:`open` cuts a torn last line off.
    """

    def __init__(self, path: Path, descriptor: int, n_events: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = size
        self.n_events = n_events

    @classmethod
    def create(cls, run_dir: Path) -> EventLog:
        """A new, empty log.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        path = run_dir / LOG_NAME
        descriptor = _open_for_writing(path, os.O_CREAT)
        os.ftruncate(descriptor, 0)
        return cls(path, descriptor, 0, 0)

    @classmethod
    def open(cls, run_dir: Path, end: LogPosition) -> EventLog:
        """The log of an existing campaign, ready for appending behind ``end``, where its last whole line ends.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        path = run_dir / LOG_NAME
        descriptor = _open_for_writing(path, 0)
        if os.fstat(descriptor).st_size != end.offset:
            os.ftruncate(descriptor, end.offset)
            os.fsync(descriptor)
        return cls(path, descriptor, end.n_events, end.offset)

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Write and sync ``events``; return them as a reader of the log will see them.

        Raises:
            RunDirectoryError: the disk is full or failing; the log stays as it was before.
        """
        lines = [encode_event(event) for event in events]
        block = memoryview(b"".join(lines))
        try:
            n_written = 0
            while n_written < len(block):
                n_written += os.pwrite(self._descriptor, block[n_written:], self._size + n_written)
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut_back()
            raise RunDirectoryError(_write_failure(self._path, error)) from error
        self._size += len(block)
        self.n_events += len(lines)
        return [decode_event(line) for line in lines]

    @property
    def end(self) -> LogPosition:
        """Behind the last event."""
        return LogPosition(self.n_events, self._size)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            return  # the torn tail is dropped when the log is read


def _open_for_writing(path: Path, flags: int) -> int:
    try:
        return os.open(path, os.O_RDWR | flags, 0o644)
    except OSError as error:
        raise RunDirectoryError(_write_failure(path, error)) from error


def _write_failure(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = "the disk (or your quota) is full: make room"
    elif error.errno == errno.EFBIG:
        cause = "the file has reached the largest size allowed here (see `ulimit -f`): raise it"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} cannot be written ({error.strerror}): choose another --run-dir, or change its permissions"
    else:
        cause = f"{error.strerror}: see to the disk"
    return (
        f"{path} cannot be written: {cause}, then `alloysmith resume {path.parent}`. Nothing that had finished is lost"
    )
