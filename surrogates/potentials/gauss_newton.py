"""Damped Gauss-Newton steps, for models with few parameters (Levenberg, 1944; Marquardt, 1963).

Interatomic forces give thousands of residuals a frame for some tens of parameters, so the curvature is known well from
a few frames, while the loss and its gradient, which say where the minimum is, take them all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from .batches import LabelledFrames
from .loss import LabelledBatch
from .objective import Objective, Weights3
from .optimizer_settings import GaussNewtonSettings
from .optimizers import N_SMALL_STEPS, Step


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
        self._damping = settings.damping
        self._scale = torch.zeros_like(objective.parameters())
        self._rms: Weights3 | None = None  # of the present parameters, where they are known
        self._n_steps = 0
        self._n_small = 0

    def step(self, parts: Collection[LabelledBatch], rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`~.optimizers.Optimizer.step`."""
        objective = self._objective
        start = objective.parameters()
        value, gradient = objective.gradient(parts, prefactors, rms=self._rms)
        if not (value.is_finite and bool(torch.isfinite(gradient).all())):
            return Step(value, "rejected")
        self._rms = value.rms
        matrix = objective.curvature(self._curvature_parts(parts), value, prefactors, self._max_bytes)
        if not bool(torch.isfinite(matrix).all()):
            return Step(value, "rejected")
        self._n_steps += 1
        self._scale = torch.maximum(self._scale, matrix.diagonal())
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
                self._rms = found.rms
                is_small = value.loss - found.loss < self._settings.tolerance * abs(value.loss)
                self._n_small = self._n_small + 1 if is_small else 0
                return Step(found, "converged" if self._n_small >= N_SMALL_STEPS else "accepted")
            self._damping *= 5.0
        objective.assign(start)  # the next step draws other frames for its curvature, and has a larger damping
        self._n_small += 1
        return Step(value, "converged" if self._n_small >= N_SMALL_STEPS else "accepted")

    def soften(self) -> None:
        """See :meth:`~.optimizers.Optimizer.soften`."""
        self._damping *= 100.0
        self._rms = None

    def state(self) -> Mapping[str, Tensor]:
        """See :meth:`~.optimizers.Optimizer.state`."""
        memory = {} if self._rms is None else {"rms": torch.tensor(self._rms, dtype=torch.float64)}
        return memory | {
            "damping": torch.tensor(self._damping, dtype=torch.float64),
            "scale": self._scale,
            "n_steps": torch.tensor(self._n_steps),
            "n_small": torch.tensor(self._n_small),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See :meth:`~.optimizers.Optimizer.restore`."""
        self._damping = float(state["damping"])
        self._scale = state["scale"].clone()
        self._rms = None
        if "rms" in state:
            energy, force, virial = state["rms"].tolist()
            self._rms = (energy, force, virial)
        self._n_steps, self._n_small = int(state["n_steps"]), int(state["n_small"])

    def _trial(self, start: Tensor, gradient: Tensor, matrix: Tensor) -> Tensor:
        """The damped step, along the bounds where it would leave them."""
        scale = torch.where(self._scale > 0.0, self._scale, 1.0)
        damped = matrix + torch.diag(self._damping * scale)
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

    def _curvature_parts(self, parts: Collection[LabelledBatch]) -> Collection[LabelledBatch]:
        n = self._settings.curvature_frames
        if n is None or n >= len(self._frames):
            return parts
        drawn = np.random.default_rng([self._seed, self._n_steps]).choice(len(self._frames), size=n, replace=False)
        groups = self._frames.partition(np.sort(drawn), None, self._max_pairs)
        return [self._frames.batch(group) for group in groups]
