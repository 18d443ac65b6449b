"""Sizes and noise of a P-CDVAE, how its losses are weighted, and the sizes that were published."""

from __future__ import annotations

from pydantic import Field, model_validator

from ...structures.settings import Settings


class EncoderSettings(Settings):
    """DimeNet++ (Gasteiger, Giri, Margraf, Günnemann, arXiv:2011.14115)."""

    cutoff_ang: float = Field(default=3.8, gt=1.0, le=10.0)
    """Atoms further apart do not exchange messages, Å; 3.8 holds the first two shells of NiFeCr alloys."""
    n_channels: int = Field(default=64, ge=1)
    """Width of messages."""
    n_blocks: int = Field(default=2, ge=1)
    """Rounds of messages."""
    n_degrees: int = Field(default=5, ge=1, le=12)
    """Angles enter through Legendre polynomials of degree 0 to this less one."""
    n_radial: int = Field(default=6, ge=1)
    """Radial functions of each degree."""
    n_interaction_channels: int = Field(default=32, ge=1)
    """Width of messages where they meet under an angle."""
    n_basis_channels: int = Field(default=8, ge=1)
    """Width that radial and angular functions are brought down to first."""
    n_output_channels: int = Field(default=128, ge=1)
    """Width of the layers that read atoms out."""
    n_before_skip: int = Field(default=1, ge=0)
    """Residual layers before the skip connection of a block."""
    n_after_skip: int = Field(default=1, ge=0)
    """Residual layers after it."""
    n_output_layers: int = Field(default=2, ge=0)
    """Layers that read atoms out."""


class DecoderSettings(Settings):
    """GemNet-dT (Gasteiger, Becker, Günnemann, NeurIPS 2021): triplets only, forces read out directly."""

    cutoff_ang: float = Field(default=3.8, gt=1.0, le=10.0)
    """Atoms further apart do not exchange messages, Å."""
    n_channels: int = Field(default=64, ge=1)
    """Width of atoms and messages."""
    n_blocks: int = Field(default=2, ge=1)
    """Rounds of messages."""
    n_degrees: int = Field(default=5, ge=1, le=12)
    """Angles enter through Legendre polynomials of degree 0 to this less one."""
    n_radial: int = Field(default=32, ge=2)
    """Gaussians that distances enter through."""
    n_triplet_channels: int = Field(default=32, ge=1)
    """Width of messages where they meet under an angle."""
    n_radial_channels: int = Field(default=16, ge=1)
    """Width that the Gaussians are brought down to."""
    n_circular_channels: int = Field(default=8, ge=1)
    """Width that products of Gaussians and Legendre polynomials are brought down to."""
    n_bilinear_channels: int = Field(default=32, ge=1)
    """Width behind the bilinear layer."""
    n_before_skip: int = Field(default=1, ge=0)
    """Residual layers before the skip connection of a block."""
    n_after_skip: int = Field(default=1, ge=0)
    """Residual layers after it."""
    n_after_concatenation: int = Field(default=1, ge=0)
    """Residual layers of messages after atoms are mixed in."""
    n_atom_layers: int = Field(default=1, ge=0)
    """Residual layers of atoms and of outputs."""
    sees_noise: bool = True
    """Whether it is told both noise levels; the published one is not."""
    n_wave_channels: int = Field(default=16, ge=0)
    """Combinations of density waves, by which all atoms together tell where the lattice lies; 0: none, as published."""


