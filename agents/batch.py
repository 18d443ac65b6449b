"""Choosing a batch from a pool: what is known about the pool, and how it changes with each choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..generators.base import Candidate, History
from ..generators.feasibility import chances
from ..structures.space import DesignSpace
from ..surrogates.base import SurrogateError
from ..surrogates.lattice_surrogate import LatticeSurrogate

_N_BASELINE = 24  # best evaluations that a candidate's improvement is measured against
_N_PENDING = 256  # latest pending candidates that are taken into account


@dataclass(frozen=True)
class BatchProblem:
    """A pool with its joint distribution, larger being better.

    The distribution covers, in this order, the pool, the pending candidates and the best evaluated structures.

    Attributes:
        n_pool, n_pending: how many of each.
        mean: ``[n]``.
        covariance: ``[n, n]``, of the noise-free objective.
        noise_variance: ``[n]``, of an evaluation.
        chance: of each candidate of the pool to give a label, ``[n_pool]``.
        seed: for whatever is random in the choice.
    """

    n_pool: int
    n_pending: int
    mean: np.ndarray
    covariance: np.ndarray
    noise_variance: np.ndarray
    chance: np.ndarray
    seed: int


class Selection(Protocol):
    """A way to choose from a pool."""

    def select(self, problem: BatchProblem, n: int) -> list[int]:
        """Indices of up to ``n`` different candidates of the pool, best first; deterministic in its arguments."""
        ...


def pose_batch_problem(space: DesignSpace, pool: Sequence[Candidate], history: History, seed: int) -> BatchProblem:
    """Ask the surrogate of ``history`` about the pool.

    Candidates of a phase that the surrogate has not seen are given the mean and spread of all labels.

    Raises:
        SurrogateError: there is no surrogate, or it cannot give joint predictions.
    """
    surrogate = history.surrogate
    if not isinstance(surrogate, LatticeSurrogate):
        raise SurrogateError("choosing a batch by an acquisition function needs a surrogate with joint predictions")
    pending = list(history.pending)[-_N_PENDING:]
    best = [e.candidate for e in history.best(_N_BASELINE)]
    candidates = [*pool, *pending, *best]
    sign = 1.0 if history.objective.direction == "maximize" else -1.0
    is_known = np.array([c.phase in surrogate.phases for c in candidates], dtype=bool)
    known = np.flatnonzero(is_known)
    joint = surrogate.joint([candidates[i].atoms for i in known], history.objective.property)

    scores = np.array([s for e in history.evaluations if (s := history.score(e)) is not None])
    n = len(candidates)
    mean = np.full(n, scores.mean() if len(scores) else 0.0)
    covariance = np.diag(np.full(n, scores.var() if len(scores) > 1 else 1.0))
    noise = np.zeros(n)
    mean[known], noise[known] = sign * joint.mean, joint.noise_variance
    covariance[np.ix_(known, known)] = joint.covariance

    chance = chances(space, history.evaluations, pool)
    return BatchProblem(len(pool), len(pending), mean, covariance, noise, chance, seed)


@dataclass
class Conditioned:
    """A joint normal distribution that is told, one after the other, that something will be measured.

    What the measurement will give is unknown, so the mean stays, and the spread of whatever is correlated shrinks.
    """

    covariance: np.ndarray
    noise_variance: np.ndarray

    @classmethod
    def of(cls, problem: BatchProblem) -> Conditioned:
        """The distribution of a problem, knowing that its pending candidates will be measured."""
        state = cls(problem.covariance.copy(), problem.noise_variance)
        for i in range(problem.n_pool, problem.n_pool + problem.n_pending):
            state.measure(i)
        return state

    @property
    def std(self) -> np.ndarray:
        """Standard deviation ``[n]`` that is left."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    def measure(self, i: int) -> None:
        """Structure ``i`` will be measured."""
        column = self.covariance[:, i].copy()
        variance = column[i] + self.noise_variance[i]
        if variance > 0.0:
            self.covariance -= np.outer(column, column) / variance
