"""Exponential moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MovingAverage:
    """An average of the parameters over the last steps; never changes, :meth:`after` gives the next one.

    Attributes:
        weights: ``[n_parameters]``.
        decay: share of the old average that a step keeps, once there are enough steps.
        n_steps: number of steps averaged.
    """

    weights: Tensor
    decay: float
    n_steps: int = 0

    def after(self, parameters: Tensor) -> MovingAverage:
        """The average after one more step.

        The decay grows from 2/11 to its full value with the number of steps, so that the first, bad weights are
        forgotten.
        """
        decay = min(self.decay, (2.0 + self.n_steps) / (11.0 + self.n_steps))
        return MovingAverage(decay * self.weights + (1.0 - decay) * parameters, self.decay, self.n_steps + 1)
