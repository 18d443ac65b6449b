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
class _SiteEncoder:
    """Latent vectors of occupations on ideal sites.

    The volume is one that follows from the composition, so that what is known and what is proposed are seen alike.

    Attributes:
        model: the encoder.
        space: elements and lattices.
        volumes: for each phase mean fractions ``[n_elements]``, mean volume and its slopes ``[n_elements]``, Å³ an
            atom.
    """

    model: Pcdvae
    space: DesignSpace
    volumes: Sequence[tuple[np.ndarray, float, np.ndarray]]

    def latents(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """``[n, n_latent]`` of occupations ``[n, n_sites]``."""
        phase = self.space.phases.index(lattice.phase)
        center, mean, slopes = self.volumes[phase]
        crystals = []
        for types, fractions in zip(occupations, self.space.counts(occupations) / lattice.n_sites, strict=True):
            cell = lattice.cell(mean + float((fractions - center) @ slopes))
            positions = lattice.scaled_positions @ cell
            crystals.append(Crystal(types.astype(np.int64), positions, Torus(cell), cell, phase, np.nan))
        return encodings(self.model, crystals)[0]


@dataclass(frozen=True)
class LatentJudge:
    """What scores to expect of occupations.

    Attributes:
        encoder: makes latent vectors of them.
        process: from latent vectors to scores, of which larger ones are better.
        feasibility: where evaluations failed.
    """

    encoder: _SiteEncoder
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
        """Fit to labels, whether the model has learnt from them or not; at least one."""
        phases = np.array([space.phases.index(one.lattice.phase) for one in known])
        fractions = np.array([space.counts(one.occupation) / one.lattice.n_sites for one in known])
        volumes_ang3 = np.array([one.relaxed_volume_ang3 for one in known])
        volumes = []
        for phase in range(len(space.phases)):
            rows = phases == phase if (phases == phase).any() else np.full(len(known), True)
            center, mean = fractions[rows].mean(0), float(volumes_ang3[rows].mean())
            slopes = np.linalg.lstsq(fractions[rows] - center, volumes_ang3[rows] - mean, rcond=1e-6)[0]
            volumes.append((center, mean, slopes))
        encoder = _SiteEncoder(model, space, volumes)
        latents = np.empty((len(known), model.settings.n_latent))
        for phase, lattice in enumerate(space.lattices):
            places = np.flatnonzero(phases == phase).tolist()
            if places:
                latents[places] = encoder.latents(lattice, np.array([known[k].occupation for k in places]))
        scores = np.array([one.score for one in known], dtype=float)
        process = fit_latent_process(latents, phases, scores, seed=seed)
        return cls(encoder, process, learn_feasibility(space, evaluations))

    def drawn(
        self, lattice: ParentLattice, occupations: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Expected scores of occupations ``[n, n_sites]``, and scores drawn from their joint distribution, ``[n]``."""
        mean, covariance = self.process.joint(self.encoder.latents(lattice, occupations), self._phase(lattice))
        return mean, rng.multivariate_normal(mean, covariance, method="eigh", check_valid="ignore")

    def expected(self, lattice: ParentLattice, occupations: np.ndarray) -> np.ndarray:
        """Expected scores of occupations ``[n, n_sites]``."""
        return self.process.predict(self.encoder.latents(lattice, occupations), self._phase(lattice))[0]

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
        search = OrderingSearch(self.encoder.space, lattice, score, settings.n_survivors, settings.n_steps)
        return search.run(starts, rng)

    def _scored(self, lattice: ParentLattice, optimism: np.ndarray, occupations: np.ndarray) -> Scored:
        mean, std = self.process.predict(self.encoder.latents(lattice, occupations), self._phase(lattice))
        fractions = self.encoder.space.counts(occupations) / lattice.n_sites
        risk = self.feasibility.penalty(lattice.phase, fractions, self.process.spread)
        prints = np.round(mean / max(self.process.spread, 1e-12), _PRINT_DIGITS)
        return Scored(occupations, mean + optimism[:, None] * std - risk, prints)

    def _phase(self, lattice: ParentLattice) -> int:
        return self.encoder.space.phases.index(lattice.phase)
