"""Optimization in latent space, on a model whose property is a known function of the latent vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from alloysmith.generators.pcdvae.fitted import FittedPcdvae
from alloysmith.generators.pcdvae.optimization import LatentOptimizationSettings, fit_ensemble, optimize_latents
from alloysmith.surrogates.base import SurrogateError
from alloysmith.tests.generators.pcdvae.small import tiny_model
from pydantic import ValidationError

N = 200
SETTINGS = LatentOptimizationSettings(learning_rate=0.02, decode_at=(0, 10, 100), n_heads=2)


@pytest.fixture(scope="module")
def fitted() -> FittedPcdvae:
    """Latent vectors of which the first component tells the property, 180 + 5 z, where there is data: |z| up to 2."""
    rng = np.random.default_rng(0)
    latents = rng.uniform(-2.0, 2.0, (N, 8))
    model = tiny_model()
    model.value_mean.fill_(180.0)
    model.value_spread.fill_(5.0)
    return FittedPcdvae(model, "bulk_modulus_gpa", latents, np.full((N, 8), 0.1), 180.0 + 5.0 * latents[:, 0])


def moved(found: dict[int, np.ndarray], fitted: FittedPcdvae) -> np.ndarray:
    """Distances from the start ``[n]`` in the units of the trust region."""
    scale = np.sqrt(fitted.latents.var(0) + np.square(fitted.deviations).mean(0))
    return np.sqrt(np.square((found[100] - found[0]) / scale).mean(1))


def test_an_ensemble_learns_the_property(fitted: FittedPcdvae) -> None:
    ensemble = fit_ensemble(fitted, 4, seed=0)
    rng = np.random.default_rng(5)
    inside, outside = rng.uniform(-1.5, 1.5, (50, 8)), rng.uniform(-8.0, 8.0, (50, 8))
    with torch.no_grad():
        near, far = (ensemble(torch.from_numpy(z)).numpy() for z in (inside, outside))
    assert np.abs(near.mean(0) - inside[:, 0]).mean() < 0.15
    assert far.std(0).mean() > 3.0 * near.std(0).mean()


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_it_goes_where_the_property_is_better_and_stays_in_its_region(
    fitted: FittedPcdvae, direction: str, sign: float
) -> None:
    before = {name: x.clone() for name, x in fitted.model.state_dict().items()}
    settings = SETTINGS.model_copy(update={"direction": direction, "trust_radius": 0.3})
    starts = fitted.latents[:20]
    found = optimize_latents(fitted, starts, settings, seed=0)
    assert list(found) == [0, 10, 100]
    np.testing.assert_array_equal(found[0], starts)
    gains = [sign * (found[step] - starts)[:, 0].mean() for step in (10, 100)]
    assert 0.05 < gains[0] < gains[1]
    assert moved(dict(found), fitted).max() == pytest.approx(0.3, rel=1e-6)
    assert all(torch.equal(x, before[name]) for name, x in fitted.model.state_dict().items())


def test_the_published_form_follows_its_own_head_anywhere(fitted: FittedPcdvae) -> None:
    settings = LatentOptimizationSettings.published().model_copy(update={"learning_rate": 0.1, "decode_at": (0, 100)})
    found = optimize_latents(fitted, fitted.latents[:5], settings, seed=0)
    head = fitted.model.head_value
    assert head is not None
    with torch.no_grad():
        values = [head(torch.from_numpy(z).float())[:, 0].numpy() for z in (found[0], found[100])]
    assert (values[1] > values[0] + 1.0).all()
    assert moved(dict(found), fitted).min() > 2.0
    assert LatentOptimizationSettings.published().decode_at == (200, 500, 1000, 1500, 2500)


def test_one_after_another_gives_what_all_together_give(fitted: FittedPcdvae) -> None:
    together = optimize_latents(fitted, fitted.latents[:3], SETTINGS, seed=0)[100]
    alone = optimize_latents(fitted, fitted.latents[1:2], SETTINGS, seed=0)[100]
    np.testing.assert_allclose(together[1:2], alone, atol=1e-9)


def test_what_cannot_be_done_is_told(fitted: FittedPcdvae) -> None:
    without = FittedPcdvae(fitted.model, None, fitted.latents, fitted.deviations, fitted.values)
    with pytest.raises(SurrogateError, match="without a property"):
        optimize_latents(without, fitted.latents[:1], SETTINGS, seed=0)
    with pytest.raises(ValidationError, match="must ascend"):
        LatentOptimizationSettings(decode_at=(5, 5))
