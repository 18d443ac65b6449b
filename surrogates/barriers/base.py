"""What a barrier model is: fitted once, it gives migration barriers of hops with a spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...structures.base import PHASES, Phase
from ..base import Report, SurrogateError, SurrogateState
from .hops import Hops


@dataclass(frozen=True)
class BarrierPrediction:
    """Predicted barriers.

    Attributes:
        mean_ev: ``[n_hops]``, eV.
        std_ev: ``[n_hops]``, one standard deviation of the error to expect, eV, calibrated on the validation hops.
    """

    mean_ev: np.ndarray
    std_ev: np.ndarray


@dataclass(frozen=True)
class BarrierSpec:
    """What a barrier model declares about itself.

    Attributes:
        kind: the ``kind:`` of its settings in a configuration file.
        phase: of the crystals it knows.
        elements: symbols it knows, in the order of its species.
        n_train: hops it was fitted to.
        facts: JSON-able facts for people: data, errors, settings.
    """

    kind: str
    phase: Phase
    elements: tuple[str, ...]
    n_train: int
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def as_settings(self) -> dict[str, Any]:
        """The specification as JSON-able data."""
        return {
            "kind": self.kind,
            "phase": self.phase,
            "elements": list(self.elements),
            "n_train": self.n_train,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_settings(cls, data: Mapping[str, Any]) -> BarrierSpec:
        """The inverse of :meth:`as_settings`.

        Raises:
            SurrogateError: something is missing.
        """
        try:
            if data["phase"] not in PHASES:
                raise SurrogateError(f"a barrier model has the phase {data['phase']!r}; known are {', '.join(PHASES)}")
            return cls(data["kind"], data["phase"], tuple(data["elements"]), int(data["n_train"]), data["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise SurrogateError(f"the barrier model's state is incomplete ({error!r}); fit it again") from error


@runtime_checkable
class BarrierModel(Protocol):
    """A fitted model; never changes."""

    @property
    def spec(self) -> BarrierSpec: ...

    def predict(self, hops: Hops) -> BarrierPrediction:
        """Predict the barriers of hops; those that the hops hold are not looked at.

        Raises:
            SurrogateError: an element or a phase that the model does not know.
            StructureError: a crystal is neither FCC nor BCC.
        """
        ...

    def state(self) -> SurrogateState:
        """The model as plain data; reading it back gives identical predictions."""
        ...


class BarrierTrainer(Protocol):
    """Fits barrier models: the settings of each kind."""

    def fit(
        self,
        train: Hops,
        validation: Hops,
        *,
        elements: tuple[str, ...],
        seed: int,
        report: Report | None = None,
        checkpoint_path: Path | None = None,
    ) -> BarrierModel:
        """Fit to hops with known barriers; deterministic in (data, seed).

        Args:
            validation: hops that stop the training, choose weights and calibrate the spread.
            report: called with (step, metrics); ``False`` ends the training with what is best so far.
            checkpoint_path: where a long training keeps its state, to go on from after a kill.

        Raises:
            SurrogateError: too little or unusable data.
        """
        ...
