"""The Gauss-Newton curvature of the data's part of a loss: from derivatives that a model has, or by forward mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from .frame_sums import Parts, SpreadParts, Sums, summed
from .graph import Batch
from .loss import LabelledBatch, sums_of_squares
from .model import ModelOutput, PotentialModel
from .objective import Counts, Objective, Value, Weights3, as_counts, divided, floats, roots

_NUMBERS_PER_PAIR = 64  # among the intermediate results of one direction, roughly


def normal_equations(objective: Objective, parts: Parts, prefactors: Weights3) -> tuple[Value, Tensor, Tensor]:
    """The loss of the data, its gradient and its Gauss-Newton matrix from all frames, in one pass.

    Args:
        objective: of a model that has :meth:`~.model.PotentialModel.output_slopes`.
        parts: batches whose frames make up the loss.
        prefactors: weights of energy, force and virial.
    """
    wanted = tuple(k for k in range(3) if prefactors[k] > 0.0)
    squares, moments, totals, numbers = summed(normal_sums, objective, parts, wanted)
    counts = as_counts(numbers)
    means = divided((totals[0], totals[1], totals[2]), counts)
    factors = _factors(objective, floats(means), counts, prefactors)
    data = float(objective.settings.total(means, prefactors))
    return Value(data, data, roots(means), {}), factors @ moments, torch.einsum("k,kij->ij", factors, squares)


def normal_sums(objective: Objective, parts: Iterable[LabelledBatch], wanted: tuple[int, ...]) -> Sums:
    """What :func:`normal_equations` adds up, for energy, force and virial: products of rows ``[3, n, n]``, of rows and
    residuals ``[3, n]``, squared residuals ``[3]`` and their numbers ``[3]``; products for ``wanted`` terms only."""
    settings, n = objective.settings, objective.n_parameters
    empty = objective.parameters().new_zeros
    squares, moments, totals, counts = empty(3, n, n), empty(3, n), empty(3), (0, 0, 0)
    place = places_of_trained(objective.model)
    for part in parts:
        with torch.no_grad():
            slopes_of_frames = objective.model.output_slopes(part.batch, with_virials=2 in wanted)
            if slopes_of_frames is None:
                raise TypeError(f"{type(objective.model).__name__} has no derivatives by its parameters in closed form")
            residuals = settings.residuals(objective.model(part.batch), part)
            totals += torch.stack(sums_of_squares(residuals))
            counts = _added(counts, part.labels.counts)
            per_size, per_frame = (scale.tolist() for scale in settings.scales(part))
            known = _by_frame(part, residuals)
            for slopes, of_frame, size, weight in zip(slopes_of_frames, known, per_size, per_frame, strict=True):
                columns = place[slopes.columns]
                free = columns >= 0
                rows = slopes.energy[None] * size, slopes.forces * weight, slopes.virial * size
                for k in wanted:
                    if len(of_frame[k]):
                        matrix = rows[k] if bool(free.all()) else rows[k][:, free]
                        moments[k, columns[free]] += of_frame[k] @ matrix
                        squares[k][columns[free][:, None], columns[free]] += matrix.T @ matrix
    return squares, moments, totals, torch.tensor(counts)


def forward_curvature(
    objective: Objective,
    parts: Iterable[LabelledBatch] | SpreadParts,
    at: Value,
    prefactors: Weights3,
    max_bytes: int,
    *,
    singles: Iterable[LabelledBatch] | SpreadParts = (),
) -> Tensor:
    """Gauss-Newton matrix ``[n_parameters, n_parameters]`` of the loss of the data, for any model.

    For ``rmse`` it belongs to the sum of weighted squares that touches the loss from above at the present parameters,
    so that its steps go down.

    Args:
        objective: the loss.
        parts: the frames that the terms of forces and virials are estimated from; may be fewer than those of the loss,
            since each has hundreds of components.
        at: value of the loss at the present parameters.
        prefactors: weights of energy, force and virial.
        max_bytes: bounds the directions that are differentiated at once.
        singles: batches of one frame, from which the term of energies is taken; from ``parts`` if there are none.
    """
    squares, numbers = summed(jacobian_sums, objective, parts, max_bytes)
    energies, n_energies = summed(energy_sums, objective, singles)
    if int(n_energies):
        squares[0], numbers[0] = energies, n_energies
    counts = as_counts(numbers)
    means = at.rms[0] ** 2, at.rms[1] ** 2, at.rms[2] ** 2
    factors = _factors(objective, means, counts, prefactors)
    return torch.einsum("k,kij->ij", factors, squares)


def jacobian_sums(objective: Objective, parts: Iterable[LabelledBatch], max_bytes: int) -> Sums:
    """Products of the rows of :func:`jacobian`, ``[3, n_parameters, n_parameters]``, and their numbers ``[3]``."""
    n = objective.n_parameters
    squares, counts = objective.parameters().new_zeros(3, n, n), (0, 0, 0)
    for part in parts:
        for k, rows in enumerate(jacobian(objective, part, max_bytes)):
            squares[k] += rows.T @ rows
        counts = _added(counts, part.labels.counts)
    return squares, torch.tensor(counts)


def energy_sums(objective: Objective, singles: Iterable[LabelledBatch]) -> Sums:
    """The same for energies alone, from batches of one frame: ``[n_parameters, n_parameters]``, a number."""
    n = objective.n_parameters
    square, count = objective.parameters().new_zeros(n, n), 0
    for single in singles:
        row = _energy_slopes(objective, single)
        square += torch.outer(row, row)
        count += 1
    return square, torch.tensor(count)


def jacobian(objective: Objective, part: LabelledBatch, max_bytes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the residuals (energy, force, virial), ``[n_residuals, n_parameters]``, by forward mode."""
    model, flat = objective.model, objective.parameters()
    inner = _ForwardModel(model)

    def residuals(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = {f"model.{name}": value for name, value in objective.split(flat).items()}
        output = torch.func.functional_call(inner, values, (part.batch,))
        return objective.settings.residuals(output, part)

    per_direction = _NUMBERS_PER_PAIR * part.batch.vectors.element_size() * max(len(part.batch.first), 1)
    chunk = max(1, min(len(flat), max_bytes // per_direction))

    def along(direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.func.jvp(residuals, (flat,), (direction,))[1]

    directions = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    with torch.no_grad(), model.composable():
        energy, force, virial = torch.func.vmap(along, chunk_size=chunk)(directions)
    return energy.T, force.T, virial.T


def _energy_slopes(objective: Objective, single: LabelledBatch) -> Tensor:
    """Derivatives of the energy residual of one frame, by reverse mode: one pass for all parameters."""
    batch = single.batch
    zeros = batch.vectors.new_zeros(len(batch.types), 3), batch.vectors.new_zeros(1, 3, 3)
    output = ModelOutput(objective.model.energies(batch), *zeros)
    return objective.backward(objective.settings.residuals(output, single)[0].sum())


def _by_frame(part: LabelledBatch, residuals: tuple[Tensor, Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The residuals of each frame; empty where a frame has no forces or no virial."""
    labels, n_frames = part.labels, part.batch.n_frames
    has_forces, has_virial = (
        [labels.atoms_with_forces is None] * n_frames,
        [labels.frames_with_virial is None] * n_frames,
    )
    if labels.atoms_with_forces is not None:
        for k in part.batch.frame_of_atom[labels.atoms_with_forces].unique().tolist():
            has_forces[k] = True
    if labels.frames_with_virial is not None:
        for k in labels.frames_with_virial.tolist():
            has_virial[k] = True
    energy, force, virial = residuals
    atom = frame = 0
    for k, n_atoms in enumerate(part.batch.n_atoms.to(torch.int64).tolist()):
        n_forces, n_virials = 3 * n_atoms * has_forces[k], 9 * has_virial[k]
        yield energy[k : k + 1], force[atom : atom + n_forces], virial[frame : frame + n_virials]
        atom, frame = atom + n_forces, frame + n_virials


def _factors(objective: Objective, means: tuple[float, float, float], counts: Counts, prefactors: Weights3) -> Tensor:
    """What the sums over squared rows of each term are multiplied by, ``[3]``."""
    slopes = objective.settings.slopes(means, prefactors)
    factors = [2.0 * slope / count if count else 0.0 for slope, count in zip(slopes, counts, strict=True)]
    parameters = objective.parameters()
    return torch.tensor(factors, dtype=parameters.dtype, device=parameters.device)


def _added(first: Counts, second: Counts) -> Counts:
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def places_of_trained(model: PotentialModel) -> Tensor:
    """Place of each of a model's parameters among those that are trained, int64; -1 for the others."""
    n, places = 0, []
    for tensor in model.parameters():
        places.append(torch.full((tensor.numel(),), -1, device=tensor.device))
        if tensor.requires_grad:
            places[-1] = n + torch.arange(tensor.numel(), device=tensor.device)
            n += tensor.numel()
    return torch.cat(places)


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
