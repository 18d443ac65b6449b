"""Latent vectors that begin evenly spread."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from alloysmith.generators.pcdvae.crystals import Crystal
from alloysmith.generators.pcdvae.fitted import encodings
from alloysmith.generators.pcdvae.labelled import CrystalDataSettings, labelled_crystals
from ase.build import bulk

from .small import ELEMENTS, TINY, crystals, tiny_model


@cache
def orderings() -> tuple[Crystal, ...]:
    """Random BCC alloys of 54 atoms, and as the last 20 of them random orderings of Ni18Fe18Cr18."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(100):
        atoms = bulk("Fe", "bcc", a=2.85, cubic=True) * (3, 3, 3)
        shares = rng.dirichlet((2, 2, 2)) if k < 80 else np.full(3, 1.0 / 3.0)
        counts = np.diff(np.round(np.cumsum([0.0, *shares]) * 54)).astype(int)
        atoms.symbols = rng.permutation(np.repeat(ELEMENTS, counts))
        atoms.info = {"phase": "bcc", "bulk_modulus_gpa": 180.0 + k}
        found.append(atoms)
    return labelled_crystals(found, CrystalDataSettings(elements=ELEMENTS)).crystals


def whitened(share: float | None, data: tuple[Crystal, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of latent vectors, from an untrained encoder."""
    model = tiny_model(TINY.model_copy(update={"whitening": share}))
    model.whiten(data, np.random.default_rng(0))
    return encodings(model, data)


def resolution(means: np.ndarray, deviations: np.ndarray) -> float:
    """Largest spread of some structures along a component of latent space, in units of the noise there."""
    return float((means.std(0) / deviations.mean(0)).max())


def test_every_direction_begins_with_the_same_spread() -> None:
    means, deviations = whitened(0.01, orderings())
    np.testing.assert_allclose(means.mean(0), 0.0, atol=1e-4)
    widths = np.linalg.svd(means, compute_uv=False) / len(means) ** 0.5
    assert widths.max() < 1.001
    assert (widths > 0.7).sum() >= 5  # of 8; the others are narrower than the share
    np.testing.assert_allclose(deviations, 0.1, rtol=1e-6)


def test_the_order_of_atoms_stands_out_from_the_noise_that_it_drowned_in() -> None:
    same = slice(80, None)  # of one composition
    before, after = (resolution(*(x[same] for x in whitened(share, orderings()))) for share in (None, 0.01))
    assert before < 0.1
    assert after > 3.0


def test_without_it_the_encoder_is_as_it_comes() -> None:
    model, untouched = tiny_model(), tiny_model()
    model.whiten(crystals(), np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_few_structures_are_not_torn_apart_and_equal_ones_change_nothing() -> None:
    means, _ = whitened(0.01, crystals(4))
    assert np.isfinite(means).all()
    assert np.abs(means).max() < 2.0 + 1e-6  # the square root of four
    model, untouched = (tiny_model(TINY.model_copy(update={"whitening": 0.01})) for _ in range(2))
    model.whiten((crystals(2)[0],) * 3, np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))
