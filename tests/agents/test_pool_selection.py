"""What every selection of a pool promises, and what each is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from alloysmith.agents.pool_selection import PoolSelectionSettings, choose
from hypothesis import given, settings
from hypothesis import strategies as st

SELECTIONS: dict[str, dict[str, Any]] = {
    "random": {"kind": "random"},
    "uncertainty": {"kind": "uncertainty"},
    "k_means": {"kind": "diversity", "diversity": "k_means"},
    "farthest_points": {"kind": "diversity", "diversity": "farthest_points"},
    "both_k_means": {"kind": "both", "diversity": "k_means", "n_per_choice": 3},
    "both_farthest_points": {"kind": "both", "diversity": "farthest_points", "n_per_choice": 3},
}


@pytest.fixture(params=SELECTIONS)
def selection(request: pytest.FixtureRequest) -> PoolSelectionSettings:
    return PoolSelectionSettings.model_validate(SELECTIONS[request.param])


def _pool(n: int, n_different: int, n_known: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(n_different, 4))
    features = kinds[rng.integers(n_different, size=n)]
    features[:, 3] = 1.0  # tells nothing
    return {"spreads": rng.random(n), "features": features, "known": features[rng.integers(n, size=n_known)] + 0.1}


@given(
    name=st.sampled_from(sorted(SELECTIONS)),
    n_pool=st.integers(1, 40),
    n_different=st.integers(1, 40),
    n_known=st.integers(0, 5),
    n=st.integers(0, 50),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_choice_is_of_different_members_and_repeats(
    name: str, n_pool: int, n_different: int, n_known: int, n: int, seed: int
) -> None:
    selection = PoolSelectionSettings.model_validate(SELECTIONS[name])
    pool = _pool(n_pool, n_different, n_known, seed % 1000)
    before = {key: value.copy() for key, value in pool.items()}
    chosen = choose(selection, n, **pool, seed=seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen.tolist())) == min(n, n_pool)
    assert set(chosen.tolist()) <= set(range(n_pool))
    np.testing.assert_array_equal(chosen, choose(selection, n, **pool, seed=seed))
    for key, value in pool.items():
        np.testing.assert_array_equal(value, before[key])


def test_an_empty_pool_gives_nothing(selection: PoolSelectionSettings) -> None:
    nothing = {"spreads": np.zeros(0), "features": np.zeros((0, 4)), "known": np.zeros((3, 4))}
    assert len(choose(selection, 5, **nothing, seed=0)) == 0


def test_columns_may_have_any_unit(selection: PoolSelectionSettings) -> None:
    pool = _pool(60, 60, 5, seed=2)
    units = np.array([1.0, 1e3, 1e-3, 1.0])
    other = {**pool, "features": pool["features"] * units, "known": pool["known"] * units}
    np.testing.assert_array_equal(choose(selection, 9, **pool, seed=4), choose(selection, 9, **other, seed=4))


def test_random_is_even_and_blind() -> None:
    selection = PoolSelectionSettings(kind="random")
    pool = _pool(20, 20, 3, seed=0)
    counts = np.zeros(20)
    for seed in range(400):
        counts[choose(selection, 5, **pool, seed=seed)] += 1
    assert counts.min() > 60
    assert counts.max() < 140  # 100 ± 9
    other = {**pool, "spreads": pool["spreads"][::-1]}
    np.testing.assert_array_equal(choose(selection, 5, **pool, seed=7), choose(selection, 5, **other, seed=7))


def test_uncertainty_takes_the_least_certain_ones() -> None:
    pool = _pool(50, 50, 0, seed=1)
    chosen = choose(PoolSelectionSettings(kind="uncertainty"), 6, **pool, seed=0)
    np.testing.assert_array_equal(np.sort(chosen), np.sort(np.argsort(pool["spreads"])[-6:]))


def _blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of 120 members of four kinds, and their kinds."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(4), 30)
    centres = 10.0 * np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return centres[kinds] + rng.normal(scale=0.3, size=(120, 2)), kinds


@pytest.mark.parametrize("name", ["k_means", "farthest_points", "both_k_means", "both_farthest_points"])
def test_a_diverse_batch_has_every_kind_where_uncertainty_has_one(name: str) -> None:
    features, kinds = _blobs()
    rng = np.random.default_rng(3)
    spreads = 1.0 + 0.1 * rng.random(120) + 0.05 * (kinds == 2)
    pool = {"spreads": spreads, "features": features, "known": np.zeros((0, 2))}
    # the least certain twelve are of all kinds, the least certain four mostly of one
    spreads[[5, 35, 95]] = 1.2
    spreads[60:69] = 1.3
    options = {**SELECTIONS[name], "n_per_choice": 3}
    chosen = choose(PoolSelectionSettings.model_validate(options), 4, **pool, seed=0)
    assert set(kinds[chosen]) == {0, 1, 2, 3}
    assert set(kinds[choose(PoolSelectionSettings(kind="uncertainty"), 4, **pool, seed=0)]) == {2}
    if name.startswith("both"):
        assert set(chosen.tolist()) <= {5, 35, 95, *range(60, 69)}


@pytest.mark.parametrize("name", ["k_means", "farthest_points"])
def test_a_diverse_batch_keeps_away_from_what_is_known(name: str) -> None:
    features, kinds = _blobs()
    known = features[kinds != 3][::5]
    chosen = choose(
        PoolSelectionSettings.model_validate(SELECTIONS[name]),
        1,
        spreads=np.zeros(120),
        features=features,
        known=known,
        seed=0,
    )
    assert kinds[chosen[0]] == 3
