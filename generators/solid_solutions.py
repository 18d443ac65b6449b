"""Random solid solutions spread evenly over the compositions of a system, some of them held out for tests.

After Z. Fan, B. Xing, P. Cao, "Convolutional neural networks enable high-fidelity prediction of path-dependent
diffusion barrier spectra in multi-principal element alloys" (2022): 46 compositions of a ternary to learn from, and
nine to test on, uniformly over the triangle. Together these are the 55 points of a triangular grid of step 1/9.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from ..errors import StructureError
from ..structures.base import Phase
from ..structures.composition import (
    Composition,
    composition_grid,
    format_composition,
    nearest_counts,
    parse_composition,
)
from ..structures.lattice import ParentLattice, parent_lattice
from ..structures.settings import CellSettings, Settings
from ..structures.space import DesignSpace

Split = Literal["train", "test"]


_MAX_ATOMS = 2_000_000


class CompositionLineSettings(Settings):
    """Compositions at equal steps between two, such as the paper's Ta(100-x)/2 Nb(100-x)/2 Mo(x)."""

    start: Composition
    """The first composition, such as `TaNbMo`."""
    end: Composition
    """The last one, such as `Ta1Nb1Mo98`."""
    n_points: int = Field(default=10, ge=2)
    """Compositions, both ends included."""
    min_atoms_of_each: int = Field(default=0, ge=0)
    """Cells grow until each element that is there at all has so many atoms: the paper's have 5,000."""


class SolidSolutionSettings(Settings):
    """Random solid solutions over the compositions of a system."""

    elements: tuple[str, ...] = Field(min_length=2)
    """Chemical symbols."""
    phase: Phase = "bcc"
    """Lattice that the atoms are put on at random."""
    cell: CellSettings = CellSettings(kind="cubic", repeat=(5, 5, 5))
    """The periodic cell; 5 × 5 × 5 cubic BCC cells hold 250 atoms."""
    n_train: int = Field(default=46, ge=1)
    """Compositions to learn from."""
    n_test: int = Field(default=9, ge=0)
    """Compositions held out, spread among the others."""
    min_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Smallest atomic fraction of every element."""
    line: CompositionLineSettings | None = None
    """Compositions on a line instead; `n_train`, `n_test` and `min_fraction` do not count then."""
    volumes_ang3: dict[str, float] = Field(default_factory=dict)
    """Volume per atom of elements, in Å^3, by which cells get their size; otherwise from lattice constants at room
    temperature."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of test compositions and of the orderings."""

    def space(self) -> DesignSpace:
        """The compositions that are possible.

        Raises:
            StructureError: an unknown element, or fractions that cannot be met.
        """
        lattice = parent_lattice(self.phase, self.cell.kind, self.cell.repeat)
        n = len(self.elements)
        known = DesignSpace(self.elements, (lattice,), min_fraction=(self.min_fraction,) * n)
        volumes = tuple(
            self.volumes_ang3.get(e, volume) for e, volume in zip(self.elements, known.volumes, strict=True)
        )
        return DesignSpace(self.elements, (lattice,), min_fraction=(self.min_fraction,) * n, volumes=volumes)


def spread_compositions(space: DesignSpace, n: int) -> np.ndarray:
    """Compositions spread evenly over a space: a triangular grid, thinned out where it has more points than wanted.

    Returns:
        Fractions ``[n, n_elements]``.

    Raises:
        StructureError: no grid of a step above 0.5 % has so many within the bounds.
    """
    for n_steps in range(1, 201):
        try:
            grid = composition_grid(space, 1.0 / n_steps)
        except StructureError:  # no point within the bounds yet
            continue
        if len(grid) >= n:
            return grid[np.sort(farthest_points(grid, n, 0))]
    raise StructureError(f"there are no {n} different compositions on a grid of 0.5 % within the bounds; ask for fewer")


