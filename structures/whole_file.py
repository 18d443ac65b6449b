"""Files that are whole whenever the process dies: with their old content, with the new, or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

SCRATCH_PREFIX = ".writing-"
"""How names of files begin that a process left unfinished when it died."""


def write_whole(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Replace a file, in one step, once all of it is on the disk.

    Args:
        path: in a folder that exists.
        content: all of it, or what fills the file whose path it is given, which lies beside ``path`` and ends with its
            name. What that raises is raised again, and nothing is left.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    scratch = path.with_name(f"{SCRATCH_PREFIX}{os.getpid()}-{path.name}")
    try:
        if isinstance(content, bytes):
            scratch.write_bytes(content)
        else:
            content(scratch)
        sync(scratch)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes left unfinished when they died, in a folder and below it; nobody may be writing there.

    Raises:
        OSError: the folder cannot be written.
    """
    for path in list(folder.rglob(f"{SCRATCH_PREFIX}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut.

    Raises:
        OSError: there is no such file or folder, or the disk is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
