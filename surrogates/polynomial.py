"""The baseline: a cubic polynomial in composition for each phase, by Bayesian linear regression.

It sees nothing of the ordering, so what orderings of one composition differ by is its irreducible spread. On published
NiFeCr bulk moduli it reaches R² ≈ 0.87; every other model has to beat it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from ..structures.base import Phase
from ..structures.settings import Settings
from .base import (
    Metrics,
    Prediction,
    Report,
    Surrogate,
    SurrogateError,
    SurrogateSpec,
    SurrogateState,
    TrainingSet,
)
from .feature_surrogate import FeatureSurrogate
from .features import FeatureTable, OrderFeatures
from .lattice_surrogate import JointPrediction
from .metrics import calibration
from .system import System, elements_of

KIND: Literal["polynomial"] = "polynomial"
_STRENGTHS = np.logspace(-8, 1, 28)  # prior precision of the coefficients relative to the noise's, tried in turn


@dataclass(frozen=True)
class PhasePolynomial:
    """The posterior of one property's coefficients in one phase.

    Attributes:
        mean: coefficients ``[n_terms]``.
        covariance: of the coefficients ``[n_terms, n_terms]``.
        variance: of the residual, which is that of orderings.
    """

    mean: np.ndarray
    covariance: np.ndarray
    variance: float

    def drawn(self, n: int, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """Coefficients ``[n, n_terms]`` drawn from the posterior, ``spread`` times as far from its mean."""
        values, vectors = np.linalg.eigh(self.covariance)
        lots = rng.normal(size=(n, len(values))) * np.sqrt(np.maximum(values, 0.0))
        return self.mean + spread * lots @ vectors.T


@dataclass(frozen=True)
class Polynomial(FeatureSurrogate):
    """A fitted baseline; see :class:`PolynomialTrainer`."""

    spec: SurrogateSpec
    degree: int
    pieces: dict[Phase, tuple[PhasePolynomial, ...]]
    metrics: Metrics

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases it was fitted on."""
        return tuple(self.pieces)

    def _order_features(self) -> OrderFeatures:
        return OrderFeatures(self.spec.elements, n_shells=0, has_chains=False)

    def joint(self, structures: Sequence[Atoms], property_name: str) -> JointPrediction:
        """Joint distribution: orderings differ independently of each other."""
        column = list(self.spec.properties).index(property_name)
        table = self._order_features().from_atoms(structures)
        self._check(table)
        mean = np.zeros(len(table))
        covariance = np.zeros((len(table), len(table)))
        for phase in dict.fromkeys(table.phases):
            rows, piece = table.rows(phase), self.pieces[phase][column]
            terms = monomials(table.values[rows], self.degree)
            mean[rows] = terms @ piece.mean
            covariance[np.ix_(rows, rows)] = terms @ piece.covariance @ terms.T + piece.variance * np.eye(len(rows))
        return JointPrediction(mean, covariance, np.zeros(len(table)))

    def _check(self, table: FeatureTable) -> None:
        unknown = sorted(set(table.phases) - set(self.pieces))
        if unknown:
            raise SurrogateError(f"phase {', '.join(unknown)} was not in the training data: {', '.join(self.phases)}")

    def _predict(self, table: FeatureTable) -> Prediction:
        self._check(table)
        shape = (len(table), len(self.spec.properties))
        mean, std = np.zeros(shape), np.zeros(shape)
        for phase in dict.fromkeys(table.phases):
            rows = table.rows(phase)
            terms = monomials(table.values[rows], self.degree)
            for column, piece in enumerate(self.pieces[phase]):
                mean[rows, column] = terms @ piece.mean
                variance = np.einsum("ni,ij,nj->n", terms, piece.covariance, terms) + piece.variance
                std[rows, column] = np.sqrt(np.maximum(variance, 0.0))
        return Prediction(mean, std)

    def state(self) -> SurrogateState:
        """Plain data."""
        arrays: dict[str, np.ndarray] = {}
        for phase, pieces in self.pieces.items():
            for column, piece in enumerate(pieces):
                arrays[f"{phase}.{column}.mean"] = piece.mean
                arrays[f"{phase}.{column}.covariance"] = piece.covariance
                arrays[f"{phase}.{column}.variance"] = np.array([piece.variance])
        settings = {
            "elements": list(self.spec.elements),
            "properties": dict(self.spec.properties),
            "n_train": self.spec.n_train,
            "degree": self.degree,
            "phases": list(self.pieces),
            "metrics": dict(self.metrics),
        }
        return SurrogateState(KIND, settings, arrays)

    @classmethod
    def from_state(cls, state: SurrogateState) -> Polynomial:
        """The inverse of :meth:`state`.

        Raises:
            SurrogateError: the state is of another kind or incomplete.
        """
        if state.kind != KIND:
            raise SurrogateError(f"a {KIND} cannot be made of a {state.kind}")
        s: dict[str, Any] = dict(state.settings)
        try:
            pieces = {
                phase: tuple(
                    PhasePolynomial(
                        state.arrays[f"{phase}.{column}.mean"],
                        state.arrays[f"{phase}.{column}.covariance"],
                        float(state.arrays[f"{phase}.{column}.variance"][0]),
                    )
                    for column in range(len(s["properties"]))
                )
                for phase in s["phases"]
            }
            spec = SurrogateSpec(KIND, dict(s["properties"]), tuple(s["elements"]), s["n_train"])
            return cls(spec, s["degree"], pieces, dict(s["metrics"]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SurrogateError(f"the state of a {KIND} is incomplete: {error!r}") from error


@dataclass(frozen=True)
class PolynomialTrainer:
    """Fits :class:`Polynomial`.

    Attributes:
        elements: symbols.
        degree: of the polynomial.
    """

    elements: tuple[str, ...]
    degree: int

    def fit(
        self, data: TrainingSet, *, seed: int, warm_start: Surrogate | None = None, report: Report | None = None
    ) -> Polynomial:
        """Fit by regression whose prior and noise maximize the evidence; neither seed nor warm start matters.

        Raises:
            SurrogateError: no labels, unknown elements, or structures without a phase.
        """
        if not len(data.structures):
            raise SurrogateError("a polynomial needs at least one label, got none")
        started = time.perf_counter()
        table = OrderFeatures(self.elements, n_shells=0, has_chains=False).from_atoms(data.structures)
        least = 1e-6 * np.maximum(data.targets.var(axis=0), 1e-12)
        pieces: dict[Phase, tuple[PhasePolynomial, ...]] = {}
        for phase in sorted(set(table.phases)):
            rows = table.rows(phase)
            terms = monomials(table.values[rows], self.degree)
            pieces[phase] = tuple(
                fit_piece(terms, data.targets[rows, column], float(least[column]))
                for column in range(len(data.properties))
            )
        spec = SurrogateSpec(KIND, dict(data.properties), self.elements, len(data.structures))
        surrogate = Polynomial(spec, self.degree, pieces, {})
        fitted = surrogate.predict(data.structures)
        metrics = calibration(fitted.mean[:, 0], fitted.std[:, 0], data.targets[:, 0])
        metrics["n_train"] = float(len(data.structures))
        if report is not None:
            report(1, metrics | {"wall_s": time.perf_counter() - started})
        return Polynomial(spec, self.degree, pieces, metrics)


def monomials(fractions: np.ndarray, degree: int) -> np.ndarray:
    """All products of ``degree`` fractions, ``[n, n_terms]``: since fractions add up to one, they span every
    polynomial up to that degree (Scheffé's canonical form).

    Args:
        fractions: ``[n, n_elements]``.
        degree: at least 1.
    """
    terms = combinations_with_replacement(range(fractions.shape[1]), degree)
    return np.stack([np.prod(fractions[:, list(term)], axis=1) for term in terms], axis=1)


def fit_piece(terms: np.ndarray, targets: np.ndarray, least_variance: float) -> PhasePolynomial:
    """Bayesian linear regression with the mean of the targets as the mean of the prior.

    The strength of the zero-mean prior is the one of largest evidence, with the noise integrated out
    (Bishop 2006, section 3.5).

    Args:
        terms: ``[n, n_terms]``, every row of which a constant can be made of.
        targets: ``[n]``.
        least_variance: smallest residual variance to assume, in squared units of the target.
    """
    n = len(targets)
    constant = np.linalg.lstsq(terms, np.ones(n), rcond=None)[0]
    centre = targets.mean()
    left, singular, right = np.linalg.svd(terms, full_matrices=False)
    projected = left.T @ (targets - centre)
    outside = max(float(((targets - centre) ** 2).sum() - (projected**2).sum()), 0.0)
    best: tuple[float, float, float] | None = None
    for strength in _STRENGTHS:
        shrink = strength / (singular**2 + strength)
        # Half a pseudo-observation of the least variance keeps a perfect fit from claiming certainty.
        noise = (outside + float((shrink * projected**2).sum()) + least_variance) / n
        evidence = -0.5 * n * np.log(max(noise, least_variance)) + 0.5 * float(np.log(shrink).sum())
        if best is None or evidence > best[0]:
            best = (evidence, float(strength), max(noise, least_variance))
    if best is None:
        raise SurrogateError("no strength of the prior could be tried")
    _, strength, noise = best
    mean = right.T @ (singular / (singular**2 + strength) * projected) + centre * constant
    covariance = noise * np.linalg.inv(terms.T @ terms + strength * np.eye(terms.shape[1]))
    return PhasePolynomial(mean, covariance, noise)


class PolynomialSettings(Settings):
    """A polynomial in composition for each phase, blind to ordering: the baseline."""

    kind: Literal["polynomial"] = KIND
    degree: int = Field(default=3, ge=1, le=6)
    """Degree of the polynomial."""

    def build(self, system: System) -> PolynomialTrainer:
        """A trainer for a design space, or for a tuple of elements."""
        return PolynomialTrainer(elements_of(system), self.degree)
