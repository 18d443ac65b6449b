"""A hop the other way is the hop back in a crystal in which the atom has hopped already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.base import Phase
from alloysmith.surrogates.barriers.data_settings import HopDataSettings
from alloysmith.surrogates.barriers.density_maps import DensityMapSettings, environments
from alloysmith.surrogates.barriers.hop_file import HopFileError, read_hops, with_returns
from alloysmith.surrogates.barriers.hop_lattice import hop_lattice
from alloysmith.surrogates.barriers.hops import Hops, all_hops, occupations
from alloysmith.surrogates.barriers.ridge import RidgeSettings
from alloysmith.tests.surrogates.barriers.hop_tables import (
    ELEMENTS,
    random_crystal,
    toy_barriers,
    toy_hops,
    write_table,
)
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


def test_backward_barriers_of_a_table_are_learnt_as_hops_of_their_own(tmp_path: Path) -> None:
    hops = toy_hops(3, 40)
    table = write_table(hops, tmp_path)
    header, *lines = table.read_text().splitlines()
    lines = [f"{line},{'' if k == 7 else k / 10}" for k, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},barrier_backward_ev", *lines]))
    read = read_hops(table).hops
    both = with_returns(read)
    assert (len(both), int(both.is_return.sum())) == (79, 39)
    assert both.crystals is read.crystals
    back = both.take(both.is_return)
    np.testing.assert_array_equal(back.rows, [k + 1 for k in range(40) if k != 7])
    np.testing.assert_allclose(back.barriers_ev, [k / 10 for k in range(40) if k != 7])
    np.testing.assert_array_equal(back.return_barriers_ev, np.delete(hops.barriers_ev, 7))
    in_mev = read_hops(table, HopDataSettings(barrier_unit="meV")).hops
    np.testing.assert_allclose(in_mev.return_barriers_ev, read.return_barriers_ev / 1000.0)
    table.write_text(table.read_text().replace(",0.3\n", ",low\n"))
    with pytest.raises(HopFileError, match="row 4: the barrier is 'low'"):
        read_hops(table)


def test_returns_teach_what_hops_do(tmp_path: Path) -> None:
    """Barriers there of one half of the hops and back of all: a linear model finds both from either."""
    hops = toy_hops(6, 600)
    hops = replace(hops, return_barriers_ev=toy_barriers(hops.returning()))
    train, judged = hops.take(hops.crystal < 5), hops.take(hops.crystal == 5)
    settings = RidgeSettings(features="pairs", n_shells=2)
    few = train.take(np.arange(0, len(train), 8))
    errors = []
    for some in (few, with_returns(few)):
        model = settings.fit(some, judged, elements=ELEMENTS, seed=0)
        errors.append(np.abs(model.predict(judged).mean_ev - judged.barriers_ev).mean())
    assert errors[1] < 0.9 * errors[0]
