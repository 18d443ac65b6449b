"""What an optimizer is, and two for models of any size: Adam on mini-batches, L-BFGS on all frames at once.

Each works on the flat parameters of an :class:`~.objective.Objective`, holds its memory as named tensors, so that a
checkpoint continues it bit by bit, and leaves the parameters as they were when it finds no acceptable step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from .frame_sums import Parts
from .objective import Objective, Value, Weights3
from .optimizer_settings import AdamSettings, LbfgsSettings

Outcome = Literal["accepted", "rejected", "converged"]
"""What came of a step: new parameters; no usable loss or gradient here; nothing better nearby."""


@dataclass(frozen=True)
class Step:
    """A step of an optimizer.

    Attributes:
        value: the loss; of the parameters before the step for Adam, after it for the others.
        outcome: see :data:`Outcome`.
    """

    value: Value
    outcome: Outcome


class Optimizer(Protocol):
    """Moves the parameters of an objective."""

    def step(self, parts: Parts, rate_factor: float, prefactors: Weights3) -> Step:
        """Make one step on some batches.

        Args:
            parts: frames whose sum is the loss of this step.
            rate_factor: factor of the learning rate, where there is one.
            prefactors: weights of energy, force and virial.
        """
        ...

    def soften(self) -> None:
        """Go on more carefully, after the training was rolled back."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """The optimizer's memory."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a memory."""
        ...


N_SMALL_STEPS = 3
"""Steps in a row that hardly lower the loss, after which a full-batch optimizer has converged."""


