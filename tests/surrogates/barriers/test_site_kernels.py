"""The compiled loops over sites do what plain NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.structures.base import Phase
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import all_hops, hop_directions, occupations
from alloysmith.surrogates.barriers.site_features import pair_orbits, site_features
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal
from ase.build import make_supercell

SKEWED = [[2, 1, 0], [-1, 3, 1], [1, 0, -2]]


@pytest.mark.parametrize("phase", ["bcc", "fcc"])
def test_species_and_counts_in_a_skewed_cell(phase: Phase) -> None:
    atoms = make_supercell(random_crystal(1, phase, repeat=1), SKEWED)
    atoms.symbols = np.random.default_rng(0).choice(ELEMENTS, size=len(atoms))
    hops = all_hops([atoms])
    lattice, crystal = hop_lattice(phase, 4), hops.lattice(0)
    found = occupations(hops, lattice, ELEMENTS)
    direction = hop_directions(crystal, lattice, hops.vacancy, hops.neighbour)
    reached = crystal.atoms_at(crystal.sites[hops.vacancy][:, None] + lattice.images[direction])
    species = np.array([ELEMENTS.index(symbol) for symbol in atoms.get_chemical_symbols()])
    expected = np.where(reached == hops.vacancy[:, None], -1, species[reached])
    np.testing.assert_array_equal(found.sites, expected)

    features = site_features("pairs", found, lattice, 3)
    first, second, orbits = pair_orbits(lattice)
    n_orbits, n_pair_orbits = int(lattice.orbits.max()) + 1, int(orbits.max()) + 1
    assert features.shape[1] == 3 + 3 + 3 * n_orbits + 6 * n_pair_orbits
    counts = features[:, 6 : 6 + 3 * n_orbits].reshape(-1, n_orbits, 3)
    for orbit in (0, n_orbits - 1):
        members = expected[:, lattice.orbits == orbit]
        np.testing.assert_array_equal(counts[:, orbit], (members[:, :, None] == np.arange(3)).sum(axis=1))
    pairs = features[:, 6 + 3 * n_orbits :].reshape(-1, 6, n_pair_orbits)
    a, b = expected[:, first], expected[:, second]
    for k, (one, other) in enumerate([(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]):
        is_pair = ((a == one) & (b == other)) | ((a == other) & (b == one))
        for orbit in (0, n_pair_orbits // 2):
            np.testing.assert_array_equal(pairs[:, k, orbit], is_pair[:, orbits == orbit].sum(axis=1))
