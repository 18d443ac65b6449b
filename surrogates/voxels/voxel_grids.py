"""Voxel grids: the space about an atom cut into boxes, each with a number for what is in it or near it.

As in the voxelization of the 3D-CNN force paper (TaNbMo, "inner and outer bounding box"): Eq. 2 tells which voxel an
atom is in, Eq. 3 what the voxels hold, V = Σ Z exp(-d² / 2γ²). What the paper leaves open, and what was chosen here, is
in docs/voxel_forces.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from ...structures.settings import Settings
from ..base import SurrogateError
from .descriptors import check_formula, formula_values
from .environments import Environments

_MARGIN = 1e-6
"""A box is that much wider than what it bounds, as a share of its edge: Eq. 2 counts points on its lower faces out."""


class VoxelGridSettings(Settings):
    """How the surroundings of an atom become a grid of voxels."""

    cutoff_ang: float = Field(default=4.0, gt=0.0, le=15.0)
    """Atoms within this distance of the atom in the centre are seen; 4 Å holds two shells of a BCC refractory metal."""
    box: Literal["outer", "inner"] = "outer"
    """`outer`: one box for all atoms of all snapshots (the paper's obb), a cube about the atom in the centre that holds
    everything in the training data; `inner`: the bounding box of each atom's own surroundings (ibb), which tells
    nothing of their size and place."""
    n_voxels: int = Field(default=8, ge=2, le=64)
    """Voxels along an edge; 4, 8 and 16 in the paper."""
    gamma: float = Field(default=2.0, gt=0.0)
    """γ of Eq. 3, in half edges of a voxel, so that the paper's 2 is one voxel."""
    sum_over: Literal["environment", "voxel"] = "environment"
    """The N atoms of Eq. 3: all within the box (`environment`), or only those inside the voxel itself (`voxel`)."""
    descriptors: tuple[str, ...] = Field(default=("Z",), min_length=1)
    """Factors of the Gaussian, a channel of the grid for each: formulas of `Z`, `mass`, `radius` and `r`, such as
    `Z == 73` for tantalum alone; `Z` is Eq. 3."""

    @field_validator("descriptors")
    @classmethod
    def _are_formulas(cls, formulas: tuple[str, ...]) -> tuple[str, ...]:
        for formula in formulas:
            check_formula(formula)
        return formulas


@dataclass(frozen=True)
class VoxelGrids:
    """The grids of environments, drawn when they are asked for.

    Attributes:
        weights: float64 ``[n_pairs, n_channels]``, values of the descriptors.
        half_ang: half the edge of the outer box, Å.
    """

    settings: VoxelGridSettings
    found: Environments
    weights: np.ndarray
    half_ang: float

    def __len__(self) -> int:
        return len(self.found)

    def draw(self, rows: np.ndarray, *, n_threads: int = 1) -> np.ndarray:
        """Grids of some environments, float32 ``[n, n_channels, n_voxels, n_voxels, n_voxels]`` over x, y and z.

        Args:
            n_threads: of Numba, as far as there are so many cores; their number changes nothing but the time.

        Raises:
            SurrogateError: an inner box without extent, where an atom has too few neighbours.
        """
        from numba import get_num_threads, set_num_threads

        from .voxel_kernel import add_everywhere, add_inside

        n = self.settings.n_voxels
        low, edge = self.boxes(rows)
        grids = np.zeros((len(rows), self.weights.shape[1], n, n, n), dtype=np.float32)
        add = add_inside if self.settings.sum_over == "voxel" else add_everywhere
        gamma = self.settings.gamma / n
        found = self.found
        before = get_num_threads()
        set_num_threads(min(n_threads, before))
        try:
            add(found.vectors, self.weights, found.starts, rows.astype(np.int64), low, edge / n, gamma, grids)
        finally:
            set_num_threads(before)
        return grids

    def boxes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest corners and edges ``[n, 3]`` of the boxes of some environments, from the atom in the centre, Å.

        Raises:
            SurrogateError: see :meth:`draw`.
        """
        if self.settings.box == "outer":
            low = np.full((len(rows), 3), -self.half_ang)
            edge = np.full((len(rows), 3), 2.0 * self.half_ang)
        else:
            first = self.found.starts[:-1]
            low = np.minimum.reduceat(self.found.vectors, first)[rows]
            edge = np.maximum.reduceat(self.found.vectors, first)[rows] - low
            flat = edge.min(axis=1, initial=np.inf) <= 0.0
            if flat.any():
                raise SurrogateError(
                    f"the surroundings of atom {int(rows[np.argmax(flat)])} (from 0, over all structures) have no "
                    f"volume within {self.settings.cutoff_ang:g} Å, so there is no inner box; raise cutoff_ang, or set "
                    "box: outer"
                )
        return low - _MARGIN * edge, (1.0 + 2.0 * _MARGIN) * edge


def voxel_grids(found: Environments, settings: VoxelGridSettings, half_ang: float | None = None) -> VoxelGrids:
    """Grids of environments.

    Args:
        half_ang: half the edge of the outer box, Å; by default the largest coordinate in these environments, the
            "maximum magnitude" by which the paper normalizes.

    Raises:
        SurrogateError: a descriptor that is not finite for an atom.
    """
    distances = np.linalg.norm(found.vectors, axis=1)
    weights = np.stack([formula_values(text, found.numbers, distances) for text in settings.descriptors], axis=1)
    if half_ang is None:
        half_ang = float(np.abs(found.vectors).max(initial=0.0)) or settings.cutoff_ang
    return VoxelGrids(settings, found, weights, half_ang)
