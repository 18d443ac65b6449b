"""Writing labelled structures as systems of DeePMD-kit, ``deepmd/npy`` or ``deepmd/npy/mixed``, frame by frame."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from ..errors import StructureError

_MAX_BUFFERED_BYTES = 64 << 20
_TYPES = "real_atom_types"


@dataclass
class _System:
    """A system that grows.

    Attributes:
        numbers: atomic numbers of its atoms, in order.
        n_written: frames on disk.
        rows: name of an array -> rows that are not yet on disk.
    """

    folder: Path
    numbers: np.ndarray
    is_periodic: bool
    n_written: int = 0
    rows: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))


class DeepmdWriter:
    """Writes a folder of systems; it has its name only when all is written.

    Frames of one composition make a system, atoms sorted by element (their order among equals is kept); frames that
    lack forces or stress, and those that are not periodic, have systems of their own. As ``mixed``, frames of one
    number of atoms make a system, atoms in their order; descriptors of the DPA family read that, `se_e2_a` does not.

    Args:
        folder: does not exist, or is empty.
        elements: first elements of the type map; others follow in alphabetical order.
        frames_per_set: frames of a ``set.*`` folder.
        is_mixed: see above.

    Raises:
        StructureError: there is something at ``folder``, or an element is unknown.
    """

    def __init__(
        self, folder: Path, elements: Sequence[str] = (), *, frames_per_set: int = 5000, is_mixed: bool = False
    ) -> None:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise StructureError(f"{folder} exists and is no empty folder; name a new one")
        if unknown := sorted(set(elements) - set(atomic_numbers)):
            raise StructureError(f"{', '.join(unknown)} are no chemical symbols")
        if len(set(elements)) < len(elements):
            raise StructureError(f"{', '.join(elements)} name an element twice; a type map has each once")
        self.n_frames = 0
        """Frames written so far."""
        self._folder = folder
        self._scratch = folder.with_name(f".writing-{os.getpid()}-{folder.name}")
        self._elements = list(elements)
        self._per_set = frames_per_set
        self._is_mixed = is_mixed
        self._systems: dict[str, _System] = {}
        self._n_buffered = 0

    @property
    def systems(self) -> list[str]:
        """Names of the systems."""
        return sorted(self._systems)

    def __enter__(self) -> DeepmdWriter:
        try:
            self._scratch.mkdir(parents=True)
        except OSError as error:
            raise StructureError(f"{self._folder} cannot be written ({error})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def add(self, atoms: Atoms, energy_ev: float, forces: np.ndarray | None, stress: np.ndarray | None) -> None:
        """Add a frame.

        Args:
            forces: ``[n_atoms, 3]``, eV/Å.
            stress: ``[3, 3]``, eV/Å^3, ASE's sign.

        Raises:
            StructureError: a structure that is periodic in some directions only.
        """
        if atoms.pbc.any() and not atoms.pbc.all():
            raise StructureError(
                "a structure that is periodic in some directions only has no place in DeePMD-kit's formats; give it a "
                "cell with vacuum and make it periodic in all"
            )
        is_periodic = bool(atoms.pbc.all())
        order = np.arange(len(atoms)) if self._is_mixed else np.argsort(atoms.get_chemical_symbols(), kind="stable")
        numbers = atoms.numbers[order]
        has_stress = stress is not None and is_periodic
        missing = [("no-force", forces is None), ("no-virial", not has_stress), ("nopbc", not is_periodic)]
        what = str(len(atoms)) if self._is_mixed else _formula(numbers)
        name = "-".join([what, *(word for word, is_so in missing if is_so)])
        system = self._systems.get(name)
        if system is None:
            system = self._systems[name] = _System(self._scratch / name, numbers, is_periodic)
        row: dict[str, np.ndarray] = {"coord": atoms.positions[order].ravel(), "energy": np.array(energy_ev)}
        if is_periodic:
            row["box"] = atoms.cell.array.ravel()
        if forces is not None:
            row["force"] = forces[order].ravel()
        if stress is not None and is_periodic:
            row["virial"] = -abs(atoms.cell.volume) * stress.ravel()
        if self._is_mixed:
            row[_TYPES] = numbers.astype(np.int64)  # types when all elements are known
        for key, values in row.items():
            system.rows[key].append(values)
            self._n_buffered += values.nbytes
        self.n_frames += 1
        if self._n_buffered > _MAX_BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        for system in self._systems.values():
            _write(system, self._per_set)
        self._n_buffered = 0

    def _finish(self) -> None:
        self._flush()
        present = {chemical_symbols[n] for system in self._systems.values() for n in _all_numbers(system).tolist()}
        type_map = [*self._elements, *sorted(present - set(self._elements))]
        for system in self._systems.values():
            _write_types(system, type_map, is_mixed=self._is_mixed)
        if self._folder.is_dir():
            self._folder.rmdir()
        self._scratch.rename(self._folder)


def _formula(numbers: np.ndarray) -> str:
    return "".join(f"{chemical_symbols[n]}{(numbers == n).sum()}" for n in dict.fromkeys(numbers.tolist()))


def _write(system: _System, per_set: int) -> None:
    """Write the rows that are in memory."""
    n_rows = len(system.rows["coord"])
    begin = 0
    while begin < n_rows:
        number, n_there = divmod(system.n_written, per_set)
        end = min(n_rows, begin + per_set - n_there)
        folder = system.folder / f"set.{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in system.rows.items():
            _append(folder / f"{name}.npy", np.array(rows[begin:end]))
        system.n_written += end - begin
        begin = end
    system.rows.clear()


def _append(path: Path, rows: np.ndarray) -> None:
    """Add rows to an array on disk; NumPy leaves room in its header for any number of them."""
    n_there = 0
    if path.is_file():
        n_there = len(np.load(path, mmap_mode="r"))
    header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (n_there + len(rows), *rows.shape[1:])}
    with path.open("r+b" if n_there else "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(0, os.SEEK_END)
        file.write(rows.tobytes())


def _all_numbers(system: _System) -> np.ndarray:
    mixed = [np.unique(np.load(path, mmap_mode="r")) for path in system.folder.glob(f"set.*/{_TYPES}.npy")]
    return np.unique(np.concatenate([system.numbers, *mixed]))


def _write_types(system: _System, type_map: Sequence[str], *, is_mixed: bool) -> None:
    index: Mapping[int, int] = {atomic_numbers[symbol]: k for k, symbol in enumerate(type_map)}
    types = [0] * len(system.numbers) if is_mixed else [index[n] for n in system.numbers.tolist()]
    (system.folder / "type.raw").write_text("\n".join(map(str, types)) + "\n")
    (system.folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
    if not system.is_periodic:
        (system.folder / "nopbc").touch()
    table = np.full(len(chemical_symbols), -1)
    for number, k in index.items():
        table[number] = k
    for path in system.folder.glob(f"set.*/{_TYPES}.npy"):
        stored = np.load(path, mmap_mode="r+")
        stored[:] = table[stored]
        stored.flush()
