"""Damped Gauss-Newton steps, for models with few parameters (Levenberg, 1944; Marquardt, 1963).

The loss and its gradient are those of all frames. So is the curvature, the Gauss-Newton matrix, where a model has its
derivatives in closed form; elsewhere its costly part, the terms of forces and virials, is estimated from some frames.
Between two such computations it follows the gradients as in BFGS (Nocedal and Wright, 2006, procedure 18.2). The
curvature of constraints, which may be stiff, is computed in each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .batches import LabelledFrames
from .curvature import forward_curvature, normal_equations, places_of_trained
from .frame_sums import Parts, SpreadFrames
from .objective import Objective, Value, Weights3
from .optimizer_settings import GaussNewtonSettings
from .optimizers import N_SMALL_STEPS, Outcome, Step

_COST_OF_DIRECTION = 0.7  # a direction of the curvature by a step without it, for one frame; measured with EAM models
_MAX_REFRESH_STEPS = 15
_ENOUGH = 0.8  # share of the foreseen decrease from which parameters are moved alone in which energies are linear
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
        frames: LabelledFrames | SpreadFrames,
        *,
        seed: int,
        max_pairs: int,
        max_bytes: int,
    ) -> None:
        self._objective = objective
        self._settings = settings
        self._source = frames
        self._frames = frames = frames.data if isinstance(frames, SpreadFrames) else frames
        self._seed = seed
        self._max_pairs = max_pairs
        self._max_bytes = max_bytes
        n = len(frames) if settings.curvature_frames is None else min(settings.curvature_frames, len(frames))
        balanced = min(max(round(_COST_OF_DIRECTION * objective.n_parameters * n / len(frames)), 1), _MAX_REFRESH_STEPS)
        self._is_closed = objective.model.output_slopes(frames.batch([0]).batch, with_virials=False) is not None
        self._refresh_steps = settings.refresh_steps or (1 if self._is_closed else balanced)
        self._linear = _linear_parameters(objective) if self._is_closed else None
        self._damping = settings.damping
        self._rms: Weights3 | None = None  # of the present parameters, where they are known
        self._matrix: Tensor | None = None  # the curvature of the data
        self._last: tuple[Tensor, Tensor] | None = None  # the last step and the data's gradient before it
        self._age = 0  # steps since the curvature was computed
        self._n_steps = 0
        self._n_small = 0

    def step(self, parts: Parts, rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`~.optimizers.Optimizer.step`."""
        objective = self._objective
        start = objective.parameters()
        of_data, data_gradient, of_curvature = self._terms_of_data(parts, prefactors)
        losses, slopes, of_constraints = objective.constraint_terms(with_curvature=True)
        value = Value(of_data.data + sum(losses.values()), of_data.data, of_data.rms, losses)
        gradient, matrix = data_gradient + slopes, of_curvature + of_constraints
        if not (value.is_finite and bool(torch.isfinite(gradient).all()) and bool(torch.isfinite(matrix).all())):
            return Step(value, "rejected")
        self._rms = value.rms
        self._n_steps += 1
        growth = 4.0
        for k in range(self._settings.max_trials):
            trial = self._trial(start, gradient, matrix, self._damping)
            expected = _expected(gradient, matrix, trial - start)
            is_linear = False
            if k == 0 and self._linear is not None:
                linear = self._trial(start, gradient, matrix, self._settings.damping, self._linear)
                expected_linear = _expected(gradient, matrix, linear - start)
                is_linear = expected_linear > _ENOUGH * expected
                trial, expected = (linear, expected_linear) if is_linear else (trial, expected)
            objective.assign(trial)
            found = objective.value(parts, prefactors)
            gain = (value.loss - found.loss) / expected if found.is_finite and expected > 0.0 else -math.inf
            if gain > 1e-3:
                # Nielsen's rule: the better the quadratic model was, the less damping the next step gets
                if not is_linear:
                    self._damping = max(self._damping * max(0.1, 1.0 - (2.0 * min(gain, 1.5) - 1.0) ** 3), 1e-9)
                self._rms, self._last = found.rms, (trial - start, data_gradient)
                if gain < _POOR_GAIN:
                    self._matrix = None  # it did not foresee this: computed anew for the next step
                return Step(found, self._outcome(value.loss, found.loss))
            if not is_linear:
                self._damping *= growth
                growth *= 2.0
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

    def _terms_of_data(self, parts: Parts, prefactors: Weights3) -> tuple[Value, Tensor, Tensor]:
        """Loss, gradient and curvature of the data; between two computations, what the last gradients make of one."""
        objective = self._objective
        is_due = self._matrix is None or self._age + 1 >= self._refresh_steps
        if is_due and self._is_closed:
            self._age = 0
            value, gradient, self._matrix = normal_equations(objective, parts, prefactors)
            return value, gradient, self._matrix
        value, gradient = objective.gradient(parts, prefactors, rms=self._rms, with_constraints=False)
        if not value.is_finite:
            return value, gradient, gradient.new_zeros(len(gradient), len(gradient))
        if self._matrix is None or is_due:
            self._age = 0
            singles = self._source.parts(range(len(self._frames)), 1, self._max_pairs)
            drawn = self._curvature_parts()
            self._matrix = forward_curvature(objective, drawn, value, prefactors, self._max_bytes, singles=singles)
        else:
            self._age += 1
            self._matrix = self._updated(self._matrix, gradient)
        return value, gradient, self._matrix

    def _updated(self, matrix: Tensor, gradient: Tensor) -> Tensor:
        """The curvature after the last step, by a BFGS update, damped as Powell did so that it stays positive."""
        if self._last is None:
            return matrix
        change, before = self._last
        turn = gradient - before
        along = matrix @ change
        curved, expected = float(turn @ change), float(change @ along)
        if curved < 0.2 * expected:
            share = 0.8 * expected / (expected - curved)
            turn = share * turn + (1.0 - share) * along
            curved = float(turn @ change)
        if expected <= 0.0 or curved <= 0.0:
            return matrix
        return matrix + torch.outer(turn, turn) / curved - torch.outer(along, along) / expected

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

    def _trial(
        self, start: Tensor, gradient: Tensor, matrix: Tensor, damping: float, among: Tensor | None = None
    ) -> Tensor:
        """The damped step, along the bounds where it would leave them; of some parameters, if these are given."""
        diagonal = matrix.diagonal()
        scale = torch.where(diagonal > 0.0, diagonal, 1.0)
        # the floor holds parameters of which the data says next to nothing, such as knots at rare distances
        damped = matrix + torch.diag(damping * scale + self._settings.floor * diagonal.mean())
        free = torch.ones_like(start, dtype=torch.bool) if among is None else among
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

    def _curvature_parts(self) -> Parts:
        drawn = np.arange(len(self._frames))
        n = self._settings.curvature_frames
        if n is not None and n < len(drawn):
            drawn = np.sort(np.random.default_rng([self._seed, self._n_steps]).permutation(drawn)[:n])
        return self._source.parts(drawn, None, self._max_pairs)


def _expected(gradient: Tensor, matrix: Tensor, change: Tensor) -> float:
    """The foreseen decrease of the loss."""
    return -float(gradient @ change) - 0.5 * float(change @ matrix @ change)


def _linear_parameters(objective: Objective) -> Tensor | None:
    """Those of the trained parameters that energies are linear in together, bool; ``None`` if there are none."""
    found = objective.model.linear_together()
    if found is None:
        return None
    found = found[places_of_trained(objective.model) >= 0]
    return found if bool(found.any()) else None
