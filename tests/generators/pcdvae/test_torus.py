"""The wrapped normal distribution against finite differences, plain sums and its own definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from alloysmith.generators.pcdvae.torus import Torus

CELLS = {
    "fcc54": np.diag([7.604, 7.604, 10.754]),
    "skew": np.array([[4.0, 0.0, 0.0], [1.3, 3.6, 0.0], [-1.1, 0.9, 5.0]]),
    "thin": np.diag([2.5, 2.5, 12.0]),
}


def displacements(cell: np.ndarray, n: int = 12) -> np.ndarray:
    return (np.random.default_rng(0).random((n, 3)) * 3.0 - 1.5) @ cell


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("sigma_ang", [0.05, 0.5, 1.0, 2.0, 4.0])
def test_score_is_the_gradient_of_the_log_density(name: str, sigma_ang: float) -> None:
    torus, points = Torus(CELLS[name]), displacements(CELLS[name])
    step = 1e-4 * min(sigma_ang, 1.0)
    numeric = np.stack(
        [
            (torus.log_density(points + step * e, sigma_ang) - torus.log_density(points - step * e, sigma_ang))
            / (2.0 * step)
            for e in np.eye(3)
        ],
        1,
    )
    score = torus.score(points, sigma_ang)
    np.testing.assert_allclose(score, numeric, rtol=1e-5, atol=1e-6 / sigma_ang)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("sigma_ang", [0.3, 1.0, 2.0])
def test_log_density_is_the_sum_over_images(name: str, sigma_ang: float) -> None:
    cell = CELLS[name]
    points = displacements(cell)
    images = np.array(list(itertools.product(range(-12, 13), repeat=3))) @ cell
    squares = np.sum((points[:, None] + images) ** 2, -1)
    least = squares.min(1)
    plain = np.log(np.exp((least[:, None] - squares) / (2.0 * sigma_ang**2)).sum(1)) - least / (2.0 * sigma_ang**2)
    plain -= 1.5 * np.log(2.0 * np.pi * sigma_ang**2)
    np.testing.assert_allclose(Torus(cell).log_density(points, sigma_ang), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_sums_over_images_and_over_waves_agree(name: str) -> None:
    torus, points = Torus(CELLS[name]), displacements(CELLS[name])
    sigma_ang = 2.5 / torus._shortest
    below, above = sigma_ang * (1.0 - 1e-9), sigma_ang * (1.0 + 1e-9)
    np.testing.assert_allclose(torus.log_density(points, below), torus.log_density(points, above), atol=1e-7)
    np.testing.assert_allclose(torus.score(points, below), torus.score(points, above), atol=1e-7)


def test_any_cell_of_the_lattice_gives_the_same() -> None:
    cell = CELLS["skew"]
    other = np.array([[1, 4, 0], [0, 1, 0], [2, -3, 1]]) @ cell
    points = displacements(cell)
    for sigma_ang in (0.5, 3.0):
        np.testing.assert_allclose(
            Torus(other).score(points, sigma_ang), Torus(cell).score(points, sigma_ang), atol=1e-11
        )
    assert Torus(other).sigma_even_ang == pytest.approx(Torus(cell).sigma_even_ang, rel=1e-12)


def test_small_noise_has_the_score_of_one_normal_and_large_noise_none() -> None:
    torus = Torus(CELLS["fcc54"])
    small = 0.05 * np.random.default_rng(1).normal(size=(20, 3))
    np.testing.assert_allclose(torus.score(small, 0.05), -small / 0.05**2, rtol=1e-12)
    assert np.abs(torus.score(displacements(CELLS["fcc54"]), 10.0)).max() < 1e-6


def test_the_noise_that_fits_covers_the_cell_evenly() -> None:
    for cell in CELLS.values():
        torus = Torus(cell)
        grid = np.array(list(itertools.product(np.linspace(0.0, 1.0, 9), repeat=3))) @ cell
        relative = np.exp(torus.log_density(grid, torus.sigma_even_ang)) * abs(np.linalg.det(cell))
        assert relative.max() < 1.15
        assert relative.min() > 0.9
        half = np.exp(torus.log_density(grid, 0.5 * torus.sigma_even_ang)) * abs(np.linalg.det(cell))
        assert half.max() > 1.5  # so no less would do


def test_noise_folded_into_the_cell_has_the_density() -> None:
    cell, sigma_ang = CELLS["thin"], 1.2
    torus = Torus(cell)
    rng = np.random.default_rng(2)
    scaled = (rng.normal(size=(200_000, 3)) * sigma_ang @ np.linalg.inv(cell)) % 1.0
    counts = np.histogram(scaled[:, 2], bins=12, range=(0.0, 1.0))[0] / len(scaled)
    middle = (np.arange(240) + 0.5) / 240
    grid = np.array([(x, y, z) for x in (0.0, 0.25, 0.5, 0.75) for y in (0.0, 0.25, 0.5, 0.75) for z in middle]) @ cell
    density = np.exp(torus.log_density(grid, sigma_ang)).reshape(16, 240).mean(0) * abs(np.linalg.det(cell)) / 240
    np.testing.assert_allclose(counts, density.reshape(12, 20).sum(1), atol=4e-3)
