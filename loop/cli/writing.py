"""Where results go: refused in good time when they cannot be written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError
from ...structures.files import FileFormat, file_format
from ...surrogates.base import SurrogateError
from ...surrogates.model_file import load_state


def check_target(path: Path, formats: Sequence[FileFormat] | None = None) -> None:
    """Find out before anything is computed whether ``path`` can be written.

    Args:
        formats: the structure formats to allow; without them the name is not looked at.

    Raises:
        ConfigError: its name stands for another format, or its folder cannot be written.
        StructureError: its name stands for no format.
    """
    if formats is not None and file_format(path) not in formats:
        raise ConfigError(f"{path} is named as {file_format(path)}; what is written here is {' or '.join(formats)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be written ({error.strerror}); choose another folder") from error


def check_model_target(path: Path) -> None:
    """The same for a model file; what is there must be one, so that a slip replaces no script and no data.

    Raises:
        ConfigError: it is another file, or its folder cannot be written.
    """
    check_target(path)
    if path.is_file():
        try:
            load_state(path)
        except SurrogateError as error:
            raise ConfigError(f"{path} is there and is no model file; name another file, or remove it") from error
