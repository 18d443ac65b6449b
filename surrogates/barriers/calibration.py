"""The spread of a prediction as an error to expect: a floor and a multiple of what an ensemble disagrees by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FACTORS = np.concatenate([[0.0], np.geomspace(0.1, 10.0, 41)])


@dataclass(frozen=True)
class Calibration:
    """std² = floor² + (factor × disagreement)².

    Attributes:
        floor_ev: error where all members agree, eV.
        factor: expected error per disagreement.
    """

    floor_ev: float
    factor: float

    @classmethod
    def of(cls, residual_ev: np.ndarray, spread_ev: np.ndarray) -> Calibration:
        """The most likely calibration for normal errors.

        Args:
            residual_ev: ``[n]``, errors on hops that were not learnt from.
            spread_ev: ``[n]``, standard deviation over the members there; zeros for a single model.
        """
        squared = residual_ev**2
        mean_square = max(float(squared.mean()), 1e-12)
        floors = np.sqrt(mean_square) * np.linspace(0.05, 1.0, 20)
        variance = floors[:, None, None] ** 2 + (_FACTORS[None, :, None] * spread_ev) ** 2
        deviance = (np.log(variance) + squared / variance).mean(axis=2)
        i, j = np.unravel_index(int(deviance.argmin()), deviance.shape)
        scale = float(np.sqrt((squared / variance[i, j]).mean()))  # unit mean square of the scaled errors
        return cls(float(floors[i]) * scale, float(_FACTORS[j]) * scale)

    def std_ev(self, spread_ev: np.ndarray) -> np.ndarray:
        """``[n]``, eV."""
        return np.sqrt(self.floor_ev**2 + (self.factor * spread_ev) ** 2)
