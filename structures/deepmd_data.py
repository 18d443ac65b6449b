"""Reading systems in DeePMD-kit's formats ``deepmd/npy``, ``deepmd/npy/mixed`` and ``deepmd/raw``.

A system is a folder with ``type.raw`` (a type for each atom) and ``type_map.raw`` (symbols of the types), and either
folders ``set.*`` with ``coord.npy``, ``box.npy``, ``energy.npy``, ``force.npy``, ``virial.npy``, or the same as text,
``coord.raw`` and so on. A file ``nopbc`` says that nothing is periodic. With ``real_atom_types.npy`` in its sets
(mixed) each frame has types of its own, -1 where there is no atom. Å, eV, eV/Å; the virial is in eV and positive under
compression, minus the volume times ASE's stress. Arrays are mapped from disk, so that large systems need no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ..errors import StructureError

_LABELS = ("energy", "force", "virial")


def deepmd_systems(folder: Path) -> list[Path]:
    """All systems in a folder, itself included, sorted by their paths; empty for any other path."""
    if not folder.is_dir():
        return []
    return sorted(path.parent for path in folder.rglob("type.raw") if path.is_file())


def system_files(system: Path) -> list[Path]:
    """The files of a system that say what is in it, sorted."""
    own = [path for path in system.iterdir() if path.suffix == ".raw" or path.name == "nopbc"]
    return sorted([*own, *(path for path in system.glob("set.*/*.npy"))])


@dataclass(frozen=True)
class DeepmdSet:
    """Frames of a system that lie in the same files.

    Attributes:
        name: ``set.000``, or ``raw``.
        coordinates: ``[n_frames, n_atoms, 3]``, Å.
        cells: ``[n_frames, 3, 3]``, Å; ``None`` where nothing is periodic.
        numbers: ``[n_frames, n_atoms]``, atomic numbers, 0 where there is no atom; or ``[n_atoms]``.
        energies: ``[n_frames]``, eV, if there are any.
        forces: ``[n_frames, n_atoms, 3]``, eV/Å, if there are any.
        virials: ``[n_frames, 3, 3]``, eV, if there are any.
    """

    name: str
    coordinates: np.ndarray
    cells: np.ndarray | None
    numbers: np.ndarray
    energies: np.ndarray | None
    forces: np.ndarray | None
    virials: np.ndarray | None

    def __len__(self) -> int:
        return len(self.coordinates)

    def atoms(self, frame: int) -> Atoms:
        """A frame with ``energy`` and ``stress`` (ASE's sign) in ``info`` and ``forces`` in ``arrays``.

        The virial of a frame that is not periodic has no volume to refer to, and is left out.
        """
        numbers = self.numbers if self.numbers.ndim == 1 else self.numbers[frame]
        there = numbers > 0
        cell = None if self.cells is None else np.array(self.cells[frame], dtype=float)
        positions = np.array(self.coordinates[frame], dtype=float)[there]
        atoms = Atoms(numbers[there], positions=positions, cell=cell, pbc=cell is not None)
        if self.energies is not None:
            atoms.info["energy"] = float(self.energies[frame])
        if self.forces is not None:
            atoms.set_array("forces", np.array(self.forces[frame], dtype=float)[there])
        volume = abs(float(np.linalg.det(cell))) if cell is not None else 0.0
        if self.virials is not None and volume > 0.0:
            atoms.info["stress"] = np.array(self.virials[frame], dtype=float) / -volume
        return atoms


def read_deepmd_sets(system: Path, type_map: Sequence[str] | None = None) -> Iterator[DeepmdSet]:
    """The sets of a system, one after the other; where there are ``set.*`` folders, text files are not looked at.

    Args:
        type_map: symbols of the types, for a system without ``type_map.raw``.

    Raises:
        StructureError: a file is missing, damaged, or does not fit the others; its name is told.
    """
    numbers_of_types = _numbers_of_types(system, type_map)
    types = _types(system)
    is_periodic = not (system / "nopbc").exists()
    folders = sorted(path for path in system.glob("set.*") if path.is_dir())
    if not folders and not (system / "coord.raw").is_file():
        raise StructureError(f"{system} has neither folders set.* with coord.npy, nor coord.raw")
    for folder in folders or [system]:
        arrays = _arrays(folder, ".npy" if folders else ".raw", is_periodic)
        yield _checked_set(folder, arrays, types, numbers_of_types)


def _arrays(folder: Path, suffix: str, is_periodic: bool) -> dict[Path, np.ndarray]:
    """The arrays of a set by their files; the coordinates come first."""
    names = ["coord", *(["box"] if is_periodic else []), *_LABELS, *(["real_atom_types"] if suffix == ".npy" else [])]
    paths = [folder / f"{name}{suffix}" for name in names]
    for path in paths[: 2 if is_periodic else 1]:
        if not path.is_file():
            raise StructureError(
                f"{path} is missing" + ("; a system in vacuum has a file nopbc" if is_periodic else "")
            )
    return {path: _loaded(path) for path in paths if path.is_file()}


def _loaded(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False) if path.suffix == ".npy" else _text(path)
    except (OSError, ValueError, EOFError) as error:
        detail = " ".join(str(error).split())
        raise StructureError(f"{path} cannot be read; it may be damaged or cut short ({detail})") from error
    kinds = "iu" if path.stem == "real_atom_types" else "fiu"
    if found.dtype.kind not in kinds or found.ndim == 0:
        what = "whole numbers" if kinds == "iu" else "numbers"
        raise StructureError(f"{path} holds {found.dtype} of shape {found.shape}, no array of {what}")
    return found


def _text(path: Path) -> np.ndarray:
    return np.loadtxt(path, ndmin=1 if path.stem == "energy" else 2)


def _checked_set(
    folder: Path, arrays: Mapping[Path, np.ndarray], types: np.ndarray, numbers_of_types: np.ndarray
) -> DeepmdSet:
    first, coordinates = next(iter(arrays.items()))
    n_frames, n_atoms = len(coordinates), len(types)
    sizes = {"coord": 3 * n_atoms, "box": 9, "energy": 1, "force": 3 * n_atoms, "virial": 9, "real_atom_types": n_atoms}
    shapes = {"coord": (n_atoms, 3), "box": (3, 3), "energy": (), "force": (n_atoms, 3), "virial": (3, 3)}
    found: dict[str, np.ndarray] = {}
    for path, array in arrays.items():
        if len(array) != n_frames:
            raise StructureError(f"{path} has {len(array)} frames, {first.name} has {n_frames}; write both anew")
        if array.size != n_frames * sizes[path.stem]:
            raise StructureError(
                f"{path} has shape {array.shape}; {n_frames} frames of {n_atoms} atoms (type.raw) have "
                f"{sizes[path.stem]} numbers each"
            )
        found[path.stem] = array.reshape(n_frames, *shapes.get(path.stem, (n_atoms,)))
    mixed = found.get("real_atom_types")
    where = folder / "real_atom_types.npy" if mixed is not None else folder / "type.raw"
    return DeepmdSet(
        name="raw" if first.suffix == ".raw" else folder.name,
        coordinates=found["coord"],
        cells=found.get("box"),
        numbers=_numbers(types if mixed is None else mixed, numbers_of_types, where, is_padded=mixed is not None),
        energies=found.get("energy"),
        forces=found.get("force"),
        virials=found.get("virial"),
    )


def _numbers(types: np.ndarray, numbers_of_types: np.ndarray, path: Path, *, is_padded: bool) -> np.ndarray:
    lowest = -1 if is_padded else 0
    if types.size and not (types.min() >= lowest and types.max() < len(numbers_of_types)):
        raise StructureError(
            f"{path} has types from {types.min()} to {types.max()}; the type map has {len(numbers_of_types)} elements, "
            "counted from 0"
        )
    return np.append(numbers_of_types, 0)[types]


def _types(system: Path) -> np.ndarray:
    path = system / "type.raw"
    try:
        return np.array([int(word) for word in path.read_text().split()], dtype=int)
    except (OSError, ValueError) as error:
        raise StructureError(f"{path} cannot be read: {error}; it holds a whole number for each atom") from error


def _numbers_of_types(system: Path, type_map: Sequence[str] | None) -> np.ndarray:
    path = system / "type_map.raw"
    if path.is_file():
        symbols = path.read_text(errors="replace").split()
    elif type_map is not None:
        symbols = list(type_map)
    else:
        raise StructureError(f"{path} is missing; name the elements of types 0, 1, … with type_map: [Al, Cu, Ni]")
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
    if unknown or not symbols:
        raise StructureError(f"{path} names {', '.join(unknown) or 'nothing'}; types must be chemical symbols")
    return np.array([atomic_numbers[symbol] for symbol in symbols])
