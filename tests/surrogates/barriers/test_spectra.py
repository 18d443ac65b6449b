"""Spectra are counts of exactly what a model predicts, whatever the blocks, and need memory for one block only."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from alloysmith.surrogates.barriers.base import BarrierModel
from alloysmith.surrogates.barriers.calibration import Calibration
from alloysmith.surrogates.barriers.committee import BarrierCommittee
from alloysmith.surrogates.barriers.hops import all_hops
from alloysmith.surrogates.barriers.settings import BarrierSettings
from alloysmith.surrogates.barriers.spectra import (
    SpectraOptions,
    SpectrumCounter,
    barrier_spectra,
    pooled,
    predicted_blocks,
)
from alloysmith.tests.surrogates.barriers.hop_tables import ELEMENTS, random_crystal, toy_hops
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

QUICK: dict[str, dict[str, Any]] = {
    "ridge": {"n_shells": 2, "features": "pairs"},
    "trees": {"n_shells": 2, "max_trees": 20, "base": {"kind": "ridge", "features": "pairs", "n_shells": 2}},
    "lattice": {"n_shells": 2, "n_members": 2, "width": 4, "training": {"max_epochs": 1}},
    "cnn": {"maps": {"n_voxels": 8, "n_shells": 2}, "filters": 2, "training": {"max_epochs": 1}},
}


def fit(kind: str, phase: str = "bcc", **changes: Any) -> BarrierModel:
    hops = toy_hops(2, 120, phase)
    settings = TypeAdapter(BarrierSettings).validate_python({"kind": kind, **QUICK[kind], **changes})
    is_judged = np.arange(len(hops)) % 4 == 0
    return settings.fit(hops.take(~is_judged), hops.take(is_judged), elements=ELEMENTS, seed=0)


def some_barriers(seed: int) -> np.ndarray:
    """Few or many, narrow or wide apart, some of them negative."""
    rng = np.random.default_rng(seed)
    return rng.normal(rng.uniform(-0.2, 2.0), rng.choice([0.0, 0.01, 0.3]), size=rng.integers(1, 60))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=4))
def test_counting_in_parts_is_counting_at_once(seed: int, cuts: list[int]) -> None:
    barriers = some_barriers(seed)
    counter, spread = SpectrumCounter(0.05), np.abs(barriers) + 0.01
    parts = list(zip(np.split(barriers, sorted(cuts)), np.split(spread, sorted(cuts)), strict=True))
    for part, its_spread in parts:
        counter.add(part, its_spread)
    singles = []
    for part, its_spread in parts:
        single = SpectrumCounter(0.05)
        single.add(part, its_spread)
        singles.append(single.spectrum())
    for found in (counter.spectrum(), pooled(singles)):
        assert found.n_hops == len(barriers) == found.counts.sum()
        assert found.mean_ev == pytest.approx(barriers.mean(), abs=1e-12)
        assert found.std_ev == pytest.approx(barriers.std(), abs=1e-9)
        assert (found.min_ev, found.max_ev) == (barriers.min(), barriers.max())
        assert found.error_ev == pytest.approx(np.sqrt((spread**2).mean()))
        assert found.first_bin == int(np.floor(barriers.min() / 0.05))
        expected = np.bincount(np.floor(barriers / 0.05).astype(int) - found.first_bin)
        np.testing.assert_array_equal(found.counts, expected)
        assert (found.density_per_ev * 0.05).sum() == pytest.approx(1.0)
        middle = found.quantile_ev(0.5)
        assert (barriers < middle - 0.05).mean() <= 0.5 <= (barriers <= middle + 0.05).mean()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_wider_bins_hold_the_same_hops(seed: int, n_bins: int) -> None:
    barriers = some_barriers(seed)
    narrow, wide = SpectrumCounter(0.05), SpectrumCounter(0.05 * n_bins)
    for counter in (narrow, wide):
        counter.add(barriers, barriers)
    found, expected = narrow.spectrum().coarsened(n_bins), wide.spectrum()
    assert found.counts.sum() == narrow.spectrum().smooth_enough().counts.sum() == len(barriers)
    assert found.edges_ev[0] == pytest.approx(expected.edges_ev[0])
    np.testing.assert_array_equal(found.counts, expected.counts)


def committee() -> BarrierModel:
    members = [fit("ridge"), fit("trees")]
    return BarrierCommittee(members[0].spec, members, Calibration(0.01, 1.0))


@pytest.mark.parametrize("kind", [*sorted(QUICK), "committee"])
def test_blocks_of_any_size_give_what_predict_gives(kind: str) -> None:
    model, atoms = committee() if kind == "committee" else fit(kind), random_crystal(9, repeat=2)
    hops = all_hops([atoms])
    at_once = model.predict(hops), model.predict(hops.returning())
    for block_sites in (3, 1000):
        blocks = list(predicted_blocks(model, atoms, SpectraOptions(block_sites=block_sites)))
        assert len(blocks) == -(-len(atoms) // block_sites)
        np.testing.assert_array_equal(np.concatenate([b.hops.neighbour for b in blocks]), hops.neighbour)
        np.testing.assert_array_equal(np.concatenate([b.hops.vacancy for b in blocks]), hops.vacancy)
        ways = [b.forward for b in blocks], [b.backward for b in blocks if b.backward is not None]
        for expected, found in zip(at_once, ways, strict=True):
            np.testing.assert_allclose(np.concatenate([b.mean_ev for b in found]), expected.mean_ev, atol=2e-6)
            np.testing.assert_allclose(np.concatenate([b.std_ev for b in found]), expected.std_ev, atol=2e-6)


def test_the_way_back_is_another_barrier_with_the_same_mean_in_a_random_alloy() -> None:
    found = barrier_spectra(fit("ridge"), random_crystal(2, repeat=6))
    assert set(found["forward"]) == set(found["backward"]) == set(ELEMENTS)
    for symbol in ELEMENTS:
        forward, backward = found["forward"][symbol], found["backward"][symbol]
        assert forward.n_hops == backward.n_hops
        assert forward.mean_ev != backward.mean_ev
        assert backward.mean_ev == pytest.approx(forward.mean_ev, abs=0.02)
    assert list(barrier_spectra(fit("ridge"), random_crystal(2), SpectraOptions(both_ways=False))) == ["forward"]


@pytest.mark.parametrize("phase", ["bcc", "fcc"])
def test_a_supercell_has_the_same_spectrum(phase: str) -> None:
    model = fit("ridge", phase, features="sites")  # the others know the composition, which the vacancy is part of
    atoms = random_crystal(5, phase, repeat=3)
    one, eight = (barrier_spectra(model, crystal, SpectraOptions(bin_ev=0.01)) for crystal in (atoms, atoms.repeat(2)))
    for direction in one:
        for symbol, spectrum in one[direction].items():
            larger = eight[direction][symbol]
            np.testing.assert_array_equal(larger.counts, 8 * spectrum.counts)
            assert larger.mean_ev == pytest.approx(spectrum.mean_ev, abs=1e-12)
            assert larger.std_ev == pytest.approx(spectrum.std_ev, abs=1e-12)
    n_neighbours = {"bcc": 8, "fcc": 12}[phase]
    assert sum(s.n_hops for s in one["forward"].values()) == n_neighbours * len(atoms)


def test_a_sample_of_sites_is_part_of_the_whole() -> None:
    model, atoms = fit("ridge"), random_crystal(1, repeat=4)
    options = SpectraOptions(n_sites=20, seed=3)
    (block,) = predicted_blocks(model, atoms, options)
    assert len(np.unique(block.hops.vacancy)) == 20
    assert options.n_hops(model, atoms) == len(block.hops) == 160
    whole = model.predict(all_hops([atoms])).mean_ev.reshape(len(atoms), 8)
    np.testing.assert_allclose(block.forward.mean_ev, whole[block.hops.vacancy[::8]].ravel(), atol=1e-12)
    other = SpectraOptions(n_sites=20, seed=4).sites(len(atoms))
    assert other.tolist() != np.unique(block.hops.vacancy).tolist()
    assert SpectraOptions(n_sites=10_000).sites(7).tolist() == list(range(7))


def test_memory_is_that_of_a_block() -> None:
    model, atoms = fit("trees"), random_crystal(1, repeat=10)

    def peak(n_sites: int) -> int:
        """Bytes at most beyond those when the lattice is known and the first block done."""
        blocks = predicted_blocks(model, atoms, SpectraOptions(n_sites=n_sites, block_sites=100))
        next(blocks)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in blocks:
            pass
        return tracemalloc.get_traced_memory()[1] - before

    peak(300)  # what is kept for ever
    tracemalloc.start()
    try:
        few, many = peak(300), peak(2000)
    finally:
        tracemalloc.stop()
    assert many < 1.1 * few
    assert few < 8_000_000
