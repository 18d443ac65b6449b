"""Damped Gauss-Newton steps, for models with few parameters (Levenberg, 1944; Marquardt, 1963).

The loss and its gradient are those of all frames. The curvature is the Gauss-Newton matrix, whose costly part, the
terms of forces and virials, some frames determine well: each gives hundreds of residuals for some tens of parameters.
Between two such computations it follows the gradients as in BFGS (Nocedal and Wright, 2006, procedure 18.2). The
curvature of constraints, which may be stiff, is computed in each step.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from .batches import LabelledFrames
from .loss import LabelledBatch
from .objective import Objective, Value, Weights3
from .optimizer_settings import GaussNewtonSettings
from .optimizers import N_SMALL_STEPS, Outcome, Step

_COST_OF_DIRECTION = 0.7  # a direction of the curvature by a step without it, for one frame; measured with EAM models
_MAX_REFRESH_STEPS = 15
_POOR_GAIN = 0.5  # share of the foreseen decrease, below which a curvature is no longer trusted


class GaussNewton:
    """See :class:`~.optimizer_settings.GaussNewtonSettings`.

    Args:
        objective: what is minimized.
        settings: of the optimizer.
        frames: those of the training, from which the frames of the curvature are drawn.
        seed: of that draw.
        max_pairs: pairs of atoms in one batch.
        max_bytes: memory for the directions that are differentiated at once.
    """

    def __init__(
        self,
        objective: Objective,
        settings: GaussNewtonSettings,
        frames: LabelledFrames,
        *,
        seed: int,
        max_pairs: int,
        max_bytes: int,
    ) -> None:
        self._objective = objective
        self._settings = settings
        self._frames = frames
        self._seed = seed
        self._max_pairs = max_pairs
        self._max_bytes = max_bytes
        n = len(frames) if settings.curvature_frames is None else min(settings.curvature_frames, len(frames))
        balanced = round(_COST_OF_DIRECTION * objective.n_parameters * n / len(frames))
        self._refresh_steps = settings.refresh_steps or min(max(balanced, 1), _MAX_REFRESH_STEPS)
        self._damping = settings.damping
        self._rms: Weights3 | None = None  # of the present parameters, where they are known
        self._matrix: Tensor | None = None  # the curvature of the data
        self._last: tuple[Tensor, Tensor] | None = None  # the last step and the data's gradient before it
        self._age = 0  # steps since the curvature was computed
        self._n_steps = 0
        self._n_small = 0

    def step(self, parts: Collection[LabelledBatch], rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`~.optimizers.Optimizer.step`."""
        objective = self._objective
        start = objective.parameters()
        of_data, gradient = objective.gradient(parts, prefactors, rms=self._rms, with_constraints=False)
        losses, slopes, of_constraints = objective.constraint_terms(with_curvature=True)
        value = Value(of_data.data + sum(losses.values()), of_data.data, of_data.rms, losses)
        if not (value.is_finite and bool(torch.isfinite(gradient).all()) and bool(torch.isfinite(slopes).all())):
            return Step(value, "rejected")
        self._rms = value.rms
        self._n_steps += 1
        data_gradient, gradient = gradient, gradient + slopes
        matrix = self._curvature(value, data_gradient, prefactors) + of_constraints
        if not bool(torch.isfinite(matrix).all()):
            return Step(value, "rejected")
        for _ in range(self._settings.max_trials):
            trial = self._trial(start, gradient, matrix)
            change = trial - start
            expected = -float(gradient @ change) - 0.5 * float(change @ matrix @ change)
            objective.assign(trial)
            found = objective.value(parts, prefactors)
            gain = (value.loss - found.loss) / expected if found.is_finite and expected > 0.0 else -math.inf
            if gain > 1e-3:
                # Nielsen's rule: the better the quadratic model was, the less damping the next step gets
                self._damping = max(self._damping * max(0.1, 1.0 - (2.0 * min(gain, 1.5) - 1.0) ** 3), 1e-9)
                self._rms, self._last = found.rms, (change, data_gradient)
                if gain < _POOR_GAIN:
                    self._matrix = None  # it did not foresee this: computed anew for the next step
                return Step(found, self._outcome(value.loss, found.loss))
            self._damping *= 4.0
        objective.assign(start)
        self._last = None
        return Step(value, self._outcome(value.loss, value.loss))

    def _outcome(self, before: float, after: float) -> Outcome:
        """Whether to go on; steps with an old curvature prove nothing."""
        is_small = before - after < self._settings.tolerance * abs(before)
        if not is_small:
            self._n_small = 0
        elif self._age == 0:
            self._n_small += 1
        if is_small:
            self._matrix = None
        return "converged" if self._n_small >= N_SMALL_STEPS else "accepted"

    def _curvature(self, value: Value, gradient: Tensor, prefactors: Weights3) -> Tensor:
        """The Gauss-Newton matrix of the data; between two of them, what the last gradients make of it.

        These are BFGS updates, damped as Powell did so that the matrix stays positive.
        """
        if self._matrix is None or self._age + 1 >= self._refresh_steps:
            singles = (self._frames.batch([k]) for k in range(len(self._frames)))
            self._matrix = self._objective.curvature(
                self._curvature_parts(), value, prefactors, self._max_bytes, singles=singles
            )
            self._age = 0
            return self._matrix
        self._age += 1
        if self._last is not None:
            change, before = self._last
            turn = gradient - before
            along = self._matrix @ change
            curved, expected = float(turn @ change), float(change @ along)
            if curved < 0.2 * expected:
                share = 0.8 * expected / (expected - curved)
                turn = share * turn + (1.0 - share) * along
                curved = float(turn @ change)
            if expected > 0.0 and curved > 0.0:
                update = torch.outer(turn, turn) / curved - torch.outer(along, along) / expected
                self._matrix = self._matrix + update
        return self._matrix

    def soften(self) -> None:
        """See :meth:`~.optimizers.Optimizer.soften`."""
        self._damping *= 100.0
        self._rms = self._matrix = self._last = None

    def state(self) -> Mapping[str, Tensor]:
        """See :meth:`~.optimizers.Optimizer.state`."""
        memory = {
            "damping": torch.tensor(self._damping, dtype=torch.float64),
            "counts": torch.tensor([self._age, self._n_steps, self._n_small]),
        }
        if self._rms is not None:
            memory["rms"] = torch.tensor(self._rms, dtype=torch.float64)
        if self._matrix is not None:
            memory["matrix"] = self._matrix
        if self._last is not None:
            memory["last"] = torch.stack(self._last)
        return memory

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See :meth:`~.optimizers.Optimizer.restore`."""
        self._damping = float(state["damping"])
        self._age, self._n_steps, self._n_small = state["counts"].tolist()
        self._rms = self._last = None
        if "rms" in state:
            energy, force, virial = state["rms"].tolist()
            self._rms = (energy, force, virial)
        if "last" in state:
            change, before = state["last"].clone().unbind()
            self._last = (change, before)
        self._matrix = state["matrix"].clone() if "matrix" in state else None

    def _trial(self, start: Tensor, gradient: Tensor, matrix: Tensor) -> Tensor:
        """The damped step, along the bounds where it would leave them."""
        diagonal = matrix.diagonal()
        scale = torch.where(diagonal > 0.0, diagonal, 1.0)
        # the floor holds parameters of which the data says next to nothing, such as knots at rare distances
        damped = matrix + torch.diag(self._damping * scale + self._settings.floor * diagonal.mean())
        free = torch.ones_like(start, dtype=torch.bool)
        trial = start
        while bool(free.any()):
            root = scale[free].rsqrt()  # unit diagonal, since parameters may differ by orders of magnitude
            inner = damped[free][:, free] * root[:, None] * root[None, :]
            factor, failed = torch.linalg.cholesky_ex(inner)
            if int(failed):
                return start
            change = torch.zeros_like(start)
            change[free] = -root * torch.cholesky_solve((root * gradient[free])[:, None], factor)[:, 0]
            wanted = start + change
            trial = self._objective.within_bounds(wanted)
            stuck = free & (trial == start) & (wanted != start)
            if not bool(stuck.any()):
                break
            free = free & ~stuck
        return trial

    def _curvature_parts(self) -> list[LabelledBatch]:
        drawn = np.arange(len(self._frames))
        n = self._settings.curvature_frames
        if n is not None and n < len(drawn):
            drawn = np.sort(np.random.default_rng([self._seed, self._n_steps]).permutation(drawn)[:n])
        return [self._frames.batch(part) for part in self._frames.partition(drawn, None, self._max_pairs)]
