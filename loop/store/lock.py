"""One driver for a run directory."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ...structures.whole_file import SCRATCH_PREFIX
from ..errors import RunDirectoryError

LOCK_NAME = "lock"


def is_of_a_start(path: Path) -> bool:
    """Whether a driver that was killed before it wrote its first file may have left this: the lock, or part of a
    file."""
    return path.name == LOCK_NAME or path.name.startswith(SCRATCH_PREFIX)


def driver_name() -> str:
    """Host and process id of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class RunLock:
    """Holds a run directory for one driver, from construction to :meth:`release`.

    The kernel's file lock decides on one machine, and goes away with its process however that ends. The file's
    content says who holds it, for people, and for machines that share a file system without sharing its locks.

    Args:
        remedy: what to do while another driver holds it, for people; of a campaign by default.

    Raises:
        RunDirectoryError: another driver holds it, or the directory cannot be written.
    """

    def __init__(self, run_dir: Path, *, remedy: str | None = None) -> None:
        self._remedy = remedy or f"watch it with `alloysmith watch {run_dir}`, or stop that driver first"
        self._path = run_dir / LOCK_NAME
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunDirectoryError(
                f"{self._path} cannot be written ({error.strerror}): choose another --run-dir, or make it writable"
            ) from error
        try:
            self._acquire(run_dir)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _acquire(self, run_dir: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunDirectoryError(f"{_in_use(run_dir, self._holder())}: {self._remedy}") from error
        holder = self._holder()
        if holder and holder.get("host") != socket.gethostname():
            raise RunDirectoryError(
                f"{_in_use(run_dir, holder)}. That is another machine, which this one cannot look at (a container "
                "that restarted under a new name counts as another, too): if that driver is certainly gone, "
                f"delete {self._path} and resume"
            )
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started_at": _process_start(os.getpid()),
            "since": time.time(),
        }
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, orjson.dumps(record), 0)
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunDirectoryError(
                f"{self._path} cannot be written: {error.strerror}; make room and resume"
            ) from error

    def _holder(self) -> Mapping[str, Any]:
        return _parse(os.pread(self._descriptor, 4096, 0))

    def release(self) -> None:
        """Give the run directory back; safe to call twice."""
        if self._descriptor >= 0:
            try:
                os.ftruncate(self._descriptor, 0)
            finally:
                os.close(self._descriptor)  # which also drops the kernel's lock
                self._descriptor = -1


def lock_holder(run_dir: Path) -> Mapping[str, Any] | None:
    """Who drives ``run_dir`` now (``host``, ``pid``, ``since``), or nothing; a dead driver does not count."""
    try:
        holder = _parse((run_dir / LOCK_NAME).read_bytes())
    except OSError:
        return None
    if not holder:
        return None
    is_here = holder.get("host") == socket.gethostname()
    if is_here and _process_start(int(holder["pid"])) != holder.get("process_started_at"):
        return None
    return holder


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError:  # empty, or torn while it was written: nobody to name
        return {}
    return record if isinstance(record, dict) and "pid" in record else {}


def _process_start(pid: int) -> float | None:
    """Something that tells a process from a later one with the same id: its start, in clock ticks since boot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return float(stat.rpartition(")")[2].split()[19])


def _in_use(run_dir: Path, holder: Mapping[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    since = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(holder['since']))}" if holder else ""
    return f"{run_dir} is driven by {who}{since}. Two drivers would spoil it"
