"""Large things beside the log, named by the hash of their content and complete before anything names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...structures.whole_file import write_whole
from ..errors import RunDirectoryError

MODELS_FOLDER = "models"


class BlobStore:
    """Files in a folder, named by their content. Writing the same content twice leaves one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes, suffix: str, title: str = "") -> str:
        """Store ``content``; return its name, which begins with the title and ends with the hash.

        The file is synced and renamed into place, so a name that was returned is a whole file.

        Raises:
            RunDirectoryError: the folder cannot be written, or the disk is full.
        """
        name = f"{title}{'-' if title else ''}{_hash(content)}{suffix}"
        try:
            write_whole(self.place_for(name), content)
        except OSError as error:
            raise RunDirectoryError(
                f"{self._folder} cannot be written: {error.strerror or error}; make room, then resume"
            ) from error
        return name

    def place_for(self, name: str) -> Path:
        """A path beside the files, in a folder that exists, for what is not finished.

        Raises:
            OSError: the folder cannot be made.
        """
        self._folder.mkdir(exist_ok=True)
        return self._folder / name

    def path(self, name: str) -> Path:
        """Where the file of that name is.

        Raises:
            RunDirectoryError: it is missing, or its content is not what its name says.
        """
        path = self._folder / name
        if not path.is_file():
            raise RunDirectoryError(f"{path} is missing, though the log names it; restore it from a copy")
        if _hash(path.read_bytes()) != path.stem.rpartition("-")[2]:
            raise RunDirectoryError(f"{path} is damaged: its content does not match its name; restore it from a copy")
        return path


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
