"""Structures from a trained P-CDVAE: drawn at random, like given ones, or better than these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from ...structures.settings import Settings
from ...surrogates.base import SurrogateError
from .fitted import FittedPcdvae, LatentSource
from .optimization import LatentOptimizationSettings, optimize_latents
from .sampler_settings import PredictorCorrectorSettings, SamplerSettings
from .sampling import Draft, Progress, drafts, generator_of, sample

_LEAST_NOISE_ANG = 0.5  # that a decoder must have learnt to find a lattice; neighbours are some 2.5 Å apart

Note = Callable[[str, int, int], None]
"""Progress: what is done, how much of it, and of how much."""


class DrawingSettings(Settings):
    """How structures are drawn from latent vectors."""

    sampler: SamplerSettings = PredictorCorrectorSettings()
    """How the noise is undone."""
    start: Literal["sites", "anywhere"] = "sites"
    """Where atoms start from: `sites`, those of a training structure with as many atoms in the phase that is predicted,
    displaced by `start_sigma_ang`; or `anywhere` in the cell, as published, from where the decoder has to find the
    lattice, which takes a well-trained one. Where no training structure fits, they start anywhere."""
    start_sigma_ang: float = Field(default=0.3, gt=0.0)
    """How far from these sites atoms start, Å; the largest noise that is undone. Never more than the largest that the
    model has learnt."""


class GenerationSettings(DrawingSettings):
    """How structures are generated."""

    latents: LatentSource = "encodings"
    """Where latent vectors come from that belong to no given structure: `encodings`, those of the training structures
    with their noise, or `normal`, the standard normal distribution, as published."""
    optimization: LatentOptimizationSettings = LatentOptimizationSettings()
    """How latent vectors are optimized where that is asked for."""
    seed: int = Field(default=0, ge=0)
    """Everything random derives from it."""


def generated(
    fitted: FittedPcdvae,
    settings: GenerationSettings,
    n: int,
    *,
    starts: Sequence[Atoms] = (),
    optimizes: bool = False,
    note: Note | None = None,
) -> list[Atoms]:
    """Generate structures.

    Args:
        n: how many latent vectors to draw; not looked at where there are ``starts``.
        starts: structures whose latent vectors are taken.
        optimizes: whether the latent vectors are optimized, and structures drawn on the way.

    Returns:
        Structures, by step of the optimization and then by start, whose ``info`` says the ``phase``, the step
        (``latent_step``), the number of the start (``start``, from 0), and the property that the model expects
        (``expected_<property>``).

    Raises:
        SurrogateError: nothing to optimize, or too little noise for atoms that start anywhere.
        StructureError: starts that the model cannot encode.
    """
    rng = generator_of(settings.seed, "latents")
    latents = fitted.encode(starts) if starts else fitted.random_latents(n, rng, settings.latents)
    by_step: dict[int, np.ndarray] = {0: latents}
    if optimizes:
        total = settings.optimization.decode_at[-1]
        progress = _noting(note, "optimizing", total)
        by_step = dict(optimize_latents(fitted, latents, settings.optimization, seed=settings.seed, progress=progress))
    steps = [step for step in by_step for _ in latents]
    progress = _noting(note, "drawing", len(steps))
    structures = drawn(fitted, np.concatenate(list(by_step.values())), settings, seed=settings.seed, progress=progress)
    for k, (atoms, step) in enumerate(zip(structures, steps, strict=True)):
        atoms.info |= {"start": k % len(latents), "latent_step": step}
    return structures


def drawn(
    fitted: FittedPcdvae,
    latents: np.ndarray,
    settings: DrawingSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> list[Atoms]:
    """Draw a structure for each latent vector.

    Args:
        latents: ``[n, n_latent]``.
        progress: called with the number of structures that are done.

    Returns:
        Structures whose ``info`` says the ``phase`` and ``expected_<property>``.

    Raises:
        SurrogateError: the model has learnt too little noise for atoms that start anywhere.
    """
    wanted = drafts(fitted.model, latents)
    if settings.start == "sites":
        wanted = [_on_sites(fitted, draft, settings.start_sigma_ang) for draft in wanted]
    largest = fitted.model.settings.noise.sigma_max_ang or np.inf
    if largest < _LEAST_NOISE_ANG and any(draft.scaled_sites is None for draft in wanted):
        raise SurrogateError(
            f"the model has learnt noise of at most {largest:g} Å, as those of campaigns have, so it cannot find the "
            "sites of atoms that start anywhere; leave `start` at `sites`, with phases and numbers of atoms that the "
            "training data has, or fit a model with noise.sigma_max_ang of 1"
        )
    structures = sample(fitted.model, wanted, settings.sampler, seed=seed, progress=progress)
    if fitted.property is not None:
        for atoms, draft in zip(structures, wanted, strict=True):
            atoms.info[f"expected_{fitted.property}"] = draft.value
    return structures


def _on_sites(fitted: FittedPcdvae, draft: Draft, sigma_ang: float) -> Draft:
    sites = fitted.sites.get((draft.phase, int(draft.counts.sum())))
    return draft if sites is None else replace(draft, scaled_sites=sites, start_sigma_ang=sigma_ang)


def _noting(note: Note | None, what: Literal["optimizing", "drawing"], total: int) -> Callable[[int], None] | None:
    if note is None:
        return None
    return lambda n: note(what, n, total)