class Adam:
    """See :class:`~.optimizer_settings.AdamSettings`."""

    def __init__(self, objective: Objective, settings: AdamSettings) -> None:
        self._objective = objective
        self._settings = settings
        self._mean = torch.zeros_like(objective.parameters())
        self._square = torch.zeros_like(self._mean)
        self._n_steps = 0

    def step(self, parts: Parts, rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`Optimizer.step`."""
        settings = self._settings
        value, gradient = self._objective.gradient(parts, prefactors)
        if not (value.is_finite and bool(torch.isfinite(gradient).all())):
            return Step(value, "rejected")
        if settings.max_gradient_norm is not None:
            gradient = gradient * min(1.0, settings.max_gradient_norm / max(float(gradient.norm()), 1e-300))
        self._n_steps += 1
        self._mean = settings.beta_1 * self._mean + (1.0 - settings.beta_1) * gradient
        self._square = settings.beta_2 * self._square + (1.0 - settings.beta_2) * gradient**2
        mean = self._mean / (1.0 - settings.beta_1**self._n_steps)
        square = self._square / (1.0 - settings.beta_2**self._n_steps)
        change = settings.learning_rate * rate_factor * mean / (square.sqrt() + settings.epsilon)
        self._objective.assign(self._objective.within_bounds(self._objective.parameters() - change))
        return Step(value, "accepted")

    def soften(self) -> None:
        """See :meth:`Optimizer.soften`: the trainer lowers the learning rate."""

    def state(self) -> Mapping[str, Tensor]:
        """See :meth:`Optimizer.state`."""
        return {"mean": self._mean, "square": self._square, "n_steps": torch.tensor(self._n_steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See :meth:`Optimizer.restore`."""
        self._mean, self._square = state["mean"].clone(), state["square"].clone()
        self._n_steps = int(state["n_steps"])


class Lbfgs:
    """See :class:`~.optimizer_settings.LbfgsSettings`."""

    def __init__(self, objective: Objective, settings: LbfgsSettings) -> None:
        self._objective = objective
        self._settings = settings
        self._moves: list[Tensor] = []
        self._turns: list[Tensor] = []
        self._current: tuple[Value, Tensor] | None = None
        self._n_small = 0

    def step(self, parts: Parts, rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`Optimizer.step`."""
        objective = self._objective
        start = objective.parameters()
        value, gradient = self._current or objective.gradient(parts, prefactors)
        if not (value.is_finite and bool(torch.isfinite(gradient).all())):
            return Step(value, "rejected")

        def probe(length: float) -> tuple[Tensor, Value, Tensor]:
            trial = objective.within_bounds(start + length * direction)
            objective.assign(trial)
            return trial, *objective.gradient(parts, prefactors)

        direction = self._direction(gradient)
        found = self._search(probe, value, gradient, direction)
        if found is None and self._moves:  # the remembered curvature may be of no use here: once more without it
            self._moves, self._turns = [], []
            direction = self._direction(gradient)
            found = self._search(probe, value, gradient, direction)
        if found is None:
            objective.assign(start)
            self._current = (value, gradient)
            return Step(value, "converged")
        trial, new_value, new_gradient = found
        objective.assign(trial)
        self._remember(trial - start, new_gradient - gradient)
        self._current = (new_value, new_gradient)
        is_small = value.loss - new_value.loss < self._settings.tolerance * abs(value.loss)
        self._n_small = self._n_small + 1 if is_small else 0
        return Step(new_value, "converged" if self._n_small >= N_SMALL_STEPS else "accepted")

    def soften(self) -> None:
        """See :meth:`Optimizer.soften`."""
        self._moves, self._turns, self._current = [], [], None

    def state(self) -> Mapping[str, Tensor]:
        """See :meth:`Optimizer.state`."""
        memory = {"n_small": torch.tensor(self._n_small)}
        if self._current is not None:
            value, gradient = self._current
            numbers = [value.loss, value.data, *value.rms, *value.constraints.values()]
            memory |= {"gradient": gradient, "value": torch.tensor(numbers, dtype=torch.float64)}
        if self._moves:
            memory |= {"moves": torch.stack(self._moves), "turns": torch.stack(self._turns)}
        return memory

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See :meth:`Optimizer.restore`."""
        self._moves = [row.clone() for row in state["moves"]] if "moves" in state else []
        self._turns = [row.clone() for row in state["turns"]] if "turns" in state else []
        self._n_small = int(state["n_small"])
        self._current = None
        if "gradient" in state:
            loss, data, energy, force, virial, *terms = state["value"].tolist()
            names = [constraint.name for constraint in self._objective.constraints]
            value = Value(loss, data, (energy, force, virial), dict(zip(names, terms, strict=True)))
            self._current = (value, state["gradient"].clone())

    def _direction(self, gradient: Tensor) -> Tensor:
        """Two-loop recursion (Nocedal and Wright, algorithm 7.4)."""
        if not self._moves:
            return -gradient / max(float(gradient.norm()), 1e-300) * 1e-2
        direction = -gradient
        shares = []
        for move, turn in zip(reversed(self._moves), reversed(self._turns), strict=True):
            share = float(move @ direction) / float(move @ turn)
            shares.append(share)
            direction = direction - share * turn
        direction = direction * float(self._moves[-1] @ self._turns[-1]) / float(self._turns[-1] @ self._turns[-1])
        for move, turn, share in zip(self._moves, self._turns, reversed(shares), strict=True):
            direction = direction + (share - float(turn @ direction) / float(move @ turn)) * move
        return direction

    def _search(
        self, probe: Callable[[float], tuple[Tensor, Value, Tensor]], value: Value, gradient: Tensor, direction: Tensor
    ) -> tuple[Tensor, Value, Tensor] | None:
        """A step length that meets the weak Wolfe conditions, by bisection; the best lower one if none does."""
        slope = float(gradient @ direction)
        if slope >= 0.0:
            return None
        low, high, length = 0.0, math.inf, 1.0
        best: tuple[Tensor, Value, Tensor] | None = None
        for _ in range(self._settings.max_evaluations):
            found = probe(length)
            is_usable = found[1].is_finite and bool(torch.isfinite(found[2]).all())
            if is_usable and found[1].loss < (best[1].loss if best else value.loss):
                best = found
            if not is_usable or found[1].loss > value.loss + 1e-4 * length * slope:
                high = length
            elif float(found[2] @ direction) < 0.9 * slope:
                low = length
            else:
                return found
            if math.isinf(high):
                length = 2.0 * low
            else:
                length = (low + high) / 2.0 if is_usable else low + 0.1 * (high - low)
        return best

    def _remember(self, move: Tensor, turn: Tensor) -> None:
        if float(move @ turn) > 1e-10 * float(turn @ turn):
            self._moves = [*self._moves, move][-self._settings.n_pairs :]
            self._turns = [*self._turns, turn][-self._settings.n_pairs :]
