"""Gaussian processes on latent vectors, and the search that follows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alloysmith.generators.feasibility import Feasibility
from alloysmith.generators.pcdvae import latent_process
from alloysmith.generators.pcdvae.latent_process import LatentProcess, fit_latent_process
from alloysmith.generators.pcdvae.model import Pcdvae
from alloysmith.generators.pcdvae.refinement import LatentJudge, RefinementSettings
from alloysmith.generators.random_orderings import RandomOrderingsSettings
from alloysmith.generators.seen import read_history
from alloysmith.structures.settings import SystemSettings
from alloysmith.tests.generators.pcdvae.small import TINY, crystals
from alloysmith.tests.toy_campaign import ToyCampaign

SPACE = SystemSettings.model_validate({"elements": ["Ni", "Fe", "Cr"], "cell": {"repeat": [2, 2, 2]}}).space()


def labels(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latent vectors between -1 and 1, and a value that is linear in two of their components but for a ripple."""
    latents = np.random.default_rng(seed).uniform(-1.0, 1.0, (n, 8))
    return latents, 180.0 + 10.0 * latents[:, 0] - 5.0 * latents[:, 1] + np.sin(2.0 * latents[:, 2])


@pytest.fixture(scope="module")
def process() -> LatentProcess:
    latents, values = labels(80)
    phases = np.repeat([0, 1], 40)
    return fit_latent_process(latents, phases, values + 20.0 * phases, seed=0)


def test_a_process_interpolates_and_follows_the_trend_beyond_the_data(process: LatentProcess) -> None:
    latents, values = labels(50, seed=1)
    mean, std = process.predict(latents, 0)
    assert np.sqrt(np.square(mean - values).mean()) < 0.2 * values.std()
    assert 0.3 < np.sqrt(np.square((mean - values) / std).mean()) < 4.0
    far = np.zeros((1, 8))
    far[0, 0] = 3.0
    mean_far, std_far = process.predict(far, 0)
    assert mean_far[0] == pytest.approx(210.0, abs=4.0)
    assert std_far[0] > std.max()


def test_phases_have_processes_of_their_own(process: LatentProcess) -> None:
    latents, _ = labels(50, seed=1)
    assert process.predict(latents, 1)[0] == pytest.approx(process.predict(latents, 0)[0] + 20.0, abs=4.0)
    mean, covariance = process.joint(latents, 2)
    assert (mean == process.mean).all()
    assert (covariance == np.eye(50) * process.spread**2).all()


def test_the_joint_distribution_agrees_with_the_single_ones(process: LatentProcess) -> None:
    latents, _ = labels(6, seed=2)
    mean, covariance = process.joint(np.concatenate([latents, latents[:1]]), 0)
    alone = process.predict(latents[3:4], 0)
    assert (mean[3], covariance[3, 3] ** 0.5) == (pytest.approx(alone[0][0]), pytest.approx(alone[1][0]))
    assert covariance[0, 6] == pytest.approx(covariance[0, 0], rel=1e-3)
    assert np.linalg.eigvalsh(covariance).min() > -1e-6 * covariance.max()


def test_with_many_labels_all_are_conditioned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    latents, _ = labels(60)
    values = 180.0 + 10.0 * np.sin(3.0 * latents[:, 0]) * np.cos(2.0 * latents[:, 1])
    phases = np.zeros(60, dtype=int)
    errors = {}
    for n_fit, n in ((20, 20), (20, 60), (60, 60)):
        monkeypatch.setattr(latent_process, "_N_FIT", n_fit)
        mean, _ = fit_latent_process(latents[:n], phases[:n], values[:n], seed=0).predict(latents[20:], 0)
        errors[n_fit, n] = np.abs(mean - values[20:]).mean()
    assert errors[20, 60] < 0.5 * errors[20, 20]
    assert errors[20, 60] != errors[60, 60]  # hyperparameters of fewer labels


@pytest.mark.parametrize("value", ["constant", "twice the same structure"])
def test_labels_that_tell_nothing_are_no_obstacle(value: str) -> None:
    latents, values = labels(20)
    if value == "constant":
        values[:] = 180.0
    else:
        latents[:] = latents[0]
    mean, std = fit_latent_process(latents, np.zeros(20, dtype=int), values, seed=0).predict(latents, 0)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert np.abs(mean - values.mean()).max() < 3.0 * max(values.std(), 1e-3)


@pytest.fixture(scope="module")
def judge() -> LatentJudge:
    """On random orderings, by a model that is not trained."""
    campaign = ToyCampaign()
    campaign.run(RandomOrderingsSettings().build("random", SPACE), 40)
    model = Pcdvae(TINY, SPACE.elements, SPACE.phases, max_atoms=16).eval()
    model.standardize(crystals(12))
    known = list(read_history(campaign.history, SPACE).by_id.values())
    return LatentJudge.of(model, SPACE, known, campaign.evaluations, seed=0)


def test_symmetry_images_are_judged_alike(judge: LatentJudge) -> None:
    rng = np.random.default_rng(0)
    for lattice in SPACE.lattices:
        occupation = SPACE.random_occupation(rng, lattice)
        images = occupation[lattice.permutations[rng.choice(len(lattice.permutations), 5)]]
        expected = judge.expected(lattice, np.concatenate([occupation[None], images]))
        assert expected == pytest.approx(np.full(6, expected[0]), abs=1e-4 * judge.process.spread)


def test_refinement_finds_what_promises_more_within_the_bounds(judge: LatentJudge) -> None:
    lattice = SPACE.lattices[1]
    starts = np.array([SPACE.random_occupation(np.random.default_rng(k), lattice) for k in range(6)])
    settings = RefinementSettings(n_survivors=3, n_steps=6)
    ends = judge.refined(lattice, starts, np.array([0.0, 2.0]), settings, np.random.default_rng(0))
    before = judge.refined(
        lattice, starts, np.array([0.0, 2.0]), settings.model_copy(update={"n_steps": 0}), np.random.default_rng(0)
    )
    assert (ends.scores.max(1) > before.scores.max(1)).all()
    assert judge.expected(lattice, ends.occupations) == pytest.approx(ends.scores[0], abs=1e-6)
    assert all(SPACE.is_allowed(counts) for counts in SPACE.counts(ends.occupations))
    again = judge.refined(lattice, starts, np.array([0.0, 2.0]), settings, np.random.default_rng(0))
    assert (again.occupations == ends.occupations).all()


def test_where_evaluations_fail_less_is_promised(judge: LatentJudge) -> None:
    lattice = SPACE.lattices[1]
    occupation = SPACE.random_occupation(np.random.default_rng(3), lattice)[None]
    fractions = SPACE.counts(occupation) / lattice.n_sites
    feasibility = Feasibility({lattice.phase: np.repeat(fractions, 9, axis=0)}, {lattice.phase: np.zeros(9)})
    settings = RefinementSettings(n_steps=0)
    plain, risky = (
        one.refined(lattice, occupation, np.array([1.0]), settings, np.random.default_rng(0)).scores.item()
        for one in (judge, replace(judge, feasibility=feasibility))
    )
    chance = feasibility.chance(lattice.phase, fractions).item()
    assert chance == pytest.approx(0.1)
    assert plain - risky == pytest.approx(4.0 * 0.9 * judge.process.spread)
