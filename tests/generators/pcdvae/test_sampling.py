"""Samplers on distributions whose score is known, and structures drawn from a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alloysmith.generators.pcdvae.element_noise import assigned, shuffled, whole_counts, with_counts
from alloysmith.generators.pcdvae.sampler_settings import LangevinSettings, PredictorCorrectorSettings
from alloysmith.generators.pcdvae.sampling import Cloud, Draft, drafts, draw, sample
from alloysmith.generators.pcdvae.settings import NoiseSettings
from alloysmith.tests.generators.pcdvae.small import crystals, tiny_model

WIDE = np.eye(3) * 1000.0  # far wider than anything on it: no wrapping
NOISE = NoiseSettings(sigma_min_ang=0.05, sigma_max_ang=2.0)
N_ATOMS = 4000


class Gaussian:
    """Atoms whose true positions are normal about the middle of the cell."""

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation
        self.n_calls = 0

    def __call__(self, cloud: Cloud, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.n_calls += 1
        sigma = levels[cloud.owner, :1]
        scores = -sigma * (cloud.positions - 500.0) / (self.deviation**2 + sigma**2)
        return scores, np.zeros((len(scores), 2))


def drawn(denoise: Gaussian, settings) -> np.ndarray:
    """Deviations from the middle ``[N_ATOMS, 3]``; the start is that of the toy at the largest level."""
    start = np.full((N_ATOMS, 3), 0.5) + denoise.deviation / 1000.0 * np.random.default_rng(9).standard_normal(
        (N_ATOMS, 3)
    )
    draft = Draft(np.zeros(1), 0, np.array([N_ATOMS // 2, N_ATOMS // 2]), WIDE, scaled_sites=start, start_sigma_ang=2.0)
    few = [draft]
    cloud = draw(denoise, few, NOISE, settings, [np.random.default_rng(1)])
    assert np.bincount(cloud.types).tolist() == [N_ATOMS // 2, N_ATOMS // 2]
    return cloud.positions - 500.0


@pytest.fixture(autouse=True)
def no_assignment_of_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's elements say nothing; the exact assignment of 4,000 atoms would take minutes."""

    def by_rank(log_p: np.ndarray, counts: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        if len(log_p) < 100:
            return assigned(log_p, counts, rng)
        return np.repeat(np.arange(len(counts)), counts)

    monkeypatch.setattr("alloysmith.generators.pcdvae.sampling.assigned", by_rank)


@pytest.mark.parametrize("deviation", [0.3, 1.0])
@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (PredictorCorrectorSettings(n_levels=50, n_corrections=0, stochasticity=0.0), 0.08),
        (PredictorCorrectorSettings(n_levels=50, n_corrections=0, stochasticity=1.0), 0.10),
        (PredictorCorrectorSettings(n_levels=50, n_corrections=1), 0.10),
    ],
    ids=["flow", "ancestral", "corrected"],
)
def test_variance_of_a_gaussian(settings: PredictorCorrectorSettings, tolerance: float, deviation: float) -> None:
    denoise = Gaussian(deviation)
    variance = drawn(denoise, settings).var()
    assert variance == pytest.approx(deviation**2, rel=tolerance)
    assert denoise.n_calls == settings.n_calls <= 100


def test_langevin_steps_of_published_length_double_the_variance_and_short_ones_do_not() -> None:
    at_a_point = Gaussian(1e-3)
    n = {"n_levels": 8, "n_steps": 25}
    published = drawn(at_a_point, LangevinSettings(step=1.0, **n)).var()
    short = drawn(at_a_point, LangevinSettings(step=0.1, **n)).var()
    assert published == pytest.approx(2.0 * NOISE.sigma_min_ang**2, rel=0.05)
    assert short == pytest.approx(NOISE.sigma_min_ang**2 / (1.0 - 0.05), rel=0.05)
    assert LangevinSettings.published().n_calls == 5000


def test_counts_are_whole_and_nearest() -> None:
    assert whole_counts(np.array([0.5, 0.3, 0.2]), 54).tolist() == [27, 16, 11]
    assert whole_counts(np.array([1.0, 1.0, 1.0]), 8).sum() == 8
    assert whole_counts(np.array([0.999, 0.001]), 8).tolist() == [8, 0]


def test_elements_keep_their_numbers() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([3, 4, 1])
    log_p = np.log(rng.dirichlet(np.ones(3), 8))
    best = assigned(log_p, counts, None)
    assert np.bincount(best, minlength=3).tolist() == counts.tolist()
    others = [assigned(log_p, counts, rng) for _ in range(300)]
    assert all(np.bincount(o, minlength=3).tolist() == counts.tolist() for o in others)
    assert max(log_p[np.arange(8), o].sum() for o in others) <= log_p[np.arange(8), best].sum() + 1e-12
    assert len({tuple(o) for o in others}) > 20
    assert shuffled(best, 0.0, rng).tolist() == best.tolist()
    moved = np.mean([np.mean(shuffled(np.arange(54), 1.0, rng) != np.arange(54)) for _ in range(200)])
    assert moved == pytest.approx(0.5, abs=0.05)


