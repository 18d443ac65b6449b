"""Density waves against sums over atoms one by one, and what they are for."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from alloysmith.generators.pcdvae.basis import envelope
from alloysmith.generators.pcdvae.waves import WaveLayer, Waves, find_waves
from ase import Atoms
from ase.build import bulk

Q_MAX = 9.0


def waves_of(*frames: Atoms) -> Waves:
    positions, cells = [a.positions for a in frames], [a.cell.array for a in frames]
    return find_waves(positions, cells, dtype=torch.float64, device="cpu")


def noisy(atoms: Atoms, sigma_ang: float, seed: int = 0) -> Atoms:
    changed = atoms.copy()
    changed.positions += sigma_ang * np.random.default_rng(seed).standard_normal(changed.positions.shape)
    return changed


def test_they_are_all_of_the_reciprocal_lattice_within_the_cutoff() -> None:
    atoms = noisy(bulk("Ni", "fcc", a=3.5) * (3, 2, 1), 0.2)  # a skewed cell
    unit = (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    expected = {}
    for numbers in product(range(-9, 10), repeat=3):
        k = 2.0 * np.pi * np.array(numbers) @ np.linalg.inv(atoms.cell.array).T
        if any(numbers) and np.linalg.norm(k) * unit < Q_MAX:
            amplitude = abs(sum(np.exp(1j * k @ x) for x in atoms.positions)) / len(atoms)
            expected[tuple(np.round(k * unit, 6) + 0.0)] = amplitude
    waves = waves_of(atoms)
    vectors, amplitudes = waves.vectors[0].numpy(), waves.amplitudes[0].numpy()
    found = {
        tuple(np.round(sign * q, 6) + 0.0): a for q, a in zip(vectors, amplitudes, strict=True) for sign in (1.0, -1.0)
    }
    assert len(found) == 2 * len(vectors)  # one of each pair
    assert set(expected) == set(found)
    for k, amplitude in expected.items():
        np.testing.assert_allclose(found[k], amplitude, atol=1e-9)


def test_reflections_of_a_crystal_outlive_its_neighbourhoods() -> None:
    crystal = bulk("Ni", "fcc", a=3.59, cubic=True) * 3
    waves = waves_of(crystal, noisy(crystal, 0.5))
    lengths = waves.lengths[0].numpy()
    is_reflection = waves.amplitudes[0].numpy() > 0.999
    first, second = (2.0 * np.pi * np.sqrt(n) * 0.25 ** (1.0 / 3.0) for n in (3, 4))  # 111 and 200
    np.testing.assert_allclose(np.unique(lengths[is_reflection].round(6)), [first, second], rtol=1e-6)
    assert is_reflection.sum() == 4 + 3
    assert waves.amplitudes[0].numpy()[~is_reflection].max() < 1e-12
    faded = waves.amplitudes[1].numpy()
    assert faded[is_reflection].mean() > 1.5 * np.quantile(faded[~is_reflection], 0.9)


def test_numbers_are_sums_of_cosines_and_vectors_of_sines() -> None:
    atoms = noisy(bulk("Ni", "bcc", a=2.9, cubic=True) * 2, 0.3)
    waves, layer = waves_of(atoms), WaveLayer(3, 1, 8).double()
    with torch.no_grad():
        layer.weights.weight.zero_()
        layer.weights.bias.copy_(torch.tensor([1.0, 2.0]))  # the same for all waves
        numbers, vectors = (x.numpy() for x in layer(waves, torch.zeros(1, 3).double()))
    q = waves.vectors[0].numpy()
    unit = (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    turned = np.exp(1j * atoms.positions @ (q / unit).T)
    mean = turned.mean(0)
    turned *= mean.conj() / np.hypot(np.abs(mean), 0.02)
    weights = envelope(torch.from_numpy(np.linalg.norm(q, axis=1) / Q_MAX)).numpy()
    assert (weights > 0.01).sum() > 50
    np.testing.assert_allclose(numbers[:, 0], turned.real @ weights, atol=1e-9)
    np.testing.assert_allclose(vectors[:, 0], 2.0 * (turned.imag * weights) @ q, atol=1e-9)


def test_padding_changes_nothing() -> None:
    frames = [noisy(bulk("Ni", "fcc", a=3.5, cubic=True) * (k, 1, 1), 0.2) for k in (1, 3)]
    layer = WaveLayer(2, 3, 8).double()
    with torch.no_grad():
        together = layer(waves_of(*frames), torch.ones(2, 2, dtype=torch.float64))
        alone = [layer(waves_of(atoms), torch.ones(1, 2, dtype=torch.float64)) for atoms in frames]
    for k in range(2):
        np.testing.assert_allclose(together[k], torch.cat([parts[k] for parts in alone]), atol=1e-12)
