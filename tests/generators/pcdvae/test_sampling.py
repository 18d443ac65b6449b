"""Samplers on distributions whose score is known, and structures drawn from a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alloysmith.generators.pcdvae.element_noise import assigned, shuffled, whole_counts, with_counts
from alloysmith.generators.pcdvae.fitted import FittedPcdvae
from alloysmith.generators.pcdvae.generation import GenerationSettings, generated
from alloysmith.generators.pcdvae.sampler_settings import LangevinSettings, PredictorCorrectorSettings
from alloysmith.generators.pcdvae.sampling import Cloud, Draft, drafts, draw, generator_of, sample
from alloysmith.generators.pcdvae.settings import NoiseSettings
from alloysmith.generators.screening import FAULT
from alloysmith.surrogates.base import SurrogateError
from alloysmith.tests.generators.pcdvae.small import TINY, crystals, tiny_model
from ase.cell import Cell

WIDE = np.eye(3) * 1000.0  # far wider than anything on it: no wrapping
NOISE = NoiseSettings(sigma_min_ang=0.05, sigma_max_ang=2.0)
START = 0.3  # Å; where `generate` starts


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


def drawn(
    denoise: Gaussian, settings, noise: NoiseSettings = NOISE, n_atoms: int = 4000, start_sigma_ang: float | None = None
) -> np.ndarray:
    """Deviations from the middle ``[n_atoms, 3]``; the start is that of the toy at the largest level."""
    true = denoise.deviation * np.random.default_rng(9).standard_normal((n_atoms, 3))
    counts = np.array([n_atoms // 2, n_atoms // 2])
    draft = Draft(np.zeros(1), 0, counts, WIDE, scaled_sites=0.5 + true / 1000.0, start_sigma_ang=start_sigma_ang)
    cloud = draw(denoise, [draft], noise, settings, [np.random.default_rng(1)])
    assert np.bincount(cloud.types).tolist() == counts.tolist()
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


def variance_by_hand(settings: PredictorCorrectorSettings, noise: NoiseSettings, deviation: float) -> float:
    """What the sampler's steps make of the variance, followed exactly: all of them are linear on this toy."""
    true = deviation**2
    sigmas = np.geomspace(START, noise.sigma_min_ang, settings.n_levels)
    variance = true + sigmas[0] ** 2
    for level, sigma in enumerate(sigmas):
        for _ in range(settings.n_corrections):
            a = settings.step * sigma**2
            variance = (1.0 - a / (true + sigma**2)) ** 2 * variance + 2.0 * a
        if level + 1 == settings.n_levels:
            return variance * (true / (true + sigma**2)) ** 2
        below = sigmas[level + 1]
        fresh = settings.stochasticity * below * np.sqrt(1.0 - (below / sigma) ** 2)
        kept = np.sqrt(below**2 - fresh**2)
        variance = variance * ((true + kept * sigma) / (true + sigma**2)) ** 2 + fresh**2
    raise AssertionError("no levels")


@pytest.mark.parametrize(("deviation", "share"), [(0.3, 0.98), (0.1, 0.92), (0.05, 0.75), (0.03, 0.52)])
def test_the_default_sampler_has_the_right_variance_down_to_three_times_its_least_noise(
    deviation: float, share: float
) -> None:
    settings, noise = PredictorCorrectorSettings(), NoiseSettings()
    expected = variance_by_hand(settings, noise, deviation)
    found = drawn(Gaussian(deviation), settings, noise, n_atoms=60_000, start_sigma_ang=START)
    assert found.var() == pytest.approx(expected, rel=0.015)
    assert expected / deviation**2 == pytest.approx(share, abs=0.01)


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


def test_random_numbers_of_what_is_drawn_are_those_of_nothing_else() -> None:
    streams = [np.random.default_rng(5), generator_of(5, "latents"), *(generator_of(5, "drawing", k) for k in range(3))]
    firsts = [rng.standard_normal(4).tolist() for rng in streams]
    assert len({x for first in firsts for x in first}) == 20


