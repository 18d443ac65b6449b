"""The default surrogate: exact Gaussian processes over composition and pair order, one for each phase and property.

The phases are kept apart because their neighbour shells differ: what a shell does in FCC says nothing about BCC.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveInt

from ..structures.base import Phase
from ..structures.lattice import parent_lattice
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
from .phase_process import FitOptions, PhaseProcess, fit_process, process_arrays, process_from_arrays
from .system import System, elements_of, lattices_of

KIND: Literal["gaussian_process"] = "gaussian_process"


@dataclass(frozen=True)
class GaussianProcess(FeatureSurrogate):
    """A fitted surrogate. Made by :class:`GaussianProcessTrainer` or read from a model file.

    Attributes:
        spec: see :class:`~alloysmith.surrogates.base.SurrogateSpec`.
        order: how structures become features.
        processes: for each phase, one process per property.
        metrics: figures of the fit, see :meth:`GaussianProcessTrainer.fit`.
    """

    spec: SurrogateSpec
    order: OrderFeatures
    processes: dict[Phase, tuple[PhaseProcess, ...]]
    metrics: Metrics

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases it was fitted on."""
        return tuple(self.processes)

    def _order_features(self) -> OrderFeatures:
        return self.order

    def joint(self, structures: Sequence[Atoms], property_name: str) -> JointPrediction:
        """Joint distribution of a property over structures; phases are independent of each other."""
        column = list(self.spec.properties).index(property_name)
        table = self.order.from_atoms(structures)
        mean, noise = np.zeros(len(table)), np.zeros(len(table))
        covariance = np.zeros((len(table), len(table)))
        for phase, rows in self._rows(table).items():
            process = self.processes[phase][column]
            mean[rows], covariance[np.ix_(rows, rows)] = process.joint(table.values[rows])
            noise[rows] = process.noise_variance
        return JointPrediction(mean, covariance, noise)

    def _predict(self, table: FeatureTable) -> Prediction:
        shape = (len(table), len(self.spec.properties))
        mean, std = np.zeros(shape), np.zeros(shape)
        for phase, rows in self._rows(table).items():
            for column, process in enumerate(self.processes[phase]):
                mean[rows, column], std[rows, column] = process.predict(table.values[rows])
        return Prediction(mean, std)

    def _rows(self, table: FeatureTable) -> dict[Phase, np.ndarray]:
        unknown = sorted(set(table.phases) - set(self.processes))
        if unknown:
            raise SurrogateError(f"phase {', '.join(unknown)} was not in the training data: {', '.join(self.phases)}")
        return {phase: table.rows(phase) for phase in dict.fromkeys(table.phases)}

    def state(self) -> SurrogateState:
        """Plain data; the covariances are factorized again when it is read."""
        arrays: dict[str, np.ndarray] = {}
        for phase, processes in self.processes.items():
            for column, process in enumerate(processes):
                arrays.update(process_arrays(process, f"{phase}.{column}"))
        settings = {
            "elements": list(self.spec.elements),
            "properties": dict(self.spec.properties),
            "n_train": self.spec.n_train,
            "n_shells": self.order.n_shells,
            "has_chains": self.order.has_chains,
            "lattices": [[x.phase, x.kind, list(x.repeat)] for x in self.order.lattices],
            "phases": list(self.processes),
            "metrics": dict(self.metrics),
        }
        return SurrogateState(KIND, settings, arrays)

    @classmethod
    def from_state(cls, state: SurrogateState) -> GaussianProcess:
        """The inverse of :meth:`state`.

        Raises:
            SurrogateError: the state is of another kind or incomplete.
        """
        if state.kind != KIND:
            raise SurrogateError(f"a {KIND} cannot be made of a {state.kind}")
        s: dict[str, Any] = dict(state.settings)
        try:
            lattices = tuple(parent_lattice(phase, kind, repeat) for phase, kind, repeat in s["lattices"])
            order = OrderFeatures(tuple(s["elements"]), s["n_shells"], s["has_chains"], lattices)
            processes = {
                phase: tuple(
                    process_from_arrays(state.arrays, f"{phase}.{column}", order.groups)
                    for column in range(len(s["properties"]))
                )
                for phase in s["phases"]
            }
            spec = SurrogateSpec(KIND, dict(s["properties"]), order.elements, s["n_train"])
            return cls(spec, order, processes, dict(s["metrics"]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SurrogateError(f"the state of a {KIND} is incomplete: {error!r}") from error


@dataclass(frozen=True)
class GaussianProcessTrainer:
    """Fits :class:`GaussianProcess`.

    Attributes:
        order: how structures become features.
        options: of the fit of each process.
    """

    order: OrderFeatures
    options: FitOptions

    def fit(
        self, data: TrainingSet, *, seed: int, warm_start: Surrogate | None = None, report: Report | None = None
    ) -> GaussianProcess:
        """Fit to labelled structures; hyperparameters start from ``warm_start`` where it has the phase.

        ``report`` is called after each phase and property, the last time with the figures of the whole fit:
        leave-one-out ``rmse``, ``mae``, ``r2``, ``nll``, coverage (of the first property, outliers left out),
        ``n_train``, ``n_outliers``, ``wall_s``. Once it returns ``False``, hyperparameters are left as they start.

        Raises:
            SurrogateError: no labels, unknown elements, or structures without a phase.
        """
        if not len(data.structures):
            raise SurrogateError("a Gaussian process needs at least one label, got none")
        started = time.perf_counter()
        table = self.order.from_atoms(data.structures)
        processes: dict[Phase, tuple[PhaseProcess, ...]] = {}
        spread = np.maximum(data.targets.std(axis=0), 1e-6 * np.maximum(np.abs(data.targets).max(axis=0), 1e-6))
        step, options = 0, self.options
        for phase in sorted(set(table.phases)):
            rows = table.rows(phase)
            fitted: list[PhaseProcess] = []
            for column in range(len(data.properties)):
                process = fit_process(
                    table.values[rows],
                    data.targets[rows, column],
                    self.order.groups,
                    options,
                    least_scale=0.05 * float(spread[column]),
                    seed=seed,
                    start=self._start(warm_start, phase, column),
                )
                fitted.append(process)
                step += 1
                figures = {"n_train": float(len(rows)), "n_outliers": float(process.n_outliers)}
                if report is not None and not report(step, figures):
                    options = replace(options, max_iterations=0)
            processes[phase] = tuple(fitted)
        metrics = self._metrics(processes, len(data.structures)) | {"wall_s": time.perf_counter() - started}
        if report is not None:
            report(step + 1, metrics)
        spec = SurrogateSpec(KIND, dict(data.properties), self.order.elements, len(data.structures))
        # The wall time is reported but not kept: equal fits are equal to the last bit.
        kept = {name: value for name, value in metrics.items() if name != "wall_s"}
        return GaussianProcess(spec, self.order, processes, kept)

    def _start(self, warm_start: Surrogate | None, phase: Phase, column: int) -> Any:
        if not isinstance(warm_start, GaussianProcess) or warm_start.order.groups.shape != self.order.groups.shape:
            return None
        processes = warm_start.processes.get(phase, ())
        if column >= len(processes) or len(processes[column].targets) < 2 * len(self.order.groups):
            return None  # what few labels suggested would only mislead
        return processes[column].hyperparameters

    def _metrics(self, processes: dict[Phase, tuple[PhaseProcess, ...]], n_train: int) -> dict[str, float]:
        first = [p[0] for p in processes.values()]
        figures = {"n_train": float(n_train), "n_outliers": float(sum(p.n_outliers for p in first))}
        judged = [p for p in first if len(p.targets) > 1]
        if judged:
            predicted = [p.leave_one_out() for p in judged]
            figures |= calibration(
                np.concatenate([mean for mean, _ in predicted]),
                np.concatenate([std for _, std in predicted]),
                np.concatenate([p.targets for p in judged]),
            )
        return figures


class GaussianProcessSettings(Settings):
    """A Gaussian process over composition, phase and pair order. Its cost grows with the cube of the labels: use it up
    to about 2,000."""

    kind: Literal["gaussian_process"] = KIND
    n_shells: int = Field(default=4, ge=0, le=6)
    """Neighbour shells whose pair order it sees; 0 leaves composition and phase alone."""
    has_chains: bool = True
    """Whether it also sees chains of two nearest-neighbour bonds by their angle, which many-body potentials need."""
    max_iterations: PositiveInt = 40
    """Steps of the optimizer of its hyperparameters in each fit."""
    n_fit: PositiveInt = 400
    """Hyperparameters are fitted on at most so many labels of a phase; predictions use all of them."""
    outlier_threshold: float = Field(default=6.0, ge=0.0)
    """Labels that differ from what all others predict for them by more than so many standard deviations are set aside
    until other labels agree with them; 0 believes every label."""

    def build(self, system: System) -> GaussianProcessTrainer:
        """A trainer for a design space, or for a tuple of elements."""
        order = OrderFeatures(elements_of(system), self.n_shells, self.has_chains, lattices_of(system))
        return GaussianProcessTrainer(order, FitOptions(self.max_iterations, self.n_fit, self.outlier_threshold))
