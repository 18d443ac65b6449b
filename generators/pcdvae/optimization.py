"""Going through latent space to where the property is better, with the weights as they are.

As published (Naghdi, Kaszuba et al., 2024, Sec. 4.3) Adam follows the gradient of FC-property wherever it leads, until
most latent vectors no longer decode into crystals. Beside that there is a form that knows where it has data: an
ensemble of property heads, each fitted to a bootstrap sample of the training structures' latent vectors, is followed
by its mean less some of its spread, and a step that leaves the trust region about the start is cut back to its rim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import silu

from ...structures.settings import Settings
from ...surrogates.base import SurrogateError
from ...surrogates.threads import threads
from .fitted import FittedPcdvae

_N_HIDDEN = 64
_N_FIT_STEPS = 400
_DECAY = 1e-3


class LatentOptimizationSettings(Settings):
    """Adam on latent vectors."""

    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether large or small values are wanted."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of Adam."""
    decode_at: tuple[int, ...] = Field(default=(200, 500, 1000, 1500, 2500), min_length=1)
    """Steps after which structures are drawn; 0 is the start."""
    n_heads: int = Field(default=8, ge=0)
    """Property heads of the ensemble; 0: the model's own head alone, as published."""
    caution: float = Field(default=1.0, ge=0.0)
    """Standard deviations of the ensemble that are taken off its mean."""
    trust_radius: float | None = Field(default=1.0, gt=0.0)
    """How far a latent vector may go from its start: root mean square over its components, each in units of the spread
    that the training structures have in it. null: anywhere, as published."""

    @classmethod
    def published(cls) -> LatentOptimizationSettings:
        """As published."""
        return cls(n_heads=0, caution=0.0, trust_radius=None)

    @field_validator("decode_at")
    @classmethod
    def _ascends(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if steps[0] < 0 or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(f"decode_at must ascend from 0 or more, got {', '.join(map(str, steps))}")
        return steps


class PropertyEnsemble(nn.Module):
    """Heads with one hidden layer, each of which tells the standardized property from latent vectors.

    Args:
        n_heads: number of heads.
        n_latent: length of the latent vectors.
    """

    def __init__(self, n_heads: int, n_latent: int) -> None:
        super().__init__()

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, dtype=torch.float64) / shape[-2] ** 0.5)

        self.first, self.last = normal(n_heads, n_latent, _N_HIDDEN), normal(n_heads, _N_HIDDEN, 1)
        self.shift = nn.Parameter(torch.zeros(n_heads, 1, _N_HIDDEN, dtype=torch.float64))
        self.offset = nn.Parameter(torch.zeros(n_heads, 1, dtype=torch.float64))

    def forward(self, latents: Tensor) -> Tensor:
        """``[n, n_latent]`` -> ``[n_heads, n]``."""
        return (silu(latents @ self.first + self.shift) @ self.last)[..., 0] + self.offset


@threads(1)
def fit_ensemble(fitted: FittedPcdvae, n_heads: int, *, seed: int) -> PropertyEnsemble:
    """Fit heads to the latent vectors and values of the training structures.

    Each head has its own bootstrap sample, and sees latent vectors with the noise of their posterior.
    """
    rng = np.random.default_rng(seed)
    n, n_latent = fitted.latents.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        ensemble = PropertyEnsemble(n_heads, n_latent)
    targets = torch.from_numpy((fitted.values - _mean(fitted)) / _spread(fitted))
    weights = torch.from_numpy(rng.multinomial(n, np.full(n, 1.0 / n), size=n_heads).astype(float))
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=1e-2, weight_decay=_DECAY, foreach=False)
    for _ in range(_N_FIT_STEPS):
        latents = torch.from_numpy(fitted.latents + fitted.deviations * rng.standard_normal((n, n_latent)))
        loss = (weights * (ensemble(latents) - targets).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ensemble


@threads(1)
def optimize_latents(
    fitted: FittedPcdvae,
    starts: np.ndarray,
    settings: LatentOptimizationSettings,
    *,
    seed: int,
    ensemble: PropertyEnsemble | None = None,
    progress: Callable[[int], None] | None = None,
) -> Mapping[int, np.ndarray]:
    """Move latent vectors to where the property is better.

    Args:
        starts: ``[n, n_latent]``.
        seed: of the ensemble.
        ensemble: the one to follow, where it is fitted already.
        progress: called with the number of steps made.

    Returns:
        Step -> latent vectors ``[n, n_latent]``, for each step of ``decode_at``.

    Raises:
        SurrogateError: the model was trained without a property.
    """
    if fitted.property is None:
        raise SurrogateError("the model was trained without a property, so there is nothing to optimize")
    if ensemble is None and settings.n_heads:
        ensemble = fit_ensemble(fitted, settings.n_heads, seed=seed)
    sign = 1.0 if settings.direction == "maximize" else -1.0
    start = torch.from_numpy(np.asarray(starts, dtype=np.float64))
    scale = torch.from_numpy(np.sqrt(fitted.latents.var(0) + np.square(fitted.deviations).mean(0)))
    latents = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=settings.learning_rate, foreach=False)
    found: dict[int, np.ndarray] = {}
    for step in range(settings.decode_at[-1] + 1):
        if step in settings.decode_at:
            found[step] = latents.detach().numpy().copy()
            if progress is not None:
                progress(step)
        if step == settings.decode_at[-1]:
            break
        (gradient,) = torch.autograd.grad(-_worth(fitted, ensemble, latents, sign, settings.caution).sum(), latents)
        latents.grad = gradient
        optimizer.step()
        if settings.trust_radius is not None:
            with torch.no_grad():
                moved = latents - start
                distance = (moved / scale).square().mean(-1, keepdim=True).sqrt()
                latents.copy_(start + moved * (settings.trust_radius / distance.clamp_min(1e-300)).clamp_max(1.0))
    return found


def expected(fitted: FittedPcdvae, ensemble: PropertyEnsemble | None, latents: Tensor) -> Tensor:
    """What each head of an ensemble, or the model's own, expects of latent vectors float64 ``[n, n_latent]``:
    ``[n_heads, n]``, in standard deviations of the training data from their mean."""
    if ensemble is not None:
        found: Tensor = ensemble(latents)
        return found
    head = fitted.model.head_value
    assert head is not None
    return head(latents.to(fitted.model.value_mean.dtype))[:, 0].double().unsqueeze(0)


def _worth(
    fitted: FittedPcdvae, ensemble: PropertyEnsemble | None, latents: Tensor, sign: float, caution: float
) -> Tensor:
    """What is maximized, ``[n]``, in standard deviations of the training data."""
    found = sign * expected(fitted, ensemble, latents)
    if ensemble is None:
        return found[0]
    # the root has no slope where all heads agree, as a single one does with itself
    spread = found.var(0, correction=0).add(1e-12).sqrt()
    return found.mean(0) - caution * spread


def _mean(fitted: FittedPcdvae) -> float:
    return float(fitted.model.value_mean)


def _spread(fitted: FittedPcdvae) -> float:
    return float(fitted.model.value_spread)
