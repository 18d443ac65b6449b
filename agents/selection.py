"""Ways to choose a batch from a pool. All of them know what is pending, and spread the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from botorch.utils.safe_math import log_fatplus, logmeanexp
from botorch.utils.sampling import draw_sobol_normal_samples
from pydantic import Field, NonNegativeFloat, PositiveInt

from ..structures.settings import Settings
from ..surrogates.threads import threads
from .batch import BatchProblem, Conditioned, Selection

_SOFTNESS = 1e-6  # of the improvement's positive part, in standard deviations of the pool
_TOLD = 0.05  # share of its variance below which the chosen ones already tell all about a candidate


@dataclass(frozen=True)
class NoisyExpectedImprovement:
    """Batch noisy expected improvement in logarithms (qLogNEI), chosen greedily one by one.

    The joint posterior of pool, pending and best evaluated structures is sampled once, with a Sobol sequence. In each
    sample the incumbent is the best of the evaluated, pending and chosen structures, so noise, pending work and the
    diversity of the batch are all taken into account. After Ament et al., NeurIPS 2023; the logarithm of the softened
    improvement is BoTorch's.

    Attributes:
        n_samples: of the joint posterior.
    """

    n_samples: int

    @threads(1)
    def select(self, problem: BatchProblem, n: int) -> list[int]:
        """See :class:`~alloysmith.agents.batch.Selection`."""
        samples = self._samples(problem)
        rest = samples[:, problem.n_pool :]
        incumbent = rest.max(dim=1).values if rest.shape[1] else torch.full((len(samples),), float(samples.min()))
        log_chance = torch.log(torch.as_tensor(problem.chance).clamp(min=1e-12))
        is_free = torch.ones(problem.n_pool, dtype=torch.bool)
        chosen: list[int] = []
        for _ in range(min(n, problem.n_pool)):
            improvement = samples[:, : problem.n_pool] - incumbent[:, None]
            value = logmeanexp(log_fatplus(improvement, tau=_SOFTNESS), dim=0) + log_chance
            best = int(torch.where(is_free, value, -torch.inf).argmax())
            chosen.append(best)
            is_free[best] = False
            incumbent = torch.maximum(incumbent, samples[:, best])
        return chosen

    def _samples(self, problem: BatchProblem) -> torch.Tensor:
        """Standardized samples ``[n_samples, n]`` of the joint posterior."""
        shift = problem.mean[: problem.n_pool].mean()
        scale = max(float(np.sqrt(np.diagonal(problem.covariance)[: problem.n_pool].mean())), 1e-12)
        factor = _cholesky(torch.as_tensor(problem.covariance / scale**2))
        base = draw_sobol_normal_samples(len(factor), self.n_samples, seed=problem.seed % 2**31, dtype=factor.dtype)
        return torch.as_tensor((problem.mean - shift) / scale) + base @ factor.mT


def _cholesky(covariance: torch.Tensor) -> torch.Tensor:
    """A factor of a covariance that may be singular, since orderings can be nearly alike."""
    jitter = 1e-9
    while True:
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * torch.eye(len(covariance), dtype=torch.float64))
        if int(info) == 0:
            return factor
        jitter *= 10.0


@dataclass(frozen=True)
class UpperBound:
    """Largest ``mean + optimism × std``, the spread being updated for what is pending and chosen (batch UCB).

    Attributes:
        optimism: in standard deviations.
    """

    optimism: float

    def select(self, problem: BatchProblem, n: int) -> list[int]:
        """See :class:`~alloysmith.agents.batch.Selection`."""
        state = Conditioned.of(problem)
        chosen: list[int] = []
        for _ in range(min(n, problem.n_pool)):
            value = _likely(problem, problem.mean[: problem.n_pool] + self.optimism * state.std[: problem.n_pool])
            value[chosen] = -np.inf
            chosen.append(int(value.argmax()))
            state.measure(chosen[-1])
        return chosen


@dataclass(frozen=True)
class Greedy:
    """Largest mean; passes over candidates that the pending and chosen ones already tell all about."""

    def select(self, problem: BatchProblem, n: int) -> list[int]:
        """See :class:`~alloysmith.agents.batch.Selection`."""
        state = Conditioned.of(problem)
        before = np.diagonal(problem.covariance)[: problem.n_pool]
        value = _likely(problem, problem.mean[: problem.n_pool].copy())
        chosen: list[int] = []
        for _ in range(min(n, problem.n_pool)):
            is_told = state.std[: problem.n_pool] ** 2 < _TOLD * before
            free = np.where(is_told, -np.inf, value)
            free[chosen] = -np.inf
            if not np.isfinite(free).any():  # all are alike: take the best that are left
                free = value.copy()
                free[chosen] = -np.inf
            chosen.append(int(free.argmax()))
            state.measure(chosen[-1])
        return chosen


@dataclass(frozen=True)
class RandomChoice:
    """Any candidates, evenly: the baseline for the other ways to choose."""

    def select(self, problem: BatchProblem, n: int) -> list[int]:
        """See :class:`~alloysmith.agents.batch.Selection`."""
        order = np.random.default_rng(problem.seed).permutation(problem.n_pool)
        return [int(i) for i in order[:n]]


def _likely(problem: BatchProblem, value: np.ndarray) -> np.ndarray:
    """``value``, weighted above its minimum by the chance of getting a label."""
    least = value.min()
    return least + (value - least) * problem.chance


class NoisyExpectedImprovementSettings(Settings):
    """Batch noisy expected improvement (qLogNEI): the usual choice."""

    kind: Literal["qlognei"] = "qlognei"
    n_samples: PositiveInt = 256
    """Samples of the joint posterior."""

    def build(self) -> Selection:
        """The selection."""
        return NoisyExpectedImprovement(self.n_samples)


class UpperBoundSettings(Settings):
    """Upper confidence bound."""

    kind: Literal["upper_bound"] = "upper_bound"
    optimism: NonNegativeFloat = 1.0
    """Standard deviations added to the mean."""

    def build(self) -> Selection:
        """The selection."""
        return UpperBound(self.optimism)


class GreedySettings(Settings):
    """Best predicted mean."""

    kind: Literal["greedy"] = "greedy"

    def build(self) -> Selection:
        """The selection."""
        return Greedy()


class RandomChoiceSettings(Settings):
    """Random choice from the pool."""

    kind: Literal["random"] = "random"

    def build(self) -> Selection:
        """The selection."""
        return RandomChoice()


SelectionSettings = Annotated[
    NoisyExpectedImprovementSettings | UpperBoundSettings | GreedySettings | RandomChoiceSettings,
    Field(discriminator="kind"),
]
"""Settings of a way to choose a batch."""