def test_no_more_noise_is_asked_for_than_the_model_has_learnt() -> None:
    levels_seen = []

    def denoise(cloud: Cloud, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels_seen.append(levels[:, 0])
        return np.zeros((len(cloud.owner), 3)), np.zeros((len(cloud.owner), 2))

    sites = np.random.default_rng(1).random((4, 3))
    draft = Draft(np.zeros(1), 0, np.array([2, 2]), np.eye(3) * 5.0, scaled_sites=sites, start_sigma_ang=0.3)
    noise = NoiseSettings(sigma_min_ang=0.03, sigma_max_ang=0.1)
    settings = PredictorCorrectorSettings(n_levels=3, n_corrections=0)
    cloud = draw(denoise, [draft], noise, settings, [np.random.default_rng(0)])
    assert np.concatenate(levels_seen) == pytest.approx([0.1, np.sqrt(0.1 * 0.03), 0.03])
    assert np.abs(cloud.positions - sites * 5.0).max() < 0.6


@pytest.mark.parametrize("scale", [10.0, 1e4])
def test_latent_vectors_that_ran_away_still_give_cells(scale: float) -> None:
    model = tiny_model()
    model.standardize(crystals())
    usual = float(np.mean([abs(np.linalg.det(c.cell)) / len(c.types) for c in crystals()]))
    for draft in drafts(model, scale * np.random.default_rng(0).standard_normal((200, 8))):
        volume = np.linalg.det(draft.cell) / draft.counts.sum()
        assert usual / 8.5 < volume < 8.5 * usual
        widths = volume * draft.counts.sum() / np.linalg.norm(np.cross(draft.cell, np.roll(draft.cell, 1, 0)), axis=1)
        assert widths.min() > 0.01


@pytest.mark.parametrize(
    "angles", [(40.0, 40.0, 100.0), (125.0, 125.0, 125.0), (120.0, 120.0, 120.0), (200.0, -5.0, 90.0)]
)
def test_angles_of_no_cell_become_those_of_the_mean_training_cell(angles: tuple[float, ...]) -> None:
    model = tiny_model()
    model.standardize(crystals())
    with torch.no_grad():
        last = model.head_lattice[-1]
        last.weight.zero_()
        said = torch.tensor([2.4, 2.4, 2.4, *angles])
        last.bias.copy_((said - model.lattice_mean) / model.lattice_spread)
    found = Cell(drafts(model, np.zeros((1, 8)))[0].cell).angles()
    np.testing.assert_allclose(found, model.lattice_mean[3:].numpy(), atol=1e-3)


def test_a_structure_that_the_decoder_says_nothing_about_has_a_fault_and_the_others_none() -> None:
    model = tiny_model()
    model.standardize(crystals())
    latents = np.random.default_rng(0).standard_normal((3, 8))
    wanted = drafts(model, latents)
    settings = PredictorCorrectorSettings(n_levels=3)
    healthy = sample(model, wanted, settings, seed=1)
    broken = [wanted[0], replace(wanted[1], latent=np.full(8, np.nan)), wanted[2]]
    found = sample(model, broken, settings, seed=1)
    assert [atoms.info.get(FAULT) for atoms in found] == [None, "the decoder gave no finite numbers", None]
    assert all(np.isfinite(atoms.positions).all() for atoms in found)
    for k in (0, 2):
        np.testing.assert_allclose(found[k].positions, healthy[k].positions, atol=1e-5)
        assert found[k].symbols.get_chemical_formula() == healthy[k].symbols.get_chemical_formula()


def test_a_model_of_little_noise_cannot_start_anywhere() -> None:
    model = tiny_model(TINY.model_copy(update={"noise": NoiseSettings(sigma_max_ang=0.1)}))
    model.standardize(crystals())
    fitted = FittedPcdvae.of(model.eval(), "bulk_modulus_gpa", crystals())
    settings = GenerationSettings(sampler=PredictorCorrectorSettings(n_levels=2, n_corrections=0))
    with pytest.raises(SurrogateError, match=r"noise of at most 0\.1 Å"):
        generated(fitted, settings.model_copy(update={"start": "anywhere"}), 2)
    with pytest.raises(SurrogateError, match="that the training data has"):
        generated(replace(fitted, sites={}), settings, 2)
    sites = {(phase, n): np.random.default_rng(n).random((n, 3)) for phase in (0, 1) for n in range(1, 9)}
    assert len(generated(replace(fitted, sites=sites), settings, 2)) == 2


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
