"""The loss of a model on its data and constraints, and its gradient.

Sums over the data are accumulated batch by batch, so memory is bounded by the largest batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import SurrogateError
from .constraint import Constraint
from .frame_sums import Parts, SpreadParts, Sums, summed
from .loss import LabelledBatch, RmseLossSettings, SquaredLossSettings, sums_of_squares
from .model import ModelOutput, PotentialModel

Weights3 = tuple[float, float, float]
"""A number for each of (energy, force, virial)."""
Means = tuple[Tensor, Tensor, Tensor]
Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Value:
    """A loss and its parts.

    Attributes:
        loss: data and constraints.
        data: the part of the labelled frames.
        rms: root mean squares of the weighted residuals, (energy, force, virial); 0 for what no frame has.
        constraints: weighted loss of each constraint, by name.
    """

    loss: float
    data: float
    rms: Weights3
    constraints: Mapping[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


class Objective:
    """What the optimizers minimize, as a function of all trainable parameters as one flat vector.

    Args:
        model: its trainable parameters are set through :meth:`assign`.
        constraints: terms that look at the model alone.
        settings: how errors make up the loss.

    Raises:
        SurrogateError: the model has nothing to train, or two constraints share a name.
    """

    def __init__(
        self,
        model: PotentialModel,
        constraints: Sequence[Constraint],
        settings: RmseLossSettings | SquaredLossSettings,
    ) -> None:
        self.model = model
        self.constraints = tuple(constraints)
        self.settings = settings
        self._named = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self._parameters = list(self._named.values())
        if not self._parameters:
            raise SurrogateError("the model has no trainable parameters; free at least one")
        names = [constraint.name for constraint in constraints]
        if len(set(names)) < len(names):
            raise SurrogateError(f"constraints must have different names, got {', '.join(sorted(names))}")
        self._lower, self._upper = _bounds(model, self._named)
        self._pending: Means | None = None

    @property
    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(tensor.numel() for tensor in self._parameters)

    def parameters(self) -> Tensor:
        """A copy of the trainable parameters, flat."""
        return torch.cat([tensor.detach().reshape(-1) for tensor in self._parameters]).clone()

    def assign(self, flat: Tensor) -> None:
        """Set the trainable parameters."""
        with torch.no_grad():
            for tensor, values in zip(self._parameters, self.split(flat).values(), strict=True):
                tensor.copy_(values)

    def places(self, names: Sequence[str]) -> Tensor:
        """Where trainable parameters lie in the flat vector, int64.

        Raises:
            SurrogateError: one of these is not trained.
        """
        starts, n = {}, 0
        for name, tensor in self._named.items():
            starts[name] = torch.arange(n, n + tensor.numel(), device=tensor.device)
            n += tensor.numel()
        fixed = sorted(set(names) - set(starts))
        if fixed:
            raise SurrogateError(f"{', '.join(fixed)} must be free to be solved for")
        return torch.cat([starts[name] for name in names])

    def within_bounds(self, flat: Tensor) -> Tensor:
        """The nearest parameters that the model allows (``parameter_bounds``, if it has any)."""
        if self._lower is None or self._upper is None:
            return flat
        return torch.minimum(torch.maximum(flat, self._lower), self._upper)

    def value(
        self,
        parts: Parts,
        prefactors: Weights3,
        *,
        with_constraints: bool = True,
    ) -> Value:
        """The loss of the present parameters on all parts together.

        Args:
            parts: batches whose frames make up the loss.
            prefactors: weights of energy, force and virial.
            with_constraints: whether the constraints belong to it.
        """
        return self.value_of(summed(squares, self, parts), prefactors, with_constraints=with_constraints)

    def value_of(self, sums: Sums, prefactors: Weights3, *, with_constraints: bool = True) -> Value:
        """The loss of the present parameters from the sums of :func:`squares` over all parts."""
        means, _ = _means(sums)
        data = float(self.settings.total(means, prefactors))
        terms = {c.name: float(c.loss(self.model).detach()) for c in self.constraints} if with_constraints else {}
        return Value(data + sum(terms.values()), data, roots(means), terms)

    def gradient(
        self,
        parts: Parts,
        prefactors: Weights3,
        *,
        rms: Weights3 | None = None,
        with_constraints: bool = True,
    ) -> tuple[Value, Tensor]:
        """The loss and its gradient ``[n_parameters]`` by the present parameters.

        The gradient of a loss that is not a sum over the data (``rmse``) needs the loss first: several parts are run
        twice, unless their terms are known.

        Args:
            parts: batches whose frames make up the loss.
            prefactors: weights of energy, force and virial.
            rms: :attr:`Value.rms` of the present parameters on these parts, if known.
            with_constraints: whether the constraints belong to it.
        """
        if not isinstance(parts, SpreadParts) and len(parts) == 1 and rms is None:
            (part,) = parts
            means = divided(self.sums(part), part.labels.counts)
            data = self.settings.total(means, prefactors)
            gradient = self.backward(data)
        else:
            if rms is not None:
                means, counts = self._known_means(parts, rms)
            elif isinstance(parts, SpreadParts):
                means, counts = _means(summed(squares_before_gradients, self, parts))
            else:
                means, counts = _means(squares(self, parts))
            data = self.settings.total(means, prefactors)
            slopes = self.settings.slopes(floats(means), prefactors)
            (gradient,) = summed(gradients, self, parts, slopes, counts)
        amount = float(data.detach())
        losses: Mapping[str, float] = {}
        if with_constraints:
            losses, slopes_by_constraints, _ = self.constraint_terms()
            gradient = gradient + slopes_by_constraints
        return Value(amount + sum(losses.values()), amount, roots(means), losses), gradient

    def constraint_terms(self, *, with_curvature: bool = False) -> tuple[Mapping[str, float], Tensor, Tensor]:
        """The constraints' losses by name, the gradient of their sum, and its Gauss-Newton matrix (empty if unwanted).

        Where a constraint offers ``residuals(model)``, its loss may be any function of their norm: the slope of that
        function comes from the gradients of both. Otherwise the loss is taken for one squared residual.
        """
        losses = {}
        gradient = torch.zeros_like(self.parameters())
        n = len(gradient) if with_curvature else 0
        matrix = gradient.new_zeros(n, n)
        for constraint in self.constraints:
            loss = constraint.loss(self.model)
            losses[constraint.name] = float(loss.detach())
            slopes = self.backward(loss)
            gradient += slopes
            if with_curvature:
                matrix += self._constraint_curvature(constraint, losses[constraint.name], slopes)
        return losses, gradient, matrix

    def _constraint_curvature(self, constraint: Constraint, loss: float, gradient: Tensor) -> Tensor:
        residuals_of: Callable[[PotentialModel], Tensor] | None = getattr(constraint, "residuals", None)
        if residuals_of is None:
            scale = 0.5 / loss if loss > _NEGLIGIBLE else 0.0
            return scale * torch.outer(gradient, gradient)
        residuals = residuals_of(self.model).reshape(-1)
        rows = torch.stack([self.backward(residual, keep=True) for residual in residuals])
        of_square = 2.0 * rows.T @ residuals.detach()
        norm = float(of_square @ of_square)
        slope = float(gradient @ of_square) / norm if norm > _NEGLIGIBLE**2 else 0.0
        return max(2.0 * slope, 0.0) * rows.T @ rows

    def sums(self, part: LabelledBatch) -> Means:
        """Sums of the squared residuals of a batch, differentiable in the parameters."""
        return sums_of_squares(self.settings.residuals(self.model(part.batch), part))

    def keep(self, sums: Means) -> None:
        """Keep the sums of the one batch of a worker for :func:`gradients`."""
        self._pending = sums

    def forget(self) -> Means | None:
        """What :meth:`keep` kept, no longer."""
        pending, self._pending = self._pending, None
        return pending

    def _known_means(self, parts: Parts, rms: Weights3) -> tuple[Means, Counts]:
        known = self.parameters().new_tensor([root**2 for root in rms]).unbind()
        if isinstance(parts, SpreadParts):
            return (known[0], known[1], known[2]), parts.counts
        columns = list(zip(*(part.labels.counts for part in parts), strict=True))
        return (known[0], known[1], known[2]), (sum(columns[0]), sum(columns[1]), sum(columns[2]))

    def backward(self, loss: Tensor, *, keep: bool = False) -> Tensor:
        """Derivatives ``[n_parameters]`` of a scalar; ``keep`` allows more of the same graph."""
        if not loss.requires_grad:
            return torch.zeros_like(self.parameters())
        slopes = torch.autograd.grad(loss, self._parameters, allow_unused=True, retain_graph=keep)
        return torch.cat(
            [
                (torch.zeros_like(tensor) if slope is None else slope.detach()).reshape(-1)
                for tensor, slope in zip(self._parameters, slopes, strict=True)
            ]
        )

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Flat parameters by name, in their shapes."""
        pieces = torch.split(flat, [tensor.numel() for tensor in self._parameters])
        named = zip(self._named.items(), pieces, strict=True)
        return {name: piece.reshape(tensor.shape) for (name, tensor), piece in named}


