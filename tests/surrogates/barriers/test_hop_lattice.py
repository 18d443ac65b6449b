"""Sites about a hop and their symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.site_features import pair_orbits


@pytest.mark.parametrize(("phase", "shells"), [("bcc", [8, 14, 26, 50, 58, 64, 88, 112]), ("fcc", [12, 18, 42, 54])])
def test_shells_hold_the_atoms_of_the_lattice(phase: str, shells: list[int]) -> None:
    for n_shells, n_atoms in enumerate(shells, start=1):
        lattice = hop_lattice(phase, n_shells)
        assert (lattice.shells < n_shells).sum() + 1 == n_atoms  # the moving atom is one of them
        mirrored = lattice.hop - lattice.sites
        assert {tuple(s) for s in mirrored.tolist()} == {tuple(s) for s in lattice.sites.tolist()}


@pytest.mark.parametrize(("phase", "n_hop", "n_saddle"), [("bcc", 6, 12), ("fcc", 4, 8)])
def test_operations_are_rigid_and_keep_the_hop(phase: str, n_hop: int, n_saddle: int) -> None:
    lattice = hop_lattice(phase, 3)
    assert (len(lattice.operations), len(lattice.saddle_operations)) == (n_hop, n_saddle)
    ends = np.stack([np.zeros(3, dtype=int), lattice.hop])
    distances = np.linalg.norm(lattice.sites[:, None] - lattice.sites[None], axis=2)
    from_ends = np.linalg.norm(lattice.sites[:, None] - ends[None], axis=2)
    for operation in lattice.operations:
        np.testing.assert_allclose(distances[operation][:, operation], distances)
        np.testing.assert_allclose(from_ends[operation], from_ends)
    for operation in lattice.saddle_operations[n_hop:]:
        np.testing.assert_allclose(from_ends[operation], from_ends[:, ::-1])
    assert len(np.unique(lattice.saddle_orbits)) < len(np.unique(lattice.orbits)) < len(lattice.sites)


@pytest.mark.parametrize("phase", ["bcc", "fcc"])
def test_sites_turn_with_the_hop(phase: str) -> None:
    lattice = hop_lattice(phase, 2)
    assert len(lattice.directions) == (8 if phase == "bcc" else 12)
    for direction, image in zip(lattice.directions, lattice.images, strict=True):
        np.testing.assert_array_equal(image @ direction, lattice.sites @ lattice.hop)


def test_pairs_of_one_orbit_have_one_length() -> None:
    lattice = hop_lattice("bcc", 3)
    first, second, orbits = pair_orbits(lattice)
    lengths = ((lattice.sites[first] - lattice.sites[second]) ** 2).sum(axis=1)
    assert set(lengths) == {3, 4}
    for orbit in range(orbits.max() + 1):
        assert len(set(lengths[orbits == orbit])) == 1
    assert orbits.max() + 1 < len(first) / 3
