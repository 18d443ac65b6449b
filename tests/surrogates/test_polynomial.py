"""The baseline: what it must get right, and what it cannot see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alloysmith.structures.files import read_structures
from alloysmith.surrogates.base import TrainingSet
from alloysmith.surrogates.polynomial import PolynomialSettings, fit_piece, monomials
from alloysmith.tests.surrogates.conftest import PROPERTIES, Labelled


def test_a_cubic_is_recovered():
    rng = np.random.default_rng(0)
    x = rng.dirichlet([1.0, 1.0, 1.0], size=80)
    y = 180.0 + 12.0 * x[:, 0] ** 3 - 30.0 * x[:, 0] * x[:, 1] * x[:, 2] + 5.0 * x[:, 1]
    piece = fit_piece(monomials(x, 3), y, 1e-8)
    new = rng.dirichlet([1.0, 1.0, 1.0], size=20)
    expected = 180.0 + 12.0 * new[:, 0] ** 3 - 30.0 * new[:, 0] * new[:, 1] * new[:, 2] + 5.0 * new[:, 1]
    np.testing.assert_allclose(monomials(new, 3) @ piece.mean, expected, atol=0.02)


def test_the_spread_is_that_of_the_orderings():
    rng = np.random.default_rng(1)
    x = rng.dirichlet([1.0, 1.0], size=400)
    y = 100.0 + 10.0 * x[:, 0] + rng.normal(scale=0.7, size=400)
    piece = fit_piece(monomials(x, 3), y, 1e-8)
    assert np.sqrt(piece.variance) == pytest.approx(0.7, rel=0.15)


def test_orderings_of_one_composition_are_alike_to_it(space, labelled: Labelled):
    surrogate = PolynomialSettings().build(space).fit(labelled(100, 0), seed=0)
    rng = np.random.default_rng(2)
    lattice = space.lattices[0]
    occupation = space.random_occupation(rng, lattice)
    orderings = np.array([rng.permutation(occupation) for _ in range(5)])
    prediction = surrogate.predict_occupations(lattice, orderings)
    assert np.ptp(prediction.mean) < 1e-9
    joint = surrogate.joint([space.atoms(lattice, o) for o in orderings], "toy_modulus_gpa")
    assert joint.covariance[0, 1] < joint.covariance[0, 0]


def test_few_labels_fall_back_to_their_mean(space, labelled: Labelled):
    data = labelled(2, 3)
    surrogate = PolynomialSettings().build(space).fit(data, seed=0)
    mean = surrogate.predict(data.structures).mean[:, 0]
    assert mean == pytest.approx(data.targets[:, 0], abs=1.0)


def test_published_bulk_moduli_are_explained_as_well_as_known(shared_data: Path):
    """R² of about 0.87 was measured on the P-CDVAE study's structures with a cubic polynomial."""
    structures = [
        s
        for split in ("train", "val")
        for s in read_structures(shared_data / "nifecr" / f"elastic_final_{split}.extxyz.gz")
    ]
    target = np.array([s.info["bulk_modulus_GPa"] for s in structures])
    surrogate = (
        PolynomialSettings().build(("Ni", "Fe", "Cr")).fit(TrainingSet(structures, target[:, None], PROPERTIES), seed=0)
    )
    assert 0.85 < surrogate.metrics["r2"] < 0.90
    assert 1.1 < surrogate.metrics["mae"] < 1.4
    assert 0.90 < surrogate.metrics["coverage_95"] < 0.99