def squares(
    objective: Objective,
    parts: Iterable[LabelledBatch],
    observe: Callable[[ModelOutput, LabelledBatch], None] | None = None,
) -> Sums:
    """Sums ``[3]`` of the squared residuals of energy, force and virial, without gradients, and their numbers ``[3]``.

    Args:
        observe: called with what the model computes for each part.
    """
    totals = list(objective.parameters().new_zeros(3).unbind())
    counts = [0, 0, 0]
    with torch.no_grad():
        for part in parts:
            output = objective.model(part.batch)
            if observe is not None:
                observe(output, part)
            for k, total in enumerate(sums_of_squares(objective.settings.residuals(output, part))):
                totals[k] = totals[k] + total
                counts[k] += part.labels.counts[k]
    return torch.stack(totals), torch.tensor(counts)


def squares_before_gradients(objective: Objective, parts: Collection[LabelledBatch]) -> Sums:
    """The same, after which :func:`gradients` of one batch costs no second run of the model."""
    if len(parts) > 1:
        return squares(objective, parts)
    (part,) = parts
    sums = objective.sums(part)
    objective.keep(sums)
    return torch.stack(sums).detach(), torch.tensor(part.labels.counts)


def gradients(objective: Objective, parts: Iterable[LabelledBatch], slopes: Sequence[float], counts: Counts) -> Sums:
    """Gradient ``[n_parameters]`` of a sum of mean squares.

    Args:
        slopes: derivatives of the loss by the mean squares.
        counts: what the sums of all parts, wherever they are, are divided by.
    """
    pending = objective.forget()
    gradient = torch.zeros_like(objective.parameters())
    for part in parts:
        energy, force, virial = divided(objective.sums(part) if pending is None else pending, counts)
        gradient += objective.backward(slopes[0] * energy + slopes[1] * force + slopes[2] * virial)
    return (gradient,)


