"""Cluster expansion by icet: exact for what it can express, climbs it, and says what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from alloysmith.errors import ConfigError
from alloysmith.generators.cluster_expansion import ClusterExpansionSettings
from alloysmith.generators.icet_expansion import cluster_vectors, fit_expansion
from alloysmith.structures.lattice import ParentLattice
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.toy_campaign import ToyCampaign
from ase import Atoms

SPACE = SystemSettings(elements=("Ni", "Fe", "Cr"), max_fraction=0.9).space()
CELLS = [("fcc", "tetragonal", (3, 3, 3)), ("bcc", "primitive", (2, 3, 4)), ("fcc", "cubic", (1, 2, 2))]


def _orderings(lattice: ParentLattice, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([SPACE.random_occupation(rng, lattice) for _ in range(n)])


def _pairs(lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
    """A sum over compositions, pairs of two shells and nearest triangles: what the expansion can express."""
    first, second = lattice.neighbour_table(2)
    is_nickel, is_chromium = (occupations == 0).astype(float), (occupations == 2).astype(float)
    near = (is_nickel[:, :, None] * is_chromium[:, first]).mean(axis=(1, 2))
    far = (is_chromium[:, :, None] * is_chromium[:, second]).mean(axis=(1, 2))
    return 180.0 + 20.0 * near - 7.0 * far + 3.0 * is_chromium.mean(axis=1)


@pytest.mark.parametrize(("phase", "kind", "repeat"), CELLS)
def test_it_learns_sums_over_pairs(phase, kind, repeat):
    space = SystemSettings(elements=("Ni", "Fe", "Cr"), phases=(phase,), cell={"kind": kind, "repeat": repeat}).space()
    (lattice,) = space.lattices
    train, test = _orderings(lattice, 80), _orderings(lattice, 20, seed=1)
    expansion = fit_expansion(space, lattice, (2, 1), train, _pairs(lattice, train))
    assert np.abs(expansion.predict(test) - _pairs(lattice, test)).max() < 1e-2
    assert _pairs(lattice, test).std() > 0.3


@pytest.mark.parametrize(("phase", "kind", "repeat"), CELLS)
def test_vectors_do_not_depend_on_symmetry(phase, kind, repeat):
    space = SystemSettings(elements=("Ni", "Fe", "Cr"), phases=(phase,), cell={"kind": kind, "repeat": repeat}).space()
    (lattice,) = space.lattices
    occupation = _orderings(lattice, 1)[0]
    operations = lattice.permutations
    images = occupation[operations[:: max(1, len(operations) // 10)]]
    vectors = cluster_vectors(space, lattice, (4, 2), images)
    assert np.abs(vectors - vectors[0]).max() < 1e-9
    other = cluster_vectors(space, lattice, (4, 2), _orderings(lattice, 1, seed=3))
    assert np.abs(other - vectors[0]).max() > 1e-3


def test_a_chain_climbs_what_was_fitted():
    lattice = SPACE.lattice("bcc")
    train = _orderings(lattice, 80)
    expansion = fit_expansion(SPACE, lattice, (2, 1), train, _pairs(lattice, train))
    rng = np.random.default_rng(0)
    start = SPACE.random_occupation(rng, lattice, np.array([18, 18, 18]))
    cooling = np.linspace(0.05, 0.0, 2000)
    kept = expansion.climb(start, expansion.piece.mean, cooling, 0.0, rng)
    freed = expansion.climb(start, expansion.piece.mean, cooling, 0.4, rng)
    assert (SPACE.counts(kept) == SPACE.counts(start)).all()
    assert SPACE.is_allowed(SPACE.counts(freed))
    ordered, moved = expansion.predict(np.array([kept, freed]))
    shuffled = expansion.predict(np.array([rng.permutation(start) for _ in range(200)]))
    assert ordered > shuffled.max() + 0.5
    assert moved > ordered
    # The ordered compound of nickel and chromium is the highest: 180 + 10 - 3.5 + 1.5.
    assert 187.0 < moved < 188.0 + 1e-2


def test_coefficients_are_drawn_around_the_best():
    lattice = SPACE.lattice("fcc")
    train = _orderings(lattice, 30)
    noisy = _pairs(lattice, train) + np.random.default_rng(1).normal(size=30)
    expansion = fit_expansion(SPACE, lattice, (4, 2), train, noisy)
    rng = np.random.default_rng(0)
    drawn = expansion.piece.drawn(4000, rng)
    spread = np.sqrt(np.diag(expansion.piece.covariance))
    assert np.abs(drawn.mean(axis=0) - expansion.piece.mean).max() < 0.1 * spread.max()
    assert drawn.std(axis=0) == pytest.approx(spread, rel=0.1, abs=0.02 * spread.max())
    assert (expansion.piece.drawn(2, rng, spread=0.0) == expansion.piece.mean).all()


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_campaign_beats_random_orderings(direction):
    space = SystemSettings(elements=("Ni", "Fe", "Cr"), cell={"repeat": (2, 2, 2)}).space()
    sign = 1.0 if direction == "maximize" else -1.0

    def judge(atoms: Atoms) -> float:
        lattice, occupation = space.locate(atoms)
        return sign * float(_pairs(lattice, occupation[None])[0])

    campaign = ToyCampaign(judge, direction)
    campaign.run(ClusterExpansionSettings(n_initial=30, n_steps=300).build("ce", space), 60)
    assert max(campaign.scores[30:]) > max(campaign.scores[:30]) + 1.0
    moves = {e.candidate.lineage.move for e in campaign.evaluations[30:]}
    assert {"canonical", "climb"} <= moves


def test_without_icet_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr("alloysmith.generators.icet_expansion.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install icet"):
        ClusterExpansionSettings().build("ce", SPACE)
