"""The parameters that energies are linear in, in closed form (ridge regression on energies, forces and virials).

With all other parameters as they are, the loss is quadratic in these, so that one solution of normal equations takes
the place of thousands of steps; what it costs is about ten passes over the frames. A loss of root mean squares is not
quadratic: there the weights of its terms follow the solution until they settle, which costs no further pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..base import SurrogateError
from .batches import LabelledFrames
from .frame_sums import Parts, SpreadFrames, Sums, summed
from .graph import Batch
from .loss import LabelledBatch
from .model import LinearRows, ModelOutput
from .objective import Objective, Value, Weights3
from .optimizer_settings import LeastSquaresSettings
from .optimizers import Step

_MAX_ROUNDS = 100  # of weights that follow the solution
_SETTLED = 1e-6
_BYTES_OF_SLOPES = 2**24  # of one batch; larger ones are slower, since their memory is fetched anew each time


@dataclass
class _Term:
    """Sums over the residuals of one term of the loss: ``|A w - y|^2``."""

    square: Tensor  # A^T A
    moment: Tensor  # A^T y
    constant: float = 0.0  # y^T y
    count: int = 0

    def add(self, columns: Tensor, rows: Tensor, wanted: Tensor) -> None:
        rows, wanted = rows.double(), wanted.double()
        self.square[columns[:, None], columns] += rows.T @ rows
        self.moment[columns] += rows.T @ wanted
        self.constant += float(wanted @ wanted)
        self.count += len(wanted)

    def mean(self, weights: Tensor) -> float:
        total = float(weights @ (self.square @ weights) - 2.0 * weights @ self.moment) + self.constant
        return max(total, 0.0) / max(self.count, 1)


class LeastSquares:
    """See :class:`~.optimizer_settings.LeastSquaresSettings`.

    Args:
        objective: what is minimized.
        settings: of the optimizer.
        frames: those of the training.
        max_pairs: pairs of atoms in one batch.

    Raises:
        SurrogateError: the model's energies are linear in no parameter, or there are constraints, which are not.
    """

    def __init__(
        self,
        objective: Objective,
        settings: LeastSquaresSettings,
        frames: LabelledFrames | SpreadFrames,
        *,
        max_pairs: int,
    ) -> None:
        names = objective.model.linear_parameters()
        if not names:
            raise SurrogateError(
                f"least_squares needs energies that are linear in some parameters, which those of "
                f"{type(objective.model).__name__} are not; choose gauss_newton, lbfgs or adam"
            )
        if objective.constraints:
            named = ", ".join(constraint.name for constraint in objective.constraints)
            raise SurrogateError(f"least_squares knows no constraints, got {named}; leave them out or choose adam")
        self._objective = objective
        self._settings = settings
        self._frames = frames
        self._names = names
        self._places = objective.places(names)
        row = 3 * len(self._places) * objective.parameters().element_size()
        self._max_pairs = min(max_pairs, max(_BYTES_OF_SLOPES // row, 1))

    def step(self, parts: Parts, rate_factor: float, prefactors: Weights3) -> Step:
        """See :meth:`~.optimizers.Optimizer.step`: the solution, after which nothing is better nearby."""
        objective = self._objective
        start = objective.parameters()
        terms = self._normal_equations()
        finite = [bool(torch.isfinite(term.square).all()) and math.isfinite(term.constant) for term in terms]
        if not all(finite):
            return Step(objective.value(parts, prefactors), "rejected")
        weights = self._solution(terms, prefactors)
        trial = start.clone()
        trial[self._places] = weights.to(start.dtype)
        objective.assign(objective.within_bounds(trial))
        value: Value = objective.value(parts, prefactors)
        if not value.is_finite:
            objective.assign(start)
        return Step(value, "converged" if value.is_finite else "rejected")

    def soften(self) -> None:
        """See :meth:`~.optimizers.Optimizer.soften`: there is nothing to soften."""

    def state(self) -> Mapping[str, Tensor]:
        """See :meth:`~.optimizers.Optimizer.state`: there is no memory."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See :meth:`~.optimizers.Optimizer.restore`."""

    def _solution(self, terms: tuple[_Term, _Term, _Term], prefactors: Weights3) -> Tensor:
        weights = torch.zeros_like(terms[0].moment)
        before = math.inf
        for _ in range(_MAX_ROUNDS):
            means = terms[0].mean(weights), terms[1].mean(weights), terms[2].mean(weights)
            slopes = self._objective.settings.slopes(means, prefactors)
            factors = [slope / max(term.count, 1) for slope, term in zip(slopes, terms, strict=True)]
            square = sum((f * t.square for f, t in zip(factors, terms, strict=True)), torch.zeros_like(terms[0].square))
            moment = sum((f * t.moment for f, t in zip(factors, terms, strict=True)), torch.zeros_like(weights))
            weights = self._ridge_solution(square, moment)
            means = terms[0].mean(weights), terms[1].mean(weights), terms[2].mean(weights)
            loss = sum(p * m for p, m in zip(self._objective.settings.slopes(means, prefactors), means, strict=True))
            if abs(before - loss) <= _SETTLED * loss:
                break
            before = loss
        return weights

    def _ridge_solution(self, square: Tensor, moment: Tensor) -> Tensor:
        """The smallest loss plus ``ridge`` times the diagonal times the weights' squares."""
        diagonal = square.diagonal()
        scale = diagonal.clamp_min(1e-12 * float(diagonal.max())).clamp_min(1e-300).rsqrt()
        inner = square * scale[:, None] * scale
        inner.diagonal().add_(self._settings.ridge)
        factor, failed = torch.linalg.cholesky_ex(inner)
        if int(failed):
            raise SurrogateError(
                f"the normal equations of the output layer are singular with ridge = {self._settings.ridge:g}; "
                "choose a larger one, such as 1e-6"
            )
        return scale * torch.cholesky_solve((scale * moment)[:, None], factor)[:, 0]

    def _normal_equations(self) -> tuple[_Term, _Term, _Term]:
        """Sums over all frames, for residuals of the model with these parameters at zero."""
        data = self._frames.data if isinstance(self._frames, SpreadFrames) else self._frames
        # frames of equal species together: their rows have no empty columns
        species = [tuple(np.unique(graph.types)) for graph in data.graphs]
        order = sorted(range(len(species)), key=lambda k: species[k])
        parts = self._frames.parts(order, None, self._max_pairs)
        squares, moments, constants, counts = summed(linear_sums, self._objective, parts, self._names)
        energy, force, virial = (
            _Term(squares[k], moments[k], float(constants[k]), int(counts[k])) for k in range(len(squares))
        )
        return energy, force, virial


