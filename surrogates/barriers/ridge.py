"""Ridge regression on the species about a hop: the simplest model, and the paper's linear regression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ...structures.settings import Settings
from ..base import Report, SurrogateError, SurrogateState
from ..threads import threads
from .base import BarrierPrediction, BarrierSpec
from .calibration import Calibration
from .hop_lattice import hop_lattice
from .hops import Hops, Occupations, occupations, phase_of
from .site_features import FeatureKind, site_features

KIND = "barrier_ridge"
_PENALTIES = np.geomspace(1e-3, 1e4, 15)
_CHUNK = 4_000  # with thousands of columns for five elements


class RidgeSettings(Settings):
    """Ridge regression; the penalty with the smallest error on the validation hops is chosen."""

    kind: Literal["ridge"] = "ridge"
    features: FeatureKind = "counts"
    """What describes a hop: `sites` (one-hot, each lattice site by itself, as in the paper), `counts` (of species on
    sites that the hop's symmetry makes equivalent) or `pairs` (those and counts of neighbouring pairs)."""
    n_shells: int = Field(default=5, ge=1, le=8)
    """Neighbour shells about the vacancy and about the moving atom. BCC: 8, 14, 26, 50, 58, 64, 88, 112 atoms; FCC: 12,
    18, 42, 54, 78, 86, 134, 140."""
    per_moving_species: bool = True
    """Slopes for each moving species (of counts or sites; those of pairs are common), or one for all."""

    def fit(
        self,
        train: Hops,
        validation: Hops,
        *,
        elements: tuple[str, ...],
        seed: int,
        report: Report | None = None,
        checkpoint_path: Path | None = None,
    ) -> Ridge:
        """See :class:`~.base.BarrierTrainer`; nothing is random."""
        return _fit(self, train, validation, elements)


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted linear model.

    Attributes:
        weights: ``[n_features + 1]``, eV; the last is the constant.
    """

    spec: BarrierSpec
    settings: RidgeSettings
    calibration: Calibration
    weights: np.ndarray

    def predict(self, hops: Hops) -> BarrierPrediction:
        """See :class:`~.base.BarrierModel`."""
        lattice = hop_lattice(self.spec.phase, self.settings.n_shells)
        found = occupations(hops, lattice, self.spec.elements)
        mean = self.from_occupations(found)
        return BarrierPrediction(mean, self.calibration.std_ev(np.zeros(len(mean))))

    def from_occupations(self, found: Occupations) -> np.ndarray:
        """Barriers ``[n_hops]``, eV, of species on the sites of this model's lattice."""
        mean = np.empty(len(found.moving))
        with threads(1):
            for part in np.array_split(np.arange(len(mean)), 1 + len(mean) // _CHUNK):
                mean[part] = _columns(self.settings, self.spec, found.take(part)) @ self.weights
        return mean

    def state(self) -> SurrogateState:
        """See :class:`~.base.BarrierModel`."""
        return SurrogateState(
            KIND,
            {
                "spec": self.spec.as_settings(),
                "settings": self.settings.model_dump(mode="json"),
                "calibration": [self.calibration.floor_ev, self.calibration.factor],
            },
            {"weights": self.weights},
        )

    @classmethod
    def from_state(cls, state: SurrogateState) -> Ridge:
        """The inverse of :meth:`state`.

        Raises:
            SurrogateError: something is missing.
        """
        try:
            return cls(
                BarrierSpec.from_settings(state.settings["spec"]),
                RidgeSettings.model_validate(state.settings["settings"]),
                Calibration(*state.settings["calibration"]),
                state.arrays["weights"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SurrogateError(f"the ridge model's state is incomplete ({error!r}); fit it again") from error


def with_base(state: SurrogateState, base: Ridge | None) -> SurrogateState:
    """The state of a model that learns what a linear one leaves over, with the linear one's."""
    if base is None:
        return state
    own = base.state()
    arrays = {f"base/{name}": value for name, value in own.arrays.items()}
    return SurrogateState(state.kind, {**state.settings, "base": dict(own.settings)}, {**state.arrays, **arrays})


def base_of(state: SurrogateState) -> Ridge | None:
    """The inverse of :func:`with_base`.

    Raises:
        SurrogateError: something is missing.
    """
    if "base" not in state.settings:
        return None
    prefix = "base/"
    arrays = {name.removeprefix(prefix): v for name, v in state.arrays.items() if name.startswith(prefix)}
    return Ridge.from_state(SurrogateState(KIND, state.settings["base"], arrays))


def _columns(settings: RidgeSettings, spec: BarrierSpec, found: Occupations) -> np.ndarray:
    """The columns that the weights multiply, ``[n_hops, n_features + 1]``."""
    lattice = hop_lattice(spec.phase, settings.n_shells)
    n_elements = len(spec.elements)
    features = site_features(settings.features, found, lattice, n_elements).astype(float)
    moving, rest = features[:, :n_elements], features[:, n_elements:]
    parts = [moving, rest]
    if settings.per_moving_species:
        if settings.features == "pairs":  # too many for slopes of their own
            rest = rest[:, : n_elements * (int(lattice.orbits.max()) + 2)]
        parts += [rest * moving[:, [k]] for k in range(n_elements)]
    return np.concatenate([*parts, np.ones((len(rest), 1))], axis=1)


def _fit(settings: RidgeSettings, train: Hops, validation: Hops, elements: tuple[str, ...]) -> Ridge:
    phase = phase_of(train)
    lattice = hop_lattice(phase, settings.n_shells)
    spec = BarrierSpec(settings.kind, phase, elements, len(train))
    found, judged = (occupations(hops, lattice, elements) for hops in (train, validation))
    gram: Any = 0.0
    moment: Any = 0.0
    centre = float(train.barriers_ev.mean())
    with threads(1):
        for part in np.array_split(np.arange(len(train)), 1 + len(train) // _CHUNK):
            columns = _columns(settings, spec, found.take(part))
            gram = gram + columns.T @ columns
            moment = moment + columns.T @ (train.barriers_ev[part] - centre)
        values, vectors = np.linalg.eigh(gram)
        rotated = vectors.T @ moment
        columns = _columns(settings, spec, judged)
        trials = vectors @ (rotated[:, None] / (np.maximum(values, 0.0)[:, None] + _PENALTIES))
        residuals = columns @ trials + centre - validation.barriers_ev[:, None]
    best = int(np.abs(residuals).mean(axis=0).argmin())
    weights = trials[:, best].copy()
    weights[-1] += centre
    calibration = Calibration.of(residuals[:, best], np.zeros(len(residuals)))
    return Ridge(spec, settings, calibration, weights)