def _means(sums: Sums) -> tuple[Means, Counts]:
    """Mean squares, and the counts they were divided by."""
    energy, force, virial = sums[0].unbind()
    counts = as_counts(sums[1])
    return divided((energy, force, virial), counts), counts


_NEGLIGIBLE = 1e-14


def _bounds(model: PotentialModel, named: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Bounds of the flat parameters from the model's optional ``parameter_bounds() -> {name: (lowest, highest)}``."""
    offered: Callable[[], Mapping[str, tuple[float | Tensor, float | Tensor]]] | None
    offered = getattr(model, "parameter_bounds", None)
    if offered is None:
        return None, None
    bounds = offered()
    unknown = sorted(set(bounds) - {name for name, _ in model.named_parameters()})
    if unknown:
        raise SurrogateError(f"the model bounds {', '.join(unknown)}, which are not parameters of it")
    sides = []
    for side, infinite in ((0, -math.inf), (1, math.inf)):
        values = [
            torch.as_tensor(bounds[name][side] if name in bounds else infinite, dtype=tensor.dtype)
            .to(tensor.device)
            .expand(tensor.shape)
            .reshape(-1)
            for name, tensor in named.items()
        ]
        sides.append(torch.cat(values))
    return sides[0], sides[1]


def as_counts(numbers: Tensor) -> Counts:
    """Counts ``[3]`` as plain numbers."""
    energy, force, virial = numbers.tolist()
    return energy, force, virial


def divided(sums: Means, counts: Counts) -> Means:
    """Means from sums; 0 of nothing."""
    return sums[0] / max(counts[0], 1), sums[1] / max(counts[1], 1), sums[2] / max(counts[2], 1)


def floats(means: Means) -> Weights3:
    """Means as plain numbers."""
    return float(means[0].detach()), float(means[1].detach()), float(means[2].detach())


def roots(means: Means) -> Weights3:
    """Root mean squares as plain numbers."""
    energy, force, virial = floats(means)
    return math.sqrt(energy), math.sqrt(force), math.sqrt(virial)