def linear_sums(objective: Objective, parts: Iterable[LabelledBatch], names: Sequence[str]) -> Sums:
    """What the normal equations of the linear parameters ``names`` add up, for energy, force and virial: products of
    rows ``[3, n, n]``, of rows and labels ``[3, n]``, squared labels ``[3]`` and their numbers ``[3]``."""
    places = objective.places(names)
    n, device = len(places), places.device

    def empty() -> _Term:
        square = torch.zeros(n, n, dtype=torch.float64, device=device)
        return _Term(square, torch.zeros(n, dtype=torch.float64, device=device))

    terms = empty(), empty(), empty()
    present = objective.parameters()[places]
    for part in parts:
        with torch.no_grad():
            rows = objective.model.linear_rows(part.batch)
            for term, (matrix, wanted) in zip(terms, _weighted(objective, part, rows, present), strict=True):
                term.add(rows.columns, matrix, wanted)
    return (
        torch.stack([term.square for term in terms]),
        torch.stack([term.moment for term in terms]),
        torch.tensor([term.constant for term in terms], dtype=torch.float64),
        torch.tensor([term.count for term in terms]),
    )


def _weighted(
    objective: Objective, part: LabelledBatch, rows: LinearRows, present: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Weighted rows and labels for (energy, force, virial); labels are what the linear parameters have to make."""
    settings, batch, labels = objective.settings, part.batch, part.labels
    output = objective.model(batch)
    residuals = settings.residuals(output, part)
    ones = ModelOutput(output.energies + 1.0, output.forces + 1.0, output.virials + 1.0)
    weights = [above - at for above, at in zip(settings.residuals(ones, part), residuals, strict=True)]
    forces, virials = _gathered(batch, rows.slopes)
    if labels.atoms_with_forces is not None:
        forces = forces[labels.atoms_with_forces]
    if labels.frames_with_virial is not None:
        virials = virials[labels.frames_with_virial]
    matrices = rows.energies, forces.flatten(0, 1), virials.flatten(0, 1)
    found = []
    for matrix, weight, residual in zip(matrices, weights, residuals, strict=True):
        weighted = matrix * weight[:, None]
        found.append((weighted, weighted @ present[rows.columns] - residual))
    return found


def _gathered(batch: Batch, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of forces ``[n_atoms, 3, n]`` and virials ``[n_frames, 9, n]`` from those of slopes ``[n_pairs, 3, n]``."""
    n = slopes.shape[2]
    forces = slopes.new_zeros(len(batch.types), 3, n)
    forces.index_add_(0, batch.first, slopes).index_add_(0, batch.second, slopes, alpha=-1)
    virials = slopes.new_zeros(batch.n_frames, 3, 3, n)
    frames, vectors = batch.frame_of_pair, batch.vectors
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        terms = (vectors[:, i, None] * slopes[:, j] + vectors[:, j, None] * slopes[:, i]) / 2.0
        virials[:, i, j].index_add_(0, frames, terms)
        if i != j:
            virials[:, j, i] = virials[:, i, j]
    return forces, virials.flatten(1, 2)
