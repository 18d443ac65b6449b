"""How structures are drawn from a P-CDVAE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ...structures.settings import Settings


class LangevinSettings(Settings):
    """Annealed Langevin dynamics (Song, Ermon, NeurIPS 2019), as CDVAE does it: `n_levels` × `n_steps` calls of the
    decoder."""

    kind: Literal["langevin"] = "langevin"
    n_levels: PositiveInt = 50
    """Noise levels, a constant factor apart."""
    n_steps: PositiveInt = 100
    """Steps at each level."""
    step: float = Field(default=0.2, gt=0.0, le=1.0)
    """Length of a step in σ². The published 1 doubles the variance of what is drawn at each level; 0.2 makes it 11 %
    too large."""
    conserves_composition: bool = True
    """Whether the number of atoms of each element is decided once; as published, every atom takes its likeliest
    element after each step."""

    @classmethod
    def published(cls) -> LangevinSettings:
        """As in CDVAE and P-CDVAE: 5,000 calls of the decoder."""
        return cls(step=1.0, conserves_composition=False)

    @property
    def n_calls(self) -> int:
        """Calls of the decoder for each structure."""
        return self.n_levels * self.n_steps


class PredictorCorrectorSettings(Settings):
    """From each noise level to the next by the denoised structure (Song et al., ICLR 2021), each step followed by
    corrections by Langevin dynamics: `n_levels` × (1 + `n_corrections`) calls of the decoder."""

    kind: Literal["predictor_corrector"] = "predictor_corrector"
    n_levels: PositiveInt = 40
    """Noise levels, a constant factor apart."""
    n_corrections: NonNegativeInt = 1
    """Langevin steps at each level."""
    step: float = Field(default=0.2, gt=0.0, le=1.0)
    """Their length in σ²."""
    search_step: float = Field(default=1.0, gt=0.0, le=1.0)
    """The same for structures that start anywhere in the cell. It is too long for the right variance at each level, but
    atoms that froze in the wrong place find another one."""
    stochasticity: float = Field(default=1.0, ge=0.0, le=1.0)
    """1: ancestral sampling, where fresh noise replaces old; 0: the probability flow, without any fresh noise."""

    @property
    def n_calls(self) -> int:
        """Calls of the decoder for each structure."""
        return self.n_levels * (1 + self.n_corrections)


SamplerSettings = Annotated[LangevinSettings | PredictorCorrectorSettings, Field(discriminator="kind")]
"""A sampler, by ``kind``."""