def farthest_points(points: np.ndarray, n: int, first: int) -> np.ndarray:
    """Indices ``[n]`` of points each of which is the farthest from those before it.

    Args:
        points: ``[n_points, n_dimensions]``.
        first: index to start from.
    """
    chosen = [first]
    distances = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < n:
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen[:n], dtype=int)


def solid_solutions(settings: SolidSolutionSettings) -> list[Atoms]:
    """The alloys, on ideal sites, those to learn from first, or along the line.

    Returns:
        Structures with ``info``: ``phase``, ``composition`` (as realized) and, not on a line, ``split`` (``train`` or
        ``test``).

    Raises:
        StructureError: see :meth:`SolidSolutionSettings.space` and :func:`spread_compositions`; or a line has elements
            that ``elements`` lack, or needs cells of more than two million atoms.
    """
    if settings.line is not None:
        return _along_line(settings, settings.line)
    space = settings.space()
    lattice = space.lattices[0]
    rng = np.random.default_rng(settings.seed)
    fractions = spread_compositions(space, settings.n_train + settings.n_test)
    # a test at the rim would be one of extrapolation
    is_inside = (fractions > space.min_fraction[0] + 1e-9).all(axis=1)
    inside = np.flatnonzero(is_inside) if is_inside.sum() >= max(settings.n_test, 1) else np.arange(len(fractions))
    held_out = inside[farthest_points(fractions[inside], settings.n_test, int(rng.integers(len(inside))))]
    order = [k for k in range(len(fractions)) if k not in held_out.tolist()] + sorted(held_out.tolist())
    alloys = []
    for position, k in enumerate(order):
        counts = nearest_counts(space, fractions[k], lattice.n_sites)
        atoms = space.atoms(lattice, space.random_occupation(rng, lattice, counts))
        amounts = dict(zip(space.elements, counts.tolist(), strict=True))
        atoms.info["composition"] = format_composition(amounts)
        atoms.info["split"] = "train" if position < settings.n_train else "test"
        alloys.append(atoms)
    return alloys


def _along_line(settings: SolidSolutionSettings, line: CompositionLineSettings) -> list[Atoms]:
    space = settings.model_copy(update={"min_fraction": 0.0}).space()
    ends = [parse_composition(end) for end in (line.start, line.end)]
    others = sorted({element for end in ends for element in end} - set(settings.elements))
    if others:
        raise StructureError(f"the line has {', '.join(others)}, but elements are {', '.join(settings.elements)}")
    start, end = (np.array([one.get(element, 0.0) for element in settings.elements]) for one in ends)
    rng = np.random.default_rng(settings.seed)
    alloys = []
    for share in np.linspace(0.0, 1.0, line.n_points):
        fractions = (1.0 - share) * start + share * end
        lattice = _lattice_with(settings, fractions, line.min_atoms_of_each)
        counts = np.diff(np.rint(lattice.n_sites * np.cumsum([0.0, *fractions])).astype(int))
        atoms = space.atoms(lattice, space.random_occupation(rng, lattice, counts))
        atoms.info["composition"] = format_composition(dict(zip(space.elements, counts.tolist(), strict=True)))
        alloys.append(atoms)
    return alloys


def _lattice_with(settings: SolidSolutionSettings, fractions: np.ndarray, n_least: int) -> ParentLattice:
    """The smallest cell, from that of the settings on, that holds ``n_least`` atoms of each element with a fraction."""
    least = fractions[fractions > 1e-9].min()
    repeat = np.array(settings.cell.repeat)
    per_cell = parent_lattice(settings.phase, settings.cell.kind, (1, 1, 1)).n_sites
    while per_cell * int(repeat.prod()) * least < n_least:  # counts are above this less one
        repeat = repeat + 1
        if per_cell * int(repeat.prod()) > _MAX_ATOMS:
            raise StructureError(
                f"{n_least} atoms of an element with a fraction of {least:.3g} need more than {_MAX_ATOMS} atoms; ask "
                "for fewer (line.min_atoms_of_each), or end the line earlier"
            )
    return parent_lattice(settings.phase, settings.cell.kind, repeat.tolist())
