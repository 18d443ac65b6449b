"""The loss of a model on its data and constraints, its gradient, and its Gauss-Newton curvature.

Sums over the data are accumulated batch by batch, so memory is bounded by the largest batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import SurrogateError
from .constraint import Constraint
from .graph import Batch
from .loss import LabelledBatch, RmseLossSettings, SquaredLossSettings, sums_of_squares
from .model import ModelOutput, OutputSlopes, PotentialModel

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
        self._place = _places(model)

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
            for tensor, values in zip(self._parameters, self._split(flat), strict=True):
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
        parts: Collection[LabelledBatch],
        prefactors: Weights3,
        *,
        with_constraints: bool = True,
        observe: Callable[[ModelOutput, LabelledBatch], None] | None = None,
    ) -> Value:
        """The loss of the present parameters on all parts together.

        Args:
            parts: batches whose frames make up the loss.
            prefactors: weights of energy, force and virial.
            with_constraints: whether the constraints belong to it.
            observe: called with what the model computes for each part.
        """
        means, _ = self._means(parts, observe)
        data = float(self.settings.total(means, prefactors))
        terms = {c.name: float(c.loss(self.model).detach()) for c in self.constraints} if with_constraints else {}
        return Value(data + sum(terms.values()), data, _roots(means), terms)

    def gradient(
        self,
        parts: Collection[LabelledBatch],
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
        if len(parts) == 1 and rms is None:
            (part,) = parts
            means = _divided(self._sums(part), part.labels.counts)
            data = self.settings.total(means, prefactors)
            gradient = self._backward(data)
        else:
            means, counts = self._means(parts) if rms is None else self._known_means(parts, rms)
            data = self.settings.total(means, prefactors)
            slopes = self.settings.slopes(_floats(means), prefactors)
            gradient = torch.zeros_like(self.parameters())
            for part in parts:
                energy, force, virial = _divided(self._sums(part), counts)
                gradient += self._backward(slopes[0] * energy + slopes[1] * force + slopes[2] * virial)
        amount = float(data.detach())
        losses: Mapping[str, float] = {}
        if with_constraints:
            losses, slopes_by_constraints, _ = self.constraint_terms()
            gradient = gradient + slopes_by_constraints
        return Value(amount + sum(losses.values()), amount, _roots(means), losses), gradient

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
            slopes = self._backward(loss)
            gradient += slopes
            if with_curvature:
                matrix += self._constraint_curvature(constraint, losses[constraint.name], slopes)
        return losses, gradient, matrix

    def normal_equations(
        self, parts: Collection[LabelledBatch], prefactors: Weights3
    ) -> tuple[Value, Tensor, Tensor] | None:
        """The loss of the data, its gradient, and its Gauss-Newton matrix from all parts, in one pass.

        ``None`` from a model that has no derivatives by its parameters in closed form.
        """
        n = self.n_parameters
        squares, slopes = self.parameters().new_zeros(3, n, n), self.parameters().new_zeros(3, n)
        totals, counts = self.parameters().new_zeros(3), [0, 0, 0]
        wanted = [k for k in range(3) if prefactors[k] > 0.0]
        for part in parts:
            with torch.no_grad():
                rows_of_frames = self.model.output_slopes(part.batch, with_virials=2 in wanted)
                if rows_of_frames is None:
                    return None
                residuals = self.settings.residuals(self.model(part.batch), part)
                totals += torch.stack(sums_of_squares(residuals))
                for k, count in enumerate(part.labels.counts):
                    counts[k] += count
                for columns, terms in self._weighted(rows_of_frames, part, residuals):
                    for k in wanted:
                        jacobian, residual = terms[k]
                        slopes[k, columns] += residual @ jacobian
                        squares[k][columns[:, None], columns] += jacobian.T @ jacobian
        means = _divided((totals[0], totals[1], totals[2]), (counts[0], counts[1], counts[2]))
        factors = [
            2.0 * slope / max(count, 1)
            for slope, count in zip(self.settings.slopes(_floats(means), prefactors), counts, strict=True)
        ]
        data = float(self.settings.total(means, prefactors))
        weights = torch.tensor(factors, dtype=squares.dtype, device=squares.device)
        return (
            Value(data, data, _roots(means), {}),
            weights @ slopes,
            (weights[:, None, None] * squares).sum(0),
        )

    def _weighted(
        self, rows_of_frames: Iterable[OutputSlopes], part: LabelledBatch, residuals: tuple[Tensor, Tensor, Tensor]
    ) -> Iterator[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
        """For each frame the parameters, and (rows ``[k, n]``, residuals ``[k]``) of energy, forces and virials."""
        labels = part.labels
        per_size, per_frame = self.settings.scales(part)
        forces = part.batch.vectors.new_zeros(len(part.batch.types), 3)
        virials = part.batch.vectors.new_zeros(part.batch.n_frames, 9)
        has_forces, has_virial = (torch.zeros(len(x), dtype=torch.bool, device=x.device) for x in (forces, virials))
        atoms = slice(None) if labels.atoms_with_forces is None else labels.atoms_with_forces
        frames = slice(None) if labels.frames_with_virial is None else labels.frames_with_virial
        forces[atoms], virials[frames] = residuals[1].reshape(-1, 3), residuals[2].reshape(-1, 9)
        has_forces[atoms], has_virial[frames] = True, True
        first = 0
        for k, rows in enumerate(rows_of_frames):
            atoms_of_frame = slice(first, first + len(rows.forces) // 3)
            first = atoms_of_frame.stop
            columns = self._place[rows.columns]
            energy, force, virial = rows.energy[None], rows.forces, rows.virial
            free = columns >= 0
            if not bool(free.all()):
                columns, energy, force, virial = (r[..., free] for r in (columns, energy, force, virial))
            yield (
                columns,
                [
                    (energy * per_size[k], residuals[0][k : k + 1]),
                    (force * per_frame[k] * has_forces[first - 1], forces[atoms_of_frame].reshape(-1)),
                    (virial * per_size[k] * has_virial[k], virials[k]),
                ],
            )

    def curvature(
        self,
        parts: Collection[LabelledBatch],
        at: Value,
        prefactors: Weights3,
        max_bytes: int,
        *,
        singles: Iterable[LabelledBatch] = (),
    ) -> Tensor:
        """Gauss-Newton matrix ``[n_parameters, n_parameters]`` of the loss of the data.

        For ``rmse`` it belongs to the sum of weighted squares that touches the loss from above at the present
        parameters, so that its steps go down.

        Args:
            parts: the frames that the terms of forces and virials are estimated from; may be fewer than those of the
                loss, since each has hundreds of components.
            at: value of the loss at the present parameters.
            max_bytes: bounds the directions that are differentiated at once.
            singles: batches of one frame, from which the term of energies is taken; from ``parts`` if there are none.
        """
        slopes = self.settings.slopes((at.rms[0] ** 2, at.rms[1] ** 2, at.rms[2] ** 2), prefactors)
        start = self.parameters().new_zeros(self.n_parameters, self.n_parameters)
        squares = [start.clone() for _ in slopes]
        counts = [0, 0, 0]
        for part in parts:
            for k, jacobian in enumerate(self.jacobian(part, max_bytes)):
                squares[k] += jacobian.T @ jacobian
                counts[k] += part.labels.counts[k]
        for k, single in enumerate(singles):
            if k == 0:
                squares[0], counts[0] = start.clone(), 0
            row = self._energy_slopes(single)
            squares[0] += torch.outer(row, row)
            counts[0] += 1
        matrix = start
        for slope, n, square in zip(slopes, counts, squares, strict=True):
            if slope > 0.0 and n > 0:
                matrix = matrix + (2.0 * slope / n) * square
        return matrix

    def jacobian(self, part: LabelledBatch, max_bytes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the residuals (energy, force, virial), ``[n_residuals, n_parameters]``, by forward mode."""
        inner = _ForwardModel(self.model)
        names = [f"model.{name}" for name in self._named]

        def residuals(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            values = dict(zip(names, self._split(flat), strict=True))
            output = torch.func.functional_call(inner, values, (part.batch,))
            return self.settings.residuals(output, part)

        # a pair's share of the intermediate results of one direction, roughly 64 numbers
        per_direction = 64 * part.batch.vectors.element_size() * max(len(part.batch.first), 1)
        chunk = max(1, min(self.n_parameters, max_bytes // per_direction))
        flat = self.parameters()

        def along(direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return torch.func.jvp(residuals, (flat,), (direction,))[1]

        directions = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
        with torch.no_grad(), self.model.composable():
            energy, force, virial = torch.func.vmap(along, chunk_size=chunk)(directions)
        return energy.T, force.T, virial.T

    def _energy_slopes(self, single: LabelledBatch) -> Tensor:
        """Derivatives of the energy residual of one frame, by reverse mode: one pass for all parameters."""
        batch = single.batch
        zeros = batch.vectors.new_zeros(len(batch.types), 3), batch.vectors.new_zeros(1, 3, 3)
        output = ModelOutput(self.model.energies(batch), *zeros)
        return self._backward(self.settings.residuals(output, single)[0].sum())

    def _constraint_curvature(self, constraint: Constraint, loss: float, gradient: Tensor) -> Tensor:
        residuals_of: Callable[[PotentialModel], Tensor] | None = getattr(constraint, "residuals", None)
        if residuals_of is None:
            scale = 0.5 / loss if loss > _NEGLIGIBLE else 0.0
            return scale * torch.outer(gradient, gradient)
        residuals = residuals_of(self.model).reshape(-1)
        rows = torch.stack([self._backward(residual, keep=True) for residual in residuals])
        of_square = 2.0 * rows.T @ residuals.detach()
        norm = float(of_square @ of_square)
        slope = float(gradient @ of_square) / norm if norm > _NEGLIGIBLE**2 else 0.0
        return max(2.0 * slope, 0.0) * rows.T @ rows

    def _sums(self, part: LabelledBatch) -> Means:
        return sums_of_squares(self.settings.residuals(self.model(part.batch), part))

    def _known_means(self, parts: Collection[LabelledBatch], rms: Weights3) -> tuple[Means, Counts]:
        squares = self.parameters().new_tensor([root**2 for root in rms]).unbind()
        columns = list(zip(*(part.labels.counts for part in parts), strict=True))
        return (squares[0], squares[1], squares[2]), (sum(columns[0]), sum(columns[1]), sum(columns[2]))

    def _means(
        self,
        parts: Collection[LabelledBatch],
        observe: Callable[[ModelOutput, LabelledBatch], None] | None = None,
    ) -> tuple[Means, Counts]:
        """Mean squares of the residuals of all parts, without gradients, and the counts they were divided by."""
        totals = list(self.parameters().new_zeros(3).unbind())
        counts = [0, 0, 0]
        with torch.no_grad():
            for part in parts:
                output = self.model(part.batch)
                if observe is not None:
                    observe(output, part)
                for k, total in enumerate(sums_of_squares(self.settings.residuals(output, part))):
                    totals[k] = totals[k] + total
                    counts[k] += part.labels.counts[k]
        n = (counts[0], counts[1], counts[2])
        return _divided((totals[0], totals[1], totals[2]), n), n

    def _backward(self, loss: Tensor, *, keep: bool = False) -> Tensor:
        if not loss.requires_grad:
            return torch.zeros_like(self.parameters())
        slopes = torch.autograd.grad(loss, self._parameters, allow_unused=True, retain_graph=keep)
        return torch.cat(
            [
                (torch.zeros_like(tensor) if slope is None else slope.detach()).reshape(-1)
                for tensor, slope in zip(self._parameters, slopes, strict=True)
            ]
        )

    def _split(self, flat: Tensor) -> list[Tensor]:
        pieces = torch.split(flat, [tensor.numel() for tensor in self._parameters])
        return [piece.reshape(tensor.shape) for piece, tensor in zip(pieces, self._parameters, strict=True)]


class _ForwardModel(PotentialModel):
    """A model whose pair forces are differentiable in forward mode: in closed form, or by composable transforms."""

    def __init__(self, model: PotentialModel) -> None:
        super().__init__(model.elements, model.cutoff_ang)
        self.model = model
        self._is_closed = type(model).energies_and_pair_forces is not PotentialModel.energies_and_pair_forces

    def energies(self, batch: Batch) -> Tensor:
        return self.model.energies(batch)

    def settings(self) -> Mapping[str, object]:
        return self.model.settings()

    def energies_and_pair_forces(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self._is_closed:
            return self.model.energies_and_pair_forces(batch)

        def total(vectors: Tensor) -> tuple[Tensor, Tensor]:
            energies = self.model.energies(batch.with_vectors(vectors))
            return energies.sum(), energies

        slopes, energies = torch.func.grad(total, has_aux=True)(batch.vectors)
        return energies, slopes


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


def _places(model: PotentialModel) -> Tensor:
    """Place of each parameter among the trainable ones, int64; -1 for the others."""
    n, places = 0, []
    for tensor in model.parameters():
        shape = tensor.numel() if tensor.requires_grad else 0
        places.append(torch.arange(n, n + shape) if shape else torch.full((tensor.numel(),), -1))
        n += shape
    return torch.cat(places).to(tensor.device)


def _divided(sums: Means, counts: Counts) -> Means:
    return sums[0] / max(counts[0], 1), sums[1] / max(counts[1], 1), sums[2] / max(counts[2], 1)


def _floats(means: Means) -> Weights3:
    return float(means[0].detach()), float(means[1].detach()), float(means[2].detach())


def _roots(means: Means) -> Weights3:
    energy, force, virial = _floats(means)
    return math.sqrt(energy), math.sqrt(force), math.sqrt(virial)
