"""Spatial density maps: what is about a hop as a picture in three dimensions, a channel for each species.

Eq. 1 of Fan, Xing and Cao (2022): each atom within the cutoff adds a Gaussian whose width is the
edge of a voxel. The picture is centred on the vacancy and turned so that the moving atom is on the x axis; a turn
about that axis leaves the barrier as it is, so that random turns augment the training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from ase.data import atomic_numbers
from pydantic import Field
from torch import Tensor

from ...structures.base import Phase
from ...structures.settings import Settings
from ..base import SurrogateError
from .crystal_lattice import CrystalLattice
from .hop_lattice import HopLattice, hop_lattice
from .hops import VACANT, Hops, hop_directions

_REACH_VOXELS = 7  # exp(-7² / 2) = 2e-11


class DensityMapSettings(Settings):
    """The pictures of the neighbourhood."""

    n_shells: int = Field(default=8, ge=1, le=8)
    """Neighbour shells about the vacancy. BCC: 8, 14, 26, 50, 58, 64, 88, 112 atoms; the paper counts shells that lie
    close together as one, so that its six are these eight."""
    n_voxels: int = Field(default=32, ge=8, le=128, multiple_of=8)
    """Voxels along an edge."""
    margin: float = Field(default=1.05, ge=1.0, le=2.0)
    """Half the edge of the picture in cutoff radii; 8.0 Å to 7.6 Å in the paper."""
    width: float = Field(default=1.0, ge=0.3, le=1.0)
    """Standard deviation of an atom's Gaussian in voxels, 1 in the paper. Voxels that are nearly as large as the
    distance of neighbours need narrower ones, so that neighbours stay apart."""
    turns: Literal["any", "lattice"] = "any"
    """How training pictures are turned about the hop: by `any` angle, as in the paper, or only by those that leave the
    lattice as it is, mirrored or not, which keeps a site in its voxels and is learnt from fewer hops. Predictions are
    then averaged over all of these: six in BCC, four in FCC."""
    ideal_sites: bool = False
    """Put atoms on the sites of the lattice, rather than where the structure file has them."""


@dataclass(frozen=True)
class Environments:
    """Atoms about hops, the hop along x.

    Attributes:
        vectors: float64 ``[n_hops, n_atoms, 3]``, from the vacancy, Å.
        species: int8 ``[n_hops, n_atoms]``, number in the list of elements; -1 for a vacant site.
    """

    vectors: np.ndarray
    species: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, index: np.ndarray) -> Environments:
        """Those of some hops."""
        return Environments(self.vectors[index], self.species[index])

    def mirrored(self, is_mirrored: np.ndarray) -> Environments:
        """Those hops of ``is_mirrored``, bool ``[n_hops]``, reflected at the plane of the lattice across y."""
        signs = np.ones((len(self), 1, 3))
        signs[:, 0, 1] = np.where(is_mirrored, -1.0, 1.0)
        return Environments(self.vectors * signs, self.species)


@dataclass(frozen=True)
class MapGrid:
    """The voxels of the pictures.

    Attributes:
        n_voxels: along an edge.
        half_ang: half the edge, l_c of the paper, Å; the edge of a voxel is Δ = 2 l_c / n.
        width: standard deviation of the Gaussians in voxels.
    """

    n_voxels: int
    half_ang: float
    width: float = 1.0

    @property
    def centres_ang(self) -> np.ndarray:
        """``[n_voxels]``, Å."""
        step = 2.0 * self.half_ang / self.n_voxels
        return np.asarray((np.arange(self.n_voxels) + 0.5) * step - self.half_ang)


def map_grid(settings: DensityMapSettings, hops: Hops) -> MapGrid:
    """The voxels for crystals like these: the cutoff lies in the middle between two shells of their mean lattice.

    Raises:
        StructureError: a crystal is neither FCC nor BCC.
    """
    lattices = [hops.lattice(k) for k in np.unique(hops.crystal).tolist()]
    constant = float(np.mean([abs(np.linalg.det(lattice.axes)) ** (1.0 / 3.0) for lattice in lattices]))
    shells = np.unique(np.linalg.norm(hop_lattice(lattices[0].phase, 8).sites, axis=1))
    radius = 0.25 * constant * (shells[settings.n_shells - 1] + shells[settings.n_shells])
    return MapGrid(settings.n_voxels, radius * settings.margin, settings.width)


def environments(hops: Hops, phase: Phase, settings: DensityMapSettings, elements: Sequence[str]) -> Environments:
    """The atoms about each hop.

    Raises:
        StructureError: a crystal is neither FCC nor BCC.
        SurrogateError: another phase or element than these, or a hop that is not between nearest neighbours.
    """
    index_of = np.full(120, -2, dtype=np.int8)
    index_of[VACANT] = -1
    index_of[[atomic_numbers[element] for element in elements]] = np.arange(len(elements))
    lattice = hop_lattice(phase, 8)
    sphere = _sphere(lattice, settings.n_shells)
    frames = _reference_frames(lattice)
    handed = np.linalg.det(lattice.turns)
    vectors = np.empty((len(hops), len(sphere), 3))
    species = np.empty((len(hops), len(sphere)), dtype=np.int8)
    for k, members in hops.by_crystal():
        atoms = hops.crystals[k]
        crystal = hops.lattice(k)
        kinds = index_of[atoms.numbers]
        if crystal.phase != phase or (kinds == -2).any():
            raise SurrogateError(
                f"row {hops.rows[members[0]]}: a {crystal.phase} crystal of {atoms.get_chemical_formula()}; the model "
                f"knows {phase} of {', '.join(elements)}"
            )
        vacancy, origin = hops.ends(members)
        direction = hop_directions(crystal, lattice, vacancy, origin)
        if (direction < 0).any():
            raise SurrogateError(f"row {hops.rows[members[direction < 0][0]]}: not a hop of a nearest neighbour")
        reached = crystal.atoms_at(crystal.sites[vacancy][:, None] + sphere)
        found = np.where(reached == vacancy[:, None], np.int8(-1), kinds[reached])
        found = np.where(reached == origin[:, None], kinds[hops.neighbour[members]][:, None], found)
        places = np.broadcast_to(sphere @ crystal.axes / 2.0, (len(members), *sphere.shape))
        hop = lattice.directions[direction] @ crystal.axes / 2.0
        if not settings.ideal_sites:
            offsets = _offsets(atoms.positions, crystal)
            places = places + offsets[reached] - offsets[vacancy][:, None]
            hop = hop + offsets[origin] - offsets[vacancy]
        turned = _frames(hop, frames[direction] @ crystal.axes)
        # all hops see the same lattice
        turned[:, 2] *= handed[direction, None] * np.sign(np.linalg.det(crystal.axes))
        vectors[members] = places @ np.swapaxes(turned, 1, 2)
        species[members] = found
    return Environments(vectors, species)


def density_maps(
    found: Environments, grid: MapGrid, n_species: int, angles: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """The pictures, computed on the CPU.

    Args:
        angles: ``[n_hops]``, turn of each about the hop, radian.
        out: float32, of the result's shape or longer, to write to; fresh memory costs more time than the pictures.

    Returns:
        float32 ``[n_hops, n_species, n, n, n]``, over z, y and x; within 1e-6 of Eq. 1 (with Δ times the width in
        the exponent).
    """
    from .density_map_kernel import add_maps

    n = grid.n_voxels
    maps = np.empty((len(found), n_species, n, n, n), dtype=np.float32) if out is None else out[: len(found)]
    maps[:] = 0.0
    turns = np.asarray(angles, dtype=float)
    add_maps(found.vectors, found.species, turns, grid.half_ang, grid.width, _REACH_VOXELS, maps)
    return maps


def density_maps_on(
    device: torch.device, found: Environments, grid: MapGrid, n_species: int, angles: np.ndarray
) -> Tensor:
    """The same on a GPU (or any device of PyTorch): float32 ``[n_hops, n_species, n, n, n]``."""
    vectors = torch.as_tensor(found.vectors, device=device)
    turn = torch.as_tensor(np.asarray(angles, dtype=float), device=device)[:, None]
    cosine, sine = torch.cos(turn), torch.sin(turn)
    x, y, z = vectors.unbind(2)
    y, z = cosine * y - sine * z, cosine * z + sine * y
    centres = torch.as_tensor(grid.centres_ang, device=device)
    width_ang = 2.0 * grid.half_ang / grid.n_voxels * grid.width
    of_z, of_y, of_x = (torch.exp(-0.5 * ((p[:, :, None] - centres) / width_ang) ** 2).float() for p in (z, y, x))
    species = torch.as_tensor(found.species, device=device).long()
    one_hot = (species[:, :, None] == torch.arange(n_species, device=device)).to(torch.float32)
    planes = (of_z[:, :, :, None] * of_y[:, :, None, :]).flatten(2)
    n = grid.n_voxels
    maps = [torch.bmm(planes.transpose(1, 2), of_x * one_hot[:, :, [k]]) for k in range(n_species)]
    return torch.stack(maps, dim=1).reshape(len(found), n_species, n, n, n)


def _sphere(lattice: HopLattice, n_shells: int) -> np.ndarray:
    """Sites of the first shells about the vacancy, the moving atom's too, ``[n_atoms, 3]``."""
    sites = np.concatenate([lattice.hop[None], lattice.sites])
    squared = (sites**2).sum(axis=1)
    return np.asarray(sites[squared <= np.unique(squared)[n_shells - 1]])


