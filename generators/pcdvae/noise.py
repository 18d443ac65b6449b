"""What is drawn at random for a training step: noise levels, displacements, elements, latent vectors.

Everything comes from one generator of NumPy, so that a step can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .crystals import Crystal, CrystalBatch
from .settings import NoiseSettings
from .torus import Torus


def largest_sigma_ang(torus: Torus, settings: NoiseSettings) -> float:
    """Largest standard deviation of displacements in a cell, Å: more than that a model has not learnt."""
    return settings.sigma_max_ang or max(torus.sigma_even_ang, 2.0 * settings.sigma_min_ang)


def sigmas_ang(crystal: Crystal, settings: NoiseSettings) -> np.ndarray:
    """Standard deviations of displacements, Å, ``[n_levels]``: largest first, a constant factor apart."""
    return np.geomspace(largest_sigma_ang(crystal.torus, settings), settings.sigma_min_ang, settings.n_levels)


def type_sigmas(settings: NoiseSettings) -> np.ndarray:
    """Weights of the composition against an atom's own element, ``[n_levels]``, largest first."""
    return np.geomspace(settings.type_sigma_max, settings.type_sigma_min, settings.n_levels)


@dataclass(frozen=True)
class Noise:
    """Noise on a batch.

    Attributes:
        positions: of each structure ``[n_atoms, 3]``, Å, displaced; not folded back.
        scores: of the wrapped normal distribution times its standard deviation, ``[n_atoms, 3]``, without a unit.
        levels: standard deviation of the displacements, Å, and weight of the composition, ``[n_structures, 2]``.
        type_draws: uniform between 0 and 1, ``[n_atoms]``; decide the noisy elements.
        latent: standard normal, ``[n_structures, n_latent]``.
    """

    positions: tuple[np.ndarray, ...]
    scores: Tensor
    levels: Tensor
    type_draws: Tensor
    latent: Tensor

    @property
    def type_sigmas(self) -> Tensor:
        """Weight of the composition, ``[n_structures]``."""
        return self.levels[:, 1]


def draw_noise(batch: CrystalBatch, settings: NoiseSettings, n_latent: int, rng: np.random.Generator) -> Noise:
    """Draw a level for each structure, another one for its elements, and noise of these levels."""
    positions, scores, sigmas = [], [], []
    for crystal in batch.crystals:
        sigma = float(rng.choice(sigmas_ang(crystal, settings)))
        sigmas.append(sigma)
        displacements = sigma * rng.standard_normal(crystal.positions.shape)
        positions.append(crystal.positions + displacements)
        scores.append(sigma * crystal.torus.score(displacements, sigma))
    n = len(batch.crystals)
    like = batch.lattices
    return Noise(
        positions=tuple(positions),
        scores=torch.from_numpy(np.concatenate(scores)).to(like),
        levels=torch.from_numpy(np.stack([sigmas, rng.choice(type_sigmas(settings), n)], 1)).to(like),
        type_draws=torch.from_numpy(rng.random(len(batch.types))).to(like),
        latent=torch.from_numpy(rng.standard_normal((n, n_latent))).to(like),
    )


def noisy_types(types: Tensor, composition: Tensor, noise: Noise, structure_of_atom: Tensor) -> Tensor:
    """Elements drawn with the weights one-hot + σ_type × predicted composition, as CDVAE does; int64 ``[n_atoms]``.

    Args:
        types: true elements, int64 ``[n_atoms]``.
        composition: predicted fractions, ``[n_structures, n_elements]``.
        noise: gives σ_type and the random numbers.
        structure_of_atom: int64 ``[n_atoms]``.
    """
    weights = (composition * noise.type_sigmas.unsqueeze(-1))[structure_of_atom]
    weights = weights + torch.nn.functional.one_hot(types, composition.shape[1])
    steps = weights.cumsum(-1)
    drawn = (steps < noise.type_draws.unsqueeze(-1) * steps[:, -1:]).sum(-1)
    return drawn.clamp_max(composition.shape[1] - 1)
