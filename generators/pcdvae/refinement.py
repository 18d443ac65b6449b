"""Orderings that a process on latent vectors finds promising, searched from what the decoder draws.

The decoder has seen nothing but what was labelled, mostly random orderings, and draws nothing that is much better
ordered. But the process on its encoder's latent vectors follows the trend beyond: an evolution of what was drawn, whose
children are encoded and judged in whole batches, goes where no draw does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from ...structures.lattice import ParentLattice
from ...structures.settings import Settings
from ...structures.space import DesignSpace
from ..base import Evaluation
from ..feasibility import Feasibility, learn_feasibility
from ..ordering_search import OrderingSearch, Scored
from ..seen import Known
from .crystals import Crystal
from .fitted import encodings
from .latent_process import LatentProcess, fit_latent_process
from .model import Pcdvae
from .torus import Torus

_PRINT_DIGITS = 4  # of scores by their spread; symmetry images differ by the rounding of float32
_PENALTY = 4.0  # spreads of scores that a certain failure costs


class RefinementSettings(Settings):
    """Evolution of what the decoder draws, judged by a Gaussian process on latent vectors."""

    share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Chance of each proposal to come from it; 0: none does."""
    optimism: tuple[float, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    """Levels of optimism to search with, in standard deviations of the process; as many of them, drawn at random, as
    there are proposals, if these are fewer."""
    n_survivors: PositiveInt = 6
    """Structures of each phase that each level of optimism keeps from one step to the next."""
    n_steps: NonNegativeInt = 25
    """Steps of the evolution. Three children a survivor are encoded in each, at some milliseconds a structure."""


@dataclass(frozen=True)
class LatentJudge:
    """What scores to expect of occupations, as they are encoded on ideal sites.

    The volume is one that follows from the composition, so that what is known and what is proposed are seen alike.

    Attributes:
        model: the encoder.
        space: elements and lattices.
        volumes: for each phase mean fractions ``[n_elements]``, mean volume and its slopes ``[n_elements]``, Å³ an
            atom.
        process: from latent vectors to scores, of which larger ones are better.
        feasibility: where evaluations failed.
    """

    model: Pcdvae
    space: DesignSpace
    volumes: Sequence[tuple[np.ndarray, float, np.ndarray]]
    process: LatentProcess
    feasibility: Feasibility

    @classmethod
    def of(
        cls,
        model: Pcdvae,
        space: DesignSpace,
        known: Sequence[Known],
        evaluations: Sequence[Evaluation],
        *,
        seed: int,
    ) -> LatentJudge:
        """Fit to all that is labelled, whether the model has learnt from it or not; at least one structure."""
        phases = np.array([space.phases.index(one.lattice.phase) for one in known])
        fractions = np.array([space.counts(one.occupation) / one.lattice.n_sites for one in known])
        volumes_ang3 = np.array([_volume(one) for one in known])
        volumes = []
        for phase in range(len(space.phases)):
            rows = phases == phase if (phases == phase).any() else np.full(len(known), True)
            center, mean = fractions[rows].mean(0), float(volumes_ang3[rows].mean())
            slopes = np.linalg.lstsq(fractions[rows] - center, volumes_ang3[rows] - mean, rcond=1e-6)[0]
            volumes.append((center, mean, slopes))
        latents = np.empty((len(known), model.settings.n_latent))
        for lattice in space.lattices:
            rows = phases == space.phases.index(lattice.phase)
            if rows.any():
                occupations = np.array([known[k].occupation for k in np.flatnonzero(rows).tolist()])
                latents[rows] = _latents(model, space, lattice, volumes, occupations)
        scores = np.array([one.score for one in known], dtype=float)
        process = fit_latent_process(latents, phases, scores, seed=seed)
        return cls(model, space, volumes, process, learn_feasibility(space, evaluations))

    def drawn(
        self, lattice: ParentLattice, occupations: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Expected scores of occupations ``[n, n_sites]``, and scores drawn from their joint distribution, ``[n]``."""
        latents = _latents(self.model, self.space, lattice, self.volumes, occupations)
        mean, covariance = self.process.joint(latents, self.space.phases.index(lattice.phase))
        return mean, rng.multivariate_normal(mean, covariance, method="eigh", check_valid="ignore")

    def expected(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """Expected scores of occupations ``[n, n_sites]``."""
        latents = _latents(self.model, self.space, lattice, self.volumes, occupations)
        return self.process.predict(latents, self.space.phases.index(lattice.phase))[0]

    def refined(
        self,
        lattice: ParentLattice,
        starts: np.ndarray,
        optimism: np.ndarray,
        settings: RefinementSettings,
        rng: np.random.Generator,
    ) -> Scored:
        """What an evolution from occupations ``[n, n_sites]`` ends with, by each of these levels of optimism."""
        score = partial(self._scored, lattice, optimism)
        return OrderingSearch(self.space, lattice, score, settings.n_survivors, settings.n_steps).run(starts, rng)

    def _scored(self, lattice: ParentLattice, optimism: np.ndarray, occupations: np.ndarray) -> Scored:
        latents = _latents(self.model, self.space, lattice, self.volumes, occupations)
        mean, std = self.process.predict(latents, self.space.phases.index(lattice.phase))
        fractions = self.space.counts(occupations) / lattice.n_sites
        risk = _PENALTY * self.process.spread * (1.0 - self.feasibility.chance(lattice.phase, fractions))
        prints = np.round(mean / max(self.process.spread, 1e-12), _PRINT_DIGITS)
        return Scored(occupations, mean + optimism[:, None] * std - risk, prints)


def _latents(
    model: Pcdvae,
    space: DesignSpace,
    lattice: ParentLattice,
    volumes: Sequence[tuple[np.ndarray, float, np.ndarray]],
    occupations: np.ndarray,
) -> np.ndarray:
    phase = space.phases.index(lattice.phase)
    center, mean, slopes = volumes[phase]
    crystals = []
    for types, fractions in zip(occupations, space.counts(occupations) / lattice.n_sites, strict=True):
        volume_ang3 = mean + float((fractions - center) @ slopes)
        cell = lattice.decorate(["H"] * lattice.n_sites, volume_ang3).cell.array
        crystals.append(
            Crystal(types.astype(np.int64), lattice.scaled_positions @ cell, Torus(cell), cell, phase, np.nan)
        )
    return encodings(model, crystals)[0]


def _volume(known: Known) -> float:
    label = known.evaluation.label
    assert label is not None
    return abs(float(label.atoms.cell.volume)) / len(label.atoms)
