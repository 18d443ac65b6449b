"""Pseudopotential files of Quantum ESPRESSO: where they are, and what their headers say."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

DEBIAN_FOLDER = Path("/usr/share/espresso/pseudo")
"""Where Debian's package `quantum-espresso-data` puts its files."""
FOLDER_VARIABLE = "ESPRESSO_PSEUDO"
"""The environment variable that names a folder, the one Quantum ESPRESSO itself reads."""
SOURCES = (
    "the SSSP library has one for each element (https://www.materialscloud.org/discover/sssp); for a trial, "
    "`apt-get install quantum-espresso-data` brings some"
)

_HEADER_BYTES = 20_000
_ELEMENT = re.compile(r"\belement\s*=\s*\"\s*([A-Za-z]{1,2})\s*\"|^\s*([A-Z][a-z]?)\s+Element\s*$", re.M)
_TYPE = re.compile(r"\bpseudo_type\s*=\s*\"\s*(\w+)\s*\"|^\s*(NC|US|PAW)\s+\S.*pseudopotential\s*$", re.M)


@dataclass(frozen=True)
class Pseudopotential:
    """A pseudopotential file.

    Attributes:
        element: chemical symbol it is used for.
        path: the file.
        digest: hash of its content.
        needs_dense_density: ultrasoft or PAW, whose charge density needs a cutoff of its own.
    """

    element: str
    path: Path
    digest: str
    needs_dense_density: bool


def pseudopotential_folder(stated: Path | None) -> Path:
    """The folder of the files: the stated one, that of ``ESPRESSO_PSEUDO``, or Debian's.

    Raises:
        ConfigError: there is no such folder.
    """
    if stated is not None:
        folder, origin = stated.expanduser(), "pseudo_dir"
    elif os.environ.get(FOLDER_VARIABLE):
        folder, origin = Path(os.environ[FOLDER_VARIABLE]).expanduser(), FOLDER_VARIABLE
    else:
        folder, origin = DEBIAN_FOLDER, "the default"
    if not folder.is_dir():
        raise ConfigError(
            f"no folder of pseudopotentials: {folder} ({origin}) is not there. Set pseudo_dir, or the environment "
            f"variable {FOLDER_VARIABLE}; {SOURCES}"
        )
    return folder.resolve()


def load_pseudopotentials(files: Mapping[str, str], folder: Path) -> dict[str, Pseudopotential]:
    """Find and check the files of all elements.

    Args:
        files: chemical symbol -> file name in ``folder``, or absolute path.
        folder: see :func:`pseudopotential_folder`.

    Raises:
        ConfigError: a file is missing, cannot be read, or belongs to another element.
    """
    return {element: _load(element, folder / Path(name).expanduser()) for element, name in sorted(files.items())}


def _load(element: str, path: Path) -> Pseudopotential:
    if not path.is_file():
        raise ConfigError(f"pseudopotential of {element} not found: {path}. {_similar(element, path.parent)}{SOURCES}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"pseudopotential of {element} cannot be read: {path}: {error.strerror or error}") from error
    header = content[:_HEADER_BYTES].decode(errors="replace")
    found = _first(_ELEMENT, header)
    if found and found.capitalize() != element:
        raise ConfigError(
            f"{path} is a pseudopotential of {found.capitalize()}, but pseudopotentials names it for {element}"
        )
    kind = _first(_TYPE, header).upper()
    return Pseudopotential(
        element,
        path.resolve(),
        hashlib.blake2b(content, digest_size=16).hexdigest(),
        needs_dense_density=kind in ("US", "USPP", "PAW"),
    )


def _similar(element: str, folder: Path) -> str:
    if not folder.is_dir():
        return ""
    names = sorted(entry.name for entry in folder.iterdir() if re.match(rf"{element}([^a-z]|$)", entry.name))
    return f"That folder has {', '.join(names)} for {element}. " if names else f"That folder has none for {element}: "


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return next((group for group in match.groups() if group), "") if match else ""