class NoiseSettings(Settings):
    """Noise levels that the decoder learns to undo (CDVAE: Xie et al., ICLR 2022)."""

    n_levels: int = Field(default=50, ge=2)
    """Levels, a constant factor apart."""
    sigma_min_ang: float = Field(default=0.03, gt=0.0)
    """Smallest standard deviation of displacements, Å. The published 0.01 is less than atoms of alloys relax by, and
    spends a sixth of the levels on telling them apart."""
    sigma_max_ang: float | None = Field(default=1.0, gt=0.0)
    """Largest standard deviation, Å; null: that at which atoms are spread evenly over each structure's own cell. From
    0.8 Å on nothing is left of a metal's lattice, and there is nothing to learn; the published 10 Å is twice what
    spreads atoms evenly over a cell of 54."""
    type_sigma_min: float = Field(default=0.01, gt=0.0)
    """Smallest weight of the predicted composition against an atom's own element."""
    type_sigma_max: float = Field(default=5.0, gt=0.0)
    """Largest weight."""

    @model_validator(mode="after")
    def _ascends(self) -> NoiseSettings:
        if self.sigma_max_ang is not None and self.sigma_max_ang <= self.sigma_min_ang:
            raise ValueError(f"sigma_max_ang must be above sigma_min_ang, got {self.sigma_max_ang}")
        if self.type_sigma_max <= self.type_sigma_min:
            raise ValueError(f"type_sigma_max must be above type_sigma_min, got {self.type_sigma_max}")
        return self


class LossWeights(Settings):
    """Weights of the parts of the loss; the defaults are the published ones."""

    n_atoms: float = Field(default=1.0, ge=0.0)
    """Cross-entropy of the number of atoms."""
    lattice: float = Field(default=10.0, ge=0.0)
    """Mean square of the standardized lengths and angles."""
    composition: float = Field(default=1.0, ge=0.0)
    """Cross-entropy of the composition."""
    phase: float = Field(default=1.0, ge=0.0)
    """Cross-entropy of the phase."""
    property: float = Field(default=1.0, ge=0.0)
    """Mean square of the standardized property."""
    coordinates: float = Field(default=10.0, ge=0.0)
    """Score matching."""
    types: float = Field(default=1.0, ge=0.0)
    """Cross-entropy of the atoms' elements."""
    kl: float = Field(default=0.01, ge=0.0)
    """Divergence of the latent vectors from a standard normal distribution."""


class PcdvaeSettings(Settings):
    """A P-CDVAE. The defaults are a compact one for cells of about 54 atoms on a CPU."""

    n_latent: int = Field(default=64, ge=1)
    """Length of the latent vector."""
    n_head_channels: int = Field(default=128, ge=1)
    """Width of the hidden layer of each head."""
    encoder: EncoderSettings = EncoderSettings()
    """From structures to latent vectors."""
    decoder: DecoderSettings = DecoderSettings()
    """From latent vectors and noisy structures to scores and elements."""
    noise: NoiseSettings = NoiseSettings()
    """Noise levels."""
    weights: LossWeights = LossWeights()
    """Weights of the losses."""
    whitening: float | None = Field(default=None, gt=0.0, lt=1.0)
    """The first encoder spreads the training structures evenly over all directions of latent space, but those in which
    it would spread them less than this share of the widest; `null`: as it comes, as published. As it comes, they differ
    mostly in composition, and how their atoms are ordered drowns in the noise of the latent vectors."""
    seed: int = Field(default=0, ge=0)
    """Of the first parameters."""

    @classmethod
    def published(cls) -> PcdvaeSettings:
        """The sizes and noise of CDVAE, which P-CDVAE keeps; neighbours are not capped, unlike there."""
        return cls(
            n_latent=256,
            n_head_channels=256,
            encoder=EncoderSettings(
                cutoff_ang=7.0, n_channels=128, n_blocks=4, n_degrees=7, n_radial=6, n_interaction_channels=64,
                n_basis_channels=8, n_output_channels=256, n_before_skip=1, n_after_skip=2, n_output_layers=3,
            ),
            decoder=DecoderSettings(
                cutoff_ang=7.0, n_channels=128, n_blocks=3, n_degrees=7, n_radial=128, n_triplet_channels=64,
                n_radial_channels=16, n_circular_channels=16, n_bilinear_channels=64, n_before_skip=1, n_after_skip=2,
                n_after_concatenation=1, n_atom_layers=3, sees_noise=False, n_wave_channels=0,
            ),
            noise=NoiseSettings(sigma_min_ang=0.01, sigma_max_ang=10.0),
        )  # fmt: skip
