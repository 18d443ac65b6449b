"""Edges and sums over triplets against loops over periodic images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from alloysmith.generators.pcdvae.angular import angular_sum, angular_sums, harmonics
from alloysmith.generators.pcdvae.graph import Edges, find_edges
from ase import Atoms
from ase.build import bulk
from numpy.polynomial.legendre import Legendre


def structures() -> list[Atoms]:
    """A random gas in a skew cell, one atom that meets its own images, and an ideal lattice."""
    rng = np.random.default_rng(0)
    cell = np.array([[5.0, 0.0, 0.0], [1.5, 4.5, 0.0], [-1.0, 2.0, 5.5]])
    gas = Atoms("Ni6", scaled_positions=rng.random((6, 3)), cell=cell, pbc=True)
    return [gas, bulk("Ni", "bcc", a=2.9), bulk("Ni", "fcc", a=3.5, cubic=True)]


def edges_of(frames: list[Atoms], cutoff_ang: float) -> Edges:
    positions, cells = [a.positions for a in frames], [a.cell.array for a in frames]
    return find_edges(positions, cells, cutoff_ang, dtype=torch.float64)


def brute_force(frames: list[Atoms], cutoff_ang: float) -> list[tuple[int, int, np.ndarray]]:
    """Target, source and the vector between them of each edge."""
    found, offset = [], 0
    for atoms in frames:
        for i, j in itertools.product(range(len(atoms)), repeat=2):
            images = np.array(list(itertools.product(range(-4, 5), repeat=3))) @ atoms.cell.array
            vectors = atoms.positions[j] + images - atoms.positions[i]
            lengths = np.linalg.norm(vectors, axis=1)
            is_edge = (lengths > 1e-8) & (lengths < cutoff_ang)
            found += [(offset + i, offset + j, vector) for vector in vectors[is_edge]]
        offset += len(atoms)
    return found


def key(target: int, source: int, vector: np.ndarray) -> tuple[float, ...]:
    return (target, source, *(np.round(vector, 6) + 0.0))


@pytest.mark.parametrize("cutoff_ang", [3.8, 5.1])
def test_edges_are_those_of_a_loop_over_images(cutoff_ang: float) -> None:
    edges = edges_of(structures(), cutoff_ang)
    vectors = (edges.distances[:, None] * edges.directions).numpy()
    found = [key(*row) for row in zip(edges.target.tolist(), edges.source.tolist(), vectors, strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == {key(*row) for row in brute_force(structures(), cutoff_ang)}
    back = edges.reverse.numpy()
    np.testing.assert_array_equal(edges.source[back], edges.target)
    np.testing.assert_allclose(vectors[back], -vectors, atol=1e-12)
    assert (back[back] == np.arange(len(back))).all()


def test_atoms_without_neighbours_have_no_edges_and_zero_sums() -> None:
    edges = edges_of([bulk("Ni", "fcc", a=20.0), structures()[0]], 3.8)
    sums = edges.sums(torch.ones(len(edges.source), 1, dtype=torch.float64))[:, 0]
    np.testing.assert_array_equal(sums, np.bincount(edges.target, minlength=edges.n_atoms))
    lonely = edges_of([bulk("Ni", "fcc", a=20.0)], 3.8)
    assert lonely.sums(torch.ones(0, 2)).tolist() == [[0.0, 0.0]]


def test_moves_between_atoms_and_edges_and_their_derivatives() -> None:
    edges = edges_of(structures()[:2], 2.6)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(edges.source), 2, dtype=torch.float64, generator=generator, requires_grad=True)
    h = torch.randn(edges.n_atoms, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.equal(edges.at_sources(h), h[edges.source])
    assert torch.equal(edges.at_targets(h), h[edges.target])
    assert torch.equal(edges.flat(edges.padded(x)), x)
    torch.testing.assert_close(edges.sums(x), torch.zeros_like(h).index_add(0, edges.target, x))
    for move, argument in [(edges.at_sources, h), (edges.at_targets, h), (edges.sums, x), (edges.reversed, x)]:
        assert torch.autograd.gradcheck(move, (argument,))


def test_harmonics_obey_the_addition_theorem() -> None:
    rng = np.random.default_rng(1)
    units = rng.normal(size=(40, 3))
    units = np.vstack([units / np.linalg.norm(units, axis=1)[:, None], np.eye(3), -np.eye(3)])
    y = harmonics(torch.from_numpy(units), 7).numpy()
    for degree in range(7):
        of_degree = y[:, degree**2 : (degree + 1) ** 2]
        expected = Legendre.basis(degree)(units @ units.T)
        np.testing.assert_allclose(of_degree @ of_degree.T, expected, atol=1e-13)


def test_angular_sums_are_sums_over_triplets() -> None:
    cutoff_ang, n_degrees, n_channels = 3.8, 4, 3
    edges = edges_of(structures(), cutoff_ang)
    rng = np.random.default_rng(2)
    n_edges = len(edges.source)
    x, by_degree = rng.normal(size=(n_edges, n_channels)), rng.normal(size=(n_edges, n_degrees, n_channels))
    target, directions = edges.target.numpy(), edges.directions.numpy()
    one, summed = np.zeros((n_edges, n_degrees, n_channels)), np.zeros((n_edges, n_channels))
    n_triplets = 0
    for f in range(n_edges):
        for g in np.flatnonzero(target == target[f]):
            if g == f:
                continue
            n_triplets += 1
            for degree in range(n_degrees):
                legendre = Legendre.basis(degree)(directions[f] @ directions[g])
                one[f, degree] += legendre * x[g]
                summed[f] += legendre * by_degree[g, degree]
    counts = np.bincount([i for i, _, _ in brute_force(structures(), cutoff_ang)])
    assert n_triplets == (counts * (counts - 1)).sum()
    padded = edges.padded(harmonics(edges.directions, n_degrees))
    np.testing.assert_allclose(angular_sums(torch.from_numpy(x), padded, edges), one, atol=1e-11)
    np.testing.assert_allclose(angular_sum(torch.from_numpy(by_degree), padded, edges), summed, atol=1e-11)