def test_elements_are_brought_to_counts_by_the_fewest_changes() -> None:
    types = np.repeat([0, 1, 2], [6, 4, 2])
    changed = with_counts(types, np.array([3, 4, 5]), np.random.default_rng(0))
    assert np.bincount(changed).tolist() == [3, 4, 5]
    assert (changed != types).sum() == 3
    np.testing.assert_array_equal(with_counts(types, np.array([6, 4, 2]), np.random.default_rng(0)), types)


def test_elements_that_a_draft_starts_from_are_drawn_anew_as_far_as_its_noise_goes() -> None:
    levels_seen = []

    def believer(cloud: Cloud, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a decoder can know that has learnt nothing but the noise: an atom's element, the composition else."""
        levels_seen.append(levels[:, 1])
        shown = np.eye(2)[cloud.types] + 0.5 * levels[cloud.owner, 1:]
        return np.zeros((len(shown), 3)), np.log(shown / shown.sum(1, keepdims=True))

    sites = np.random.default_rng(1).random((50, 3))
    types = np.random.default_rng(2).permutation(np.repeat([0, 1], 25))
    anew = Draft(np.zeros(1), 0, np.array([25, 25]), np.eye(3) * 10.0, scaled_sites=sites, start_sigma_ang=0.1)
    little = Draft(**{**vars(anew), "types": types, "start_type_sigma": 0.02})
    much = Draft(**{**vars(anew), "types": types, "start_type_sigma": 0.5})
    noise = NoiseSettings(sigma_min_ang=0.05, sigma_max_ang=0.2)
    wanted = [anew, little, much] * 10
    rngs = [np.random.default_rng(k) for k in range(len(wanted))]
    cloud = draw(believer, wanted, noise, PredictorCorrectorSettings(n_levels=4, n_corrections=0), rngs)
    np.testing.assert_allclose(levels_seen[0], [5.0, 0.02, 0.5] * 10)
    np.testing.assert_allclose(levels_seen[-1], 0.01)
    found = cloud.types.reshape(10, 3, 50)
    assert (found.sum(-1) == 25).all()
    kept = (found == types).mean((0, 2))
    assert kept[1] > 0.9 > kept[2] > 0.6 > kept[0]


def test_what_starts_anywhere_takes_steps_of_its_own() -> None:
    model = tiny_model()
    model.standardize(crystals())
    anywhere = drafts(model, np.random.default_rng(0).standard_normal((1, 8)))
    n_atoms = int(anywhere[0].counts.sum())
    near = [replace(anywhere[0], scaled_sites=np.random.default_rng(1).random((n_atoms, 3)), start_sigma_ang=0.3)]

    def positions(wanted: list[Draft], step: float, search_step: float) -> np.ndarray:
        settings = PredictorCorrectorSettings(n_levels=3, step=step, search_step=search_step)
        return sample(model, wanted, settings, seed=0)[0].positions

    np.testing.assert_array_equal(positions(anywhere, 0.2, 0.7), positions(anywhere, 0.4, 0.7))
    np.testing.assert_array_equal(positions(near, 0.2, 0.7), positions(near, 0.2, 1.0))
    assert np.abs(positions(anywhere, 0.2, 0.7) - positions(anywhere, 0.2, 1.0)).max() > 1e-3
    assert np.abs(positions(near, 0.2, 0.7) - positions(near, 0.4, 0.7)).max() > 1e-3


def test_drafts_follow_the_heads_and_samples_follow_the_drafts() -> None:
    model = tiny_model()
    model.standardize(crystals())
    wanted = drafts(model, np.random.default_rng(0).standard_normal((5, 8)))
    settings = PredictorCorrectorSettings(n_levels=3)
    done: list[int] = []
    found = sample(model, wanted, settings, seed=4, progress=done.append)
    assert done == [5]
    for draft, atoms in zip(wanted, found, strict=True):
        assert [int((atoms.symbols == e).sum()) for e in model.elements] == draft.counts.tolist()
        np.testing.assert_allclose(atoms.cell.array, draft.cell)
        assert atoms.info["phase"] == model.phases[draft.phase]
        assert np.isfinite(atoms.positions).all()
    again = sample(model, wanted, settings, seed=4)
    other = sample(model, wanted, settings, seed=5)
    np.testing.assert_array_equal(again[2].positions, found[2].positions)
    assert not np.allclose(other[2].positions, found[2].positions)


def test_many_structures_are_drawn_in_several_batches_and_sites_may_be_given() -> None:
    model = tiny_model()
    model.standardize(crystals())
    draft = drafts(model, np.zeros((1, 8)))[0]
    n = int(draft.counts.sum())
    sites = np.random.default_rng(0).random((n, 3))
    near = Draft(draft.latent, draft.phase, draft.counts, draft.cell, scaled_sites=sites, start_sigma_ang=1e-9)
    done: list[int] = []
    n_wanted = 4000 // n
    found = sample(
        model, [near] * n_wanted, PredictorCorrectorSettings(n_levels=1, n_corrections=0), seed=0, progress=done.append
    )
    assert len(found) == n_wanted
    assert len(done) > 1
