"""The parts of the training loss.

They are those of CDVAE (Xie et al., ICLR 2022) and the phase of P-CDVAE (Naghdi, Kaszuba et al., 2024). Each part is a
mean over structures; a part about atoms is a mean over the atoms of each structure first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, mse_loss, softmax

from .crystals import CrystalBatch
from .model import Heads, Pcdvae
from .noise import Noise, noisy_types
from .settings import LossWeights


@dataclass(frozen=True)
class Losses:
    """Parts of the loss, each a number; 0 where the model has no such head.

    Attributes:
        n_atoms, composition, phase: cross-entropies, nats.
        lattice, property: mean squares of standardized values.
        coordinates: σ² |s - ∇ log p|² / 2, with the score s that the decoder gives and that of the noise.
        types: cross-entropy of each atom's true element, nats, divided by σ_type.
        kl: divergence of the latent vectors from a standard normal distribution, nats.
    """

    n_atoms: Tensor
    lattice: Tensor
    composition: Tensor
    phase: Tensor
    property: Tensor
    coordinates: Tensor
    types: Tensor
    kl: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """The weighted sum."""
        parts = [getattr(self, name) * weight for name, weight in weights.model_dump().items()]
        return torch.stack(parts).sum()


def losses(model: Pcdvae, batch: CrystalBatch, noise: Noise) -> Losses:
    """Encode a batch, add noise to it, and compare what heads and decoder say with what is true.

    The lattice that the decoder sees is always the true one (teacher forcing); the phase is the predicted one.
    """
    mean, log_variance = model.encode(batch)
    latent = mean + noise.latent * torch.exp(0.5 * log_variance)
    heads = model.heads(latent)
    composition = softmax(heads.composition.detach(), -1)
    types = noisy_types(batch.types, composition, noise, batch.structure_of_atom)
    cells = [c.cell for c in batch.crystals]
    atoms = batch.structure_of_atom
    scores, logits = model.decode(latent, heads.phases, types, atoms, noise.positions, cells, noise.levels)
    of_atoms = {
        "coordinates": 0.5 * (scores - noise.scores).square().sum(-1),
        "types": cross_entropy(logits, batch.types, reduction="none") / noise.type_sigmas[batch.structure_of_atom],
    }
    zero = latent.new_zeros(())
    return Losses(
        n_atoms=cross_entropy(heads.n_atoms, batch.n_atoms),
        lattice=mse_loss(heads.lattice, (batch.lattices - model.lattice_mean) / model.lattice_spread),
        composition=-(batch.fractions * log_softmax(heads.composition, -1)).sum(-1).mean(),
        phase=zero if heads.phase is None else cross_entropy(heads.phase, batch.phases),
        property=zero if heads.value is None else _property_loss(model, heads, batch),
        kl=0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1).mean(),
        **{name: _mean_of_structures(values, batch) for name, values in of_atoms.items()},
    )


def _property_loss(model: Pcdvae, heads: Heads, batch: CrystalBatch) -> Tensor:
    assert heads.value is not None
    return mse_loss(heads.value, (batch.values - model.value_mean) / model.value_spread)


def _mean_of_structures(values: Tensor, batch: CrystalBatch) -> Tensor:
    """Mean over structures of means over their atoms, of values ``[n_atoms]``."""
    total = values.new_zeros(len(batch.n_atoms)).index_add(0, batch.structure_of_atom, values)
    return (total / batch.n_atoms).mean()
