"""Bad frames, found and named before anything is learned from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import cache

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from vesin import NeighborList

from ...errors import StructureError
from ...structures.base import structure_id
from ...structures.space import elemental_volume
from .data_settings import FrameCheckSettings
from .frame import Frame
from .frame_report import RowDefect

_MIN_HEIGHT_ANG = 0.5
_FORCE_NOISE_EV_ANG = 0.01
"""Forces of equal structures may differ so much by k-points of another symmetry."""


def check_frame(frame: Frame, settings: FrameCheckSettings, elements: Collection[str] | None) -> list[RowDefect]:
    """What is wrong with one frame by itself.

    Args:
        elements: those that the potential has; ``None`` allows all.
    """
    atoms = frame.atoms
    found: list[RowDefect] = []
    if len(atoms) == 0 or atoms.numbers.min() < 1:
        return [RowDefect("unknown_element", frame.source, "atoms without a chemical element, or none at all")]
    if elements is not None:
        unknown = sorted(set(atoms.symbols.species()) - set(elements))
        if unknown:
            found.append(RowDefect("unknown_element", frame.source, ", ".join(unknown)))
    labels = {"forces": frame.forces, "stress": frame.stress, "energy": np.array(frame.energy_ev)}
    coordinates = {"positions": atoms.positions, "cell": atoms.cell.array}
    for name, values in (labels | coordinates).items():
        if values is not None and not np.isfinite(values).all():
            n_bad = int((~np.isfinite(values)).sum())
            found.append(RowDefect("not_finite", frame.source, f"{name} has {n_bad} values that are NaN or infinite"))
    if frame.forces is not None and frame.forces.shape != (len(atoms), 3):
        detail = f"forces have shape {frame.forces.shape}, expected {(len(atoms), 3)}"
        found.append(RowDefect("bad_shape", frame.source, detail))
    elif frame.forces is not None and np.isfinite(frame.forces).all():
        found.extend(_check_forces(frame.forces, frame.source, settings))
    if all(np.isfinite(values).all() for values in coordinates.values()):
        found.extend(_check_geometry(frame, settings))
    return found


def _check_forces(forces: np.ndarray, source: str, settings: FrameCheckSettings) -> Iterator[RowDefect]:
    largest = float(np.abs(forces).max())
    if largest > settings.max_force_ev_ang:
        yield RowDefect("huge_forces", source, f"a component of {largest:.4g} eV/Å")
    net = float(np.abs(forces.mean(axis=0)).max())
    if net > settings.max_net_force_ev_ang:
        yield RowDefect("net_force", source, f"{net:.3g} eV/Å per atom", "warning")


def _check_geometry(frame: Frame, settings: FrameCheckSettings) -> Iterator[RowDefect]:
    atoms = frame.atoms
    if atoms.pbc.any() and _smallest_height(atoms) < _MIN_HEIGHT_ANG:
        yield RowDefect("bad_cell", frame.source, "the cell is flat or has no length along a periodic direction")
        return
    if atoms.pbc.all():
        yield from _check_density(frame, settings)
    radii = covalent_radii[atoms.numbers]
    search = NeighborList(cutoff=2.0 * float(radii.max()) * settings.min_distance + 1e-3, full_list=False)
    first, second, distances = search.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc.tolist(), quantities="ijd"
    )
    ratios = distances / (radii[first] + radii[second])
    if len(ratios) > 0 and ratios.min() < settings.min_distance:
        k = int(np.argmin(ratios))
        detail = f"atoms {first[k]} and {second[k]} are {distances[k]:.3g} Å apart ({ratios[k]:.2f} covalent distances)"
        yield RowDefect("overlapping_atoms", frame.source, detail)


def _smallest_height(atoms: Atoms) -> float:
    """Smallest distance, Å, between the cell's faces that meet a periodic direction; 0 for a cell of no volume."""
    if not atoms.cell.array[atoms.pbc].any(axis=1).all():
        return 0.0
    # vectors along directions that are not periodic may be missing; ASE completes them with unit vectors
    cell = atoms.cell.complete().array
    areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    volume = abs(float(np.linalg.det(cell)))
    return float((volume / areas)[atoms.pbc].min()) if volume > 0.0 and areas.min() > 0.0 else 0.0


def _check_density(frame: Frame, settings: FrameCheckSettings) -> Iterator[RowDefect]:
    atoms = frame.atoms
    volume = abs(float(atoms.cell.volume)) / len(atoms)
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    usual = float(np.average([_crystal_volume(number) for number in numbers.tolist()], weights=counts))
    if volume < settings.min_volume * usual:
        detail = f"{volume:.3g} Å^3 per atom; its elements' crystals have {usual:.3g}"
        yield RowDefect("unphysical_density", frame.source, detail)
    elif volume > settings.max_volume_ang3_per_atom:
        yield RowDefect("unphysical_density", frame.source, f"{volume:.3g} Å^3 per atom")


@cache
def _crystal_volume(number: int) -> float:
    """Volume per atom, Å^3; for elements without a simple crystal, that of a dense packing of covalent spheres."""
    try:
        return elemental_volume(chemical_symbols[number])
    except StructureError:
        return float(4.0 * np.sqrt(2.0) * covalent_radii[number] ** 3)


def check_duplicates(frames: Sequence[Frame], n_test: int, settings: FrameCheckSettings) -> list[RowDefect]:
    """Equal structures: with equal labels, with different ones, and on both sides of training and test.

    Args:
        frames: all of them, the last ``n_test`` being test frames.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for k, frame in enumerate(frames):
        members[structure_id(frame.atoms)].append(k)
    found: list[RowDefect] = []
    for same in members.values():
        if len(same) < 2:
            continue
        first = frames[same[0]]
        energies = np.array([frames[k].energy_ev for k in same]) / len(first.atoms)
        spread = float(np.ptp(energies))
        forces = [frames[k].forces for k in same]
        differ = [np.abs(f - forces[0]).max() for f in forces if f is not None and forces[0] is not None]
        if spread > settings.max_duplicate_difference_ev_per_atom or max(differ, default=0.0) > _FORCE_NOISE_EV_ANG:
            detail = f"energies differ by {spread:.4g} eV/atom, forces by up to {max(differ, default=0.0):.3g} eV/Å"
            found.extend(
                RowDefect("conflicting_duplicates", frames[k].source, f"equals {_other(frames, same, k)}, but {detail}")
                for k in same
            )
            continue
        is_test = [k >= len(frames) - n_test for k in same]
        if any(is_test) and not all(is_test):
            test = frames[same[is_test.index(True)]].source
            found.extend(
                RowDefect("test_frame_in_training", frames[k].source, f"equals {test}")
                for k in same
                if k < len(frames) - n_test
            )
        else:
            found.extend(
                RowDefect("duplicate", frames[k].source, f"equals {first.source}", "warning") for k in same[1:]
            )
    return found


def _other(frames: Sequence[Frame], same: Sequence[int], k: int) -> str:
    return frames[same[1] if k == same[0] else same[0]].source
