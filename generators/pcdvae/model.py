"""The P-CDVAE: encoder, heads and decoder in one module.

Xie, Fu, Ganea, Barzilay, Jaakkola, "Crystal diffusion variational autoencoder for periodic material generation" (ICLR
2022), with the phase head of Naghdi, Kaszuba et al., "Efficient autoencoder pipeline for discovering high entropy
alloys with molecular dynamics data" (2024), Sec. 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import StructureError
from .crystals import Crystal, CrystalBatch, batches
from .decoder import GemNetDT
from .encoder import DimeNetPlusPlus
from .graph import find_edges
from .settings import PcdvaeSettings
from .waves import find_waves

_FIRST_DEVIATION = 0.1
"""Of the noise of whitened latent vectors, whose spread is 1."""
_N_WHITENED = 1024
"""Training structures that are enough to whiten by."""


@dataclass(frozen=True)
class Heads:
    """What the latent vectors say about whole structures.

    Attributes:
        n_atoms: logits of 0, 1, … max_atoms atoms, ``[n_structures, max_atoms + 1]``.
        lattice: standardized lengths and angles, ``[n_structures, 6]``.
        composition: logits of the elements, ``[n_structures, n_elements]``.
        phase: logits of the phases, ``[n_structures, n_phases]``; none where the model has fewer than two.
        value: standardized property, ``[n_structures]``; none where the model has none.
    """

    n_atoms: Tensor
    lattice: Tensor
    composition: Tensor
    phase: Tensor | None
    value: Tensor | None

    @property
    def phases(self) -> Tensor:
        """The likeliest phase, int64 ``[n_structures]``; 0 where the model has fewer than two."""
        if self.phase is None:
            return torch.zeros(len(self.lattice), dtype=torch.int64, device=self.lattice.device)
        return self.phase.argmax(-1)


class Pcdvae(nn.Module):
    """A variational autoencoder whose decoder undoes noise.

    Args:
        settings: sizes, noise and weights of the losses.
        elements: chemical symbols.
        phases: names of the phases; fewer than two make a plain CDVAE.
        max_atoms: largest number of atoms of a structure.
        has_property: whether there is a property to predict.
    """

    def __init__(
        self,
        settings: PcdvaeSettings,
        elements: Sequence[str],
        phases: Sequence[str],
        *,
        max_atoms: int,
        has_property: bool = True,
    ) -> None:
        super().__init__()
        self.settings, self.elements, self.phases = settings, tuple(elements), tuple(phases)
        self.max_atoms = max_atoms
        n, n_elements, n_phases = settings.n_latent, len(self.elements), len(self.phases)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = DimeNetPlusPlus(settings.encoder, n_elements, n)
            self.mean, self.log_variance = nn.Linear(n, n), nn.Linear(n, n)
            self.head_n_atoms = self._head(max_atoms + 1)
            self.head_lattice = self._head(6)
            self.head_composition = self._head(n_elements)
            self.head_phase = self._head(n_phases) if n_phases > 1 else None
            self.head_value = self._head(1) if has_property else None
            self.decoder = GemNetDT(settings.decoder, n_elements, max(n_phases, 1), n)
        self.lattice_mean: Tensor
        self.lattice_spread: Tensor
        self.value_mean: Tensor
        self.value_spread: Tensor
        for name, shape in (("lattice", (6,)), ("value", ())):
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_spread", torch.ones(shape))

    def _head(self, n_outputs: int) -> nn.Sequential:
        n, n_hidden = self.settings.n_latent, self.settings.n_head_channels
        return nn.Sequential(nn.Linear(n, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_outputs))

    def standardize(self, crystals: Sequence[Crystal]) -> None:
        """Set the means and deviations of lattices and property to those of training data.

        A deviation is 1 where all are alike, as angles often are.

        Raises:
            StructureError: no structures, more atoms than ``max_atoms``, an unknown phase, or an unknown property.
        """
        if not crystals:
            raise StructureError("there are no structures to learn from")
        largest = max(len(c.types) for c in crystals)
        if largest > self.max_atoms:
            raise StructureError(f"a structure has {largest} atoms, more than max_atoms = {self.max_atoms}")
        if any(not 0 <= c.phase < max(len(self.phases), 1) for c in crystals):
            raise StructureError(f"a structure's phase is none of {', '.join(self.phases) or 'one'}")
        lattices = np.stack([c.lattice for c in crystals])
        self._set("lattice", lattices)
        if self.head_value is not None:
            values = np.array([c.value for c in crystals])
            if not np.isfinite(values).all():
                raise StructureError("the property of some structures is not known; leave them out")
            self._set("value", values)

    def _set(self, name: str, data: np.ndarray) -> None:
        spread = data.std(0)
        spread = np.where(spread > 1e-6 * np.abs(data).max(0), spread, 1.0)
        getattr(self, f"{name}_mean").copy_(torch.from_numpy(np.asarray(data.mean(0))))
        getattr(self, f"{name}_spread").copy_(torch.from_numpy(np.asarray(spread)))

    @torch.no_grad()
    def whiten(self, crystals: Sequence[Crystal], rng: np.random.Generator) -> None:
        """Set the last layer of an untrained encoder such that training data are spread evenly over latent space.

        What an untrained encoder says of alloys varies a hundred times as much with their composition as with the order
        of their atoms, but it does tell orders apart: see ``settings.whitening``.
        """
        share = self.settings.whitening
        if share is None:
            return
        chosen = rng.permutation(len(crystals))[:_N_WHITENED]
        some = [crystals[k] for k in chosen]
        features = [self._features(batch) for batch in batches(some, len(self.elements), self.lattice_mean)]
        values = torch.cat(features).double().cpu().numpy()
        center = values.mean(0)
        _, widths, directions = np.linalg.svd(values - center)
        spread = np.zeros(len(center))
        spread[: len(widths)] = widths / len(values) ** 0.5
        if spread[0] <= 1e-6 * np.abs(values).max():
            return  # all alike but for rounding
        # few structures do not tell what is narrow
        weights = directions / np.hypot(spread, spread[0] * max(share, 1.0 / len(values)))[:, np.newaxis]
        self.mean.weight.copy_(torch.from_numpy(weights))
        self.mean.bias.copy_(torch.from_numpy(-weights @ center))
        self.log_variance.weight.zero_()
        self.log_variance.bias.fill_(2.0 * math.log(_FIRST_DEVIATION))

    def encode(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent vectors, both ``[n_structures, n_latent]``."""
        hidden = self._features(batch)
        return self.mean(hidden), self.log_variance(hidden)

    def _features(self, batch: CrystalBatch) -> Tensor:
        edges = find_edges(
            [c.positions for c in batch.crystals],
            [c.cell for c in batch.crystals],
            self.settings.encoder.cutoff_ang,
            dtype=self.lattice_mean.dtype,
            device=str(batch.types.device),
        )
        features: Tensor = self.encoder(batch.types, edges, batch.structure_of_atom, len(batch.crystals))
        return features

    def heads(self, latent: Tensor) -> Heads:
        """What latent vectors ``[n_structures, n_latent]`` say about whole structures."""
        return Heads(
            n_atoms=self.head_n_atoms(latent),
            lattice=self.head_lattice(latent),
            composition=self.head_composition(latent),
            phase=None if self.head_phase is None else self.head_phase(latent),
            value=None if self.head_value is None else self.head_value(latent)[:, 0],
        )

    def decode(
        self,
        latent: Tensor,
        phases: Tensor,
        types: Tensor,
        structure_of_atom: Tensor,
        positions: Sequence[np.ndarray],
        cells: Sequence[np.ndarray],
        levels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What the decoder says about noisy structures.

        Args:
            latent: ``[n_structures, n_latent]``.
            phases: int64 ``[n_structures]``.
            types: noisy elements, int64 ``[n_atoms]``.
            structure_of_atom: int64 ``[n_atoms]``.
            positions: noisy, of each structure ``[n_atoms, 3]``, Å.
            cells: of each structure ``[3, 3]``, Å.
            levels: standard deviation of the displacements, Å, and of the elements' noise, ``[n_structures, 2]``.

        Returns:
            Scores times the standard deviation of the noise, ``[n_atoms, 3]``, and logits of the elements,
            ``[n_atoms, n_elements]``.
        """
        edges = find_edges(
            positions,
            cells,
            self.settings.decoder.cutoff_ang,
            dtype=latent.dtype,
            device=str(latent.device),
        )
        waves = None
        if self.settings.decoder.n_wave_channels:
            waves = find_waves(positions, cells, dtype=latent.dtype, device=str(latent.device))
        scores, logits = self.decoder(latent, phases, types, edges, structure_of_atom, levels, waves)
        return scores, logits
