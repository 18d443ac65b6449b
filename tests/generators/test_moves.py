"""Moves: they keep to the allowed compositions and change what they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from alloysmith.generators import moves
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.strategies import design_spaces
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)


@given(design_spaces(), SEEDS)
@settings(max_examples=80, deadline=None)
def test_moves_keep_to_the_allowed_compositions(space, seed):
    rng = np.random.default_rng(seed)
    lattice = space.lattices[0]
    first, second = (space.random_occupation(rng, lattice) for _ in range(2))
    n_unlike = int((first[:, None] != first[None]).sum()) // 2
    swapped = moves.swap(rng, first)
    assert (swapped is None) == (n_unlike == 0)
    if swapped is not None:
        assert (swapped != first).sum() == 2
        np.testing.assert_array_equal(space.counts(swapped), space.counts(first))
    for n_sites in (1, 3):
        for moved in (
            moves.transmute(rng, space, first, n_sites),
            moves.shift_composition(rng, space, first, n_sites),
        ):
            if moved is not None:
                assert space.is_allowed(space.counts(moved))
                assert 0 <= (moved != first).sum() <= n_sites
    for child in (
        moves.cut_and_splice(rng, space, lattice, first, second),
        moves.mix_sites(rng, space, first, second),
        moves.repair(rng, space, rng.integers(len(space.elements), size=lattice.n_sites).astype(np.int8)),
    ):
        assert child.dtype == np.int8
        assert child.shape == first.shape
        assert space.is_allowed(space.counts(child))
    changed = moves.change_phase(rng, space, lattice, first)
    assert (changed is None) == (len(space.lattices) == 1)
    if changed is not None:
        other, occupation = changed
        assert other.phase != lattice.phase
        assert len(occupation) == other.n_sites
        assert space.is_allowed(space.counts(occupation))


@given(design_spaces(), SEEDS)
@settings(max_examples=40, deadline=None)
def test_alignment_gives_an_image_at_least_as_close(space, seed):
    rng = np.random.default_rng(seed)
    lattice = space.lattices[0]
    first, second = (space.random_occupation(rng, lattice) for _ in range(2))
    image = moves.align(rng, lattice, second, first)
    assert lattice.canonical(image) == lattice.canonical(second)
    assert (image == first).sum() >= (second == first).sum()


def test_alignment_undoes_a_translation_that_is_in_its_sample():
    space = SystemSettings(elements=("Ni", "Fe"), phases=("fcc",), cell={"repeat": (2, 2, 2)}).space()
    lattice = space.lattices[0]
    rng = np.random.default_rng(0)
    occupation = space.random_occupation(rng, lattice, np.array([8, 8]))
    image = occupation[lattice.permutations[77]]
    np.testing.assert_array_equal(moves.align(rng, lattice, image, occupation), occupation)


def test_unlike_swaps_are_distinct_unlike_and_uniform():
    rng = np.random.default_rng(0)
    occupation = np.array([0, 0, 1, 2, 1], dtype=np.int8)
    unlike = {(a, b) for a in range(5) for b in range(a + 1, 5) if occupation[a] != occupation[b]}
    drawn: Counter[tuple[int, int]] = Counter()
    for _ in range(2000):
        pairs = moves.unlike_swaps(rng, occupation, 3)
        assert len(set(pairs)) == 3
        drawn.update(pairs)
    assert set(drawn) == unlike
    expected = 6000 / len(unlike)
    assert max(abs(n - expected) for n in drawn.values()) < 5 * np.sqrt(expected)
    assert set(moves.unlike_swaps(rng, occupation, 99, exclude=[(0, 2)])) == unlike - {(0, 2)}
    assert moves.unlike_swaps(rng, np.zeros(5, dtype=np.int8), 3) == []


def test_a_swap_exchanges_two_atoms():
    occupation = np.array([0, 1, 2], dtype=np.int8)
    np.testing.assert_array_equal(moves.swapped(occupation, (0, 2)), [2, 1, 0])
    np.testing.assert_array_equal(occupation, [0, 1, 2])


def test_a_shift_goes_along_one_direction():
    space = SystemSettings(elements=("Ni", "Fe", "Cr"), phases=("fcc",), max_fraction=0.9).space()
    rng = np.random.default_rng(0)
    occupation = space.random_occupation(rng, space.lattices[0], np.array([18, 18, 18]))
    for _ in range(20):
        shifted = moves.shift_composition(rng, space, occupation, 4)
        difference = space.counts(shifted) - 18
        assert sorted(difference.tolist()) == [-4, 0, 4]


@pytest.mark.parametrize("n_sites", [1, 5])
def test_nothing_can_be_transmuted_where_the_composition_is_fixed(n_sites):
    space = SystemSettings(elements=("Ni", "Fe"), phases=("fcc",), min_fraction=0.5, max_fraction=0.5).space()
    rng = np.random.default_rng(0)
    occupation = space.random_occupation(rng, space.lattices[0])
    assert moves.transmute(rng, space, occupation, n_sites) is None
    assert moves.shift_composition(rng, space, occupation, n_sites) is None
