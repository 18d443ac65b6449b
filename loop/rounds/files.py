"""Files of a learning: a folder a round, whose files are each whole or absent, and the record that ends it.

A round is done when its record is there. A learning that was killed takes up the last round where its files end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel

from ...structures.whole_file import write_whole
from ..errors import RunDirectoryError

ROUNDS_FOLDER = "rounds"
CONFIG_NAME = "config.json"
JOURNAL_NAME = "labels.journal"

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)


class Folder:
    """The files that every round has."""

    def __init__(self, run_dir: Path, index: int) -> None:
        self.path = run_dir / ROUNDS_FOLDER / f"{index:04d}"
        self.record = self.path / "record.json"
        self._seconds = self.path / "seconds.json"

    def member(self, which: int) -> Path:
        """A member of the committee that was trained, until all are."""
        return self.path / f"member-{which:02d}.safetensors"

    def checkpoint(self, which: int) -> Path:
        """The training of a member that is under way."""
        return self.path / f"member-{which:02d}.training"

    def make(self) -> None:
        """Make the folder, if need be.

        Raises:
            RunDirectoryError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"{self.path} cannot be made: {error.strerror or error}") from error

    def write_seconds(self, seconds: Mapping[str, float]) -> None:
        """Keep the wall time by stage, of all sessions so far.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        put(self._seconds, orjson.dumps(dict(seconds)))

    def read_seconds(self) -> dict[str, float]:
        """The inverse of :meth:`write_seconds`; empty where nothing is known.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        if not self._seconds.is_file():
            return {}
        try:
            return {str(stage): float(spent) for stage, spent in orjson.loads(self._seconds.read_bytes()).items()}
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
            raise RunDirectoryError(f"{self._seconds} is damaged ({error}); remove it") from error


def put(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Put a file in place, whole or not at all; see :func:`~alloysmith.structures.whole_file.write_whole`.

    Raises:
        RunDirectoryError: the disk is full or the folder cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {error.strerror or error}; make room, then go on"
        ) from error


def record_json(record: object) -> bytes:
    """The figures of a round as they are stored."""
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(record).items()}
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2)


def read_config(run_dir: Path, kind: type[M]) -> M:
    """The configuration that a learning was begun with.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    try:
        return kind.model_validate_json((run_dir / CONFIG_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{run_dir / CONFIG_NAME} is damaged: {error}") from error


def read_round_records(run_dir: Path, read: Callable[[bytes, Path], R]) -> list[R]:
    """Records of all rounds that are done, in order.

    Args:
        read: makes a record of a file's content; the path is for its messages.

    Raises:
        RunDirectoryError: a record is damaged or a round is missing.
    """
    records: list[R] = []
    folder = run_dir / ROUNDS_FOLDER
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for index, name in enumerate(names):
        if name != f"{index:04d}":
            raise RunDirectoryError(f"{folder} lacks round {index:04d}; restore it from a copy")
        path = folder / name / "record.json"
        if not path.is_file():
            break
        records.append(read(path.read_bytes(), path))
    return records
