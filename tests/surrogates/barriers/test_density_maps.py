"""Pictures of the neighbourhood against Eq. 1 as it is written, and their symmetry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.structures.base import Phase
from alloysmith.surrogates.barriers.cnn import MapInputs
from alloysmith.surrogates.barriers.density_maps import (
    DensityMapSettings,
    Environments,
    MapGrid,
    density_maps,
    density_maps_on,
    environments,
    map_grid,
    turns_of_lattice,
)
from alloysmith.surrogates.barriers.hops import Hops, all_hops
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal
from scipy.spatial.transform import Rotation


def plain_maps(found: Environments, grid: MapGrid, n_species: int, angles: np.ndarray) -> np.ndarray:
    """Eq. 1, atom by atom, in double precision."""
    maps = np.zeros((len(found), n_species, *(grid.n_voxels,) * 3))
    centres = grid.centres_ang
    width = 2.0 * grid.half_ang / grid.n_voxels * grid.width
    for h, angle in enumerate(angles):
        turned = Rotation.from_euler("x", angle).apply(found.vectors[h])
        for species, (x, y, z) in zip(found.species[h], turned, strict=True):
            if species >= 0:
                squared = (
                    (centres[:, None, None] - z) ** 2
                    + (centres[None, :, None] - y) ** 2
                    + (centres[None, None, :] - x) ** 2
                )
                maps[h, species] += np.exp(-squared / (2.0 * width**2))
    return maps


@pytest.fixture(scope="module")
def hops() -> Hops:
    atoms = random_crystal(3, repeat=4)
    atoms.rattle(0.1, seed=5)
    found = all_hops([atoms])
    return found.take(np.random.default_rng(0).permutation(len(found))[:3])


@pytest.mark.parametrize(("n_voxels", "n_shells", "width"), [(32, 8, 1.0), (16, 4, 1.0), (8, 2, 1.0), (16, 4, 0.5)])
def test_maps_are_those_of_the_equation(hops: Hops, n_voxels: int, n_shells: int, width: float) -> None:
    settings = DensityMapSettings(n_voxels=n_voxels, n_shells=n_shells, width=width)
    found, grid = environments(hops, "bcc", settings, ELEMENTS), map_grid(settings, hops)
    angles = np.array([0.3, 2.0, 5.5])
    wanted = plain_maps(found, grid, 3, angles)
    maps = density_maps(found, grid, 3, angles)
    assert maps.dtype == np.float32
    assert np.abs(maps - wanted).max() < 1e-6
    assert wanted.max() > 0.8
    memory = np.full((5, 3, n_voxels, n_voxels, n_voxels), 7.0, dtype=np.float32)
    np.testing.assert_array_equal(density_maps(found, grid, 3, angles, out=memory), maps)
    on_device = density_maps_on(torch.device("cpu"), found, grid, 3, angles)
    assert on_device.dtype == torch.float32
    assert np.abs(on_device.numpy() - wanted).max() < 1e-6


def test_the_cutoff_of_the_paper(hops: Hops) -> None:
    settings = DensityMapSettings()
    found, grid = environments(hops, "bcc", settings, ELEMENTS), map_grid(settings, hops)
    assert found.vectors.shape == (3, 112, 3)
    assert np.linalg.norm(found.vectors, axis=2).max() < grid.half_ang
    assert grid.half_ang == pytest.approx(8.0, abs=0.2)
    assert grid.n_voxels == 32


def test_the_hop_is_along_x_and_geometry_is_that_of_the_file(hops: Hops) -> None:
    found = environments(hops, "bcc", DensityMapSettings(), ELEMENTS)
    for h in range(len(hops)):
        atoms = hops.crystals[0]
        length = atoms.get_distance(hops.vacancy[h], hops.neighbour[h], mic=True)
        assert np.abs(found.vectors[h] - [length, 0.0, 0.0]).max(axis=1).min() < 1e-9
        others = np.delete(np.arange(len(atoms)), hops.vacancy[h])
        near = np.sort(atoms.get_distances(hops.vacancy[h], others, mic=True))[:40]
        np.testing.assert_allclose(np.sort(np.linalg.norm(found.vectors[h], axis=1))[:40], near, atol=1e-9)


def test_a_turned_crystal_gives_the_same_maps(hops: Hops) -> None:
    atoms = hops.crystals[0].copy()
    turn = Rotation.random(random_state=1).as_matrix()
    atoms.set_cell(atoms.cell.array @ turn, scale_atoms=False)
    atoms.positions = atoms.positions @ turn
    turned = type(hops)((atoms,), *(getattr(hops, n) for n in ("crystal", "vacancy", "neighbour")), *_rest(hops))
    settings = DensityMapSettings(n_voxels=16)
    grid = map_grid(settings, hops)
    maps = []
    for which in (hops, turned):
        found = environments(which, "bcc", settings, ELEMENTS)
        views = [density_maps(found, grid, 3, np.full(3, angle)) for angle in turns_of_lattice("bcc")]
        maps.append(np.stack(views).copy())
    # cubic axes may be found in another order: the same up to a turn of the lattice about the hop, and a mirror
    for h in range(3):
        images = [*maps[1][:, h], *maps[1][:, h, :, ::-1]]
        assert min(np.abs(image - maps[0][0, h]).max() for image in images) < 1e-5


def test_turns_about_the_hop_keep_distances_and_the_hop(hops: Hops) -> None:
    settings = DensityMapSettings(n_voxels=16)
    found, grid = environments(hops, "bcc", settings, ELEMENTS), map_grid(settings, hops)
    vectors = Rotation.from_euler("x", 0.7).apply(found.vectors.reshape(-1, 3)).reshape(found.vectors.shape)
    turned = Environments(vectors, found.species)
    np.testing.assert_allclose(
        density_maps(turned, grid, 3, np.full(3, 0.4)), density_maps(found, grid, 3, np.full(3, 1.1)), atol=1e-6
    )


def test_ideal_sites_forget_the_relaxation(hops: Hops) -> None:
    settings = DensityMapSettings(ideal_sites=True)
    ideal = environments(hops, "bcc", settings, ELEMENTS)
    assert len(np.unique(np.linalg.norm(ideal.vectors, axis=2).round(2))) == 8
    given = environments(hops, "bcc", DensityMapSettings(), ELEMENTS)
    difference = np.linalg.norm(ideal.vectors - given.vectors, axis=2)
    assert 0.02 < np.sqrt((difference**2).mean()) < 0.5


def _rest(hops: Hops) -> tuple[np.ndarray, ...]:
    return hops.barriers_ev, hops.groups, hops.rows


@pytest.mark.parametrize("phase", ["bcc", "fcc"])
def test_turns_of_the_lattice_keep_each_site_in_its_voxels(phase: Phase) -> None:
    hops = all_hops([random_crystal(0, phase)]).take(np.arange(24))
    ideal = DensityMapSettings(n_shells=4, n_voxels=16, turns="lattice")
    found, grid = environments(hops, phase, ideal, ELEMENTS), map_grid(ideal, hops)
    one_kind = Environments(found.vectors, np.where(found.species >= 0, 0, -1))
    views = [
        density_maps(one_kind.mirrored(np.full(24, mirrored)), grid, 1, np.full(24, angle)).copy()
        for angle in turns_of_lattice(phase)
        for mirrored in (False, True)
    ]
    assert len(views) == {"bcc": 6, "fcc": 4}[phase]
    for view in views:
        np.testing.assert_allclose(view, np.broadcast_to(views[0][0], view.shape), atol=1e-6)
    with_species = [density_maps(found, grid, 3, np.full(24, angle)).copy() for angle in turns_of_lattice(phase)]
    assert np.abs(with_species[0] - with_species[1]).max() > 0.1
    inputs = MapInputs(found, grid, 3, turns_of_lattice(phase))
    (drawn,) = inputs.batch(np.zeros(40, dtype=int), torch.device("cpu"), np.random.default_rng(0))
    assert len({picture.numpy().round(3).tobytes() for picture in drawn}) == len(views)
