"""A hop the other way is the hop back in a crystal in which the atom has hopped already."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.structures.base import Phase
from alloysmith.surrogates.barriers.density_maps import DensityMapSettings, environments
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import Hops, all_hops, occupations
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal
from ase import Atoms


def there_and_back(phase: Phase, repeat: int) -> tuple[Hops, Hops]:
    """Some hops with their ``is_return`` set, and the same hops in crystals in which both atoms have traded places."""
    atoms = random_crystal(4, phase, repeat)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.05, atoms.positions.shape)
    hops = all_hops([atoms]).take(np.arange(0, 8 * len(atoms), 17))
    crystals: list[Atoms] = []
    for vacancy, neighbour in zip(hops.vacancy, hops.neighbour, strict=True):
        after = atoms.copy()
        after.numbers[[vacancy, neighbour]] = after.numbers[[neighbour, vacancy]]
        crystals.append(after)
    n = len(hops)
    back = Hops(
        tuple(crystals), np.arange(n), hops.neighbour, hops.vacancy, hops.barriers_ev, hops.groups, np.arange(1, n + 1)
    )
    return hops.returning(), back


@pytest.mark.parametrize(("phase", "repeat"), [("bcc", 2), ("bcc", 4), ("fcc", 2)])
def test_species_and_coordinates_are_those_after_the_hop(phase: Phase, repeat: int) -> None:
    returning, back = there_and_back(phase, repeat)
    lattice = hop_lattice(phase, 3)
    found, wanted = (occupations(hops, lattice, ELEMENTS) for hops in (returning, back))
    for name in ("sites", "moving", "composition"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert (returning.moving_numbers == back.moving_numbers).all()
    pictures, expected = (environments(h, phase, DensityMapSettings(n_shells=3), ELEMENTS) for h in (returning, back))
    np.testing.assert_array_equal(pictures.species, expected.species)
    np.testing.assert_allclose(pictures.vectors, expected.vectors, atol=1e-9)


def test_returning_twice_is_the_hop_itself() -> None:
    hops = all_hops([random_crystal(0)]).take(np.arange(5))
    assert not hops.is_return.any()
    back = hops.returning()
    assert back.is_return.all()
    assert back.digest() != hops.digest() == back.returning().digest()
    assert back.take(np.array([1, 2])).is_return.tolist() == [True, True]