def turns_of_lattice(phase: Phase) -> np.ndarray:
    """Angles of the rotations about a hop that leave the lattice as it is, radian."""
    n_turns = {"bcc": 3, "fcc": 2}[phase]
    return np.asarray(np.arange(n_turns) * 2.0 * np.pi / n_turns)


def _reference_frames(lattice: HopLattice) -> np.ndarray:
    """For each direction a lattice vector at a right angle to it, the same up to symmetry, ``[n_directions, 3]``."""
    across = {"bcc": np.array([1, -1, 0]), "fcc": np.array([0, 0, 1])}[lattice.phase]
    return np.asarray(lattice.turns @ across)


def _frames(hop: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Rotations ``[n, 3, 3]`` that put the hop on the x axis; rows are the new axes, right-handed."""
    x = hop / np.linalg.norm(hop, axis=1, keepdims=True)
    y = across - (across * x).sum(axis=1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _offsets(positions: np.ndarray, crystal: CrystalLattice) -> np.ndarray:
    """How far each atom is from its site, up to a constant, ``[n_atoms, 3]``, Å."""
    cell = crystal.cell @ crystal.axes / 2.0
    offsets = (positions - crystal.sites @ crystal.axes / 2.0) @ np.linalg.inv(cell)
    offsets -= offsets[0]
    return np.asarray((offsets - np.rint(offsets)) @ cell)
