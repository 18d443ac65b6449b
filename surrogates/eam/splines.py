"""Trainable functions that are cubic splines: densities, pair, angular and embedding functions of any shape.

Each function is a sum of uniform cubic B-splines. Functions of the distance end at the cutoff with value, slope and
curvature zero, because the coefficients that reach beyond are; below their first knot they go on in a straight line,
so that they are finite at zero distance. Embedding functions go on in straight lines on both sides, as LAMMPS
continues its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from .functions import Curve
from .radial import AngularFunctions, Embedding, PairCurves, RadialFunctions, type_pairs

_TO_POLYNOMIAL = (
    torch.tensor(
        [[1.0, 4.0, 1.0, 0.0], [-3.0, 0.0, 3.0, 0.0], [3.0, -6.0, 3.0, 0.0], [-1.0, 3.0, -3.0, 1.0]],
        dtype=torch.float64,
    )
    / 6.0
)  # row k: the coefficient of t^k from those of the four B-splines that overlap an interval
_SAMPLES_PER_INTERVAL = 16


@dataclass(frozen=True)
class SplineKnots:
    """Uniform knots of functions of the distance.

    Attributes:
        inner_ang, cutoff_ang: first and last knot, Å.
        n_intervals: number of intervals between knots.
    """

    inner_ang: float
    cutoff_ang: float
    n_intervals: int


class UniformSplines(nn.Module):
    """Several cubic splines on equal grids, each with its own first knot and spacing or all with the same.

    Args:
        coefficients: ``[n_functions, n_intervals + 3]``; where ``ends_at_zero``, the last three are left out.
        first_knot, spacing: ``[n_functions]``.
        ends_at_zero: whether the functions vanish smoothly at the last knot and beyond.
    """

    first_knot: Tensor
    spacing: Tensor

    def __init__(
        self, coefficients: np.ndarray, first_knot: np.ndarray, spacing: np.ndarray, *, ends_at_zero: bool
    ) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.from_numpy(np.ascontiguousarray(coefficients)))
        self.ends_at_zero = ends_at_zero
        self.n_intervals = coefficients.shape[1] - (0 if ends_at_zero else 3)
        self.register_buffer("first_knot", torch.from_numpy(np.asarray(first_knot, dtype=float)))
        self.register_buffer("spacing", torch.from_numpy(np.asarray(spacing, dtype=float)))

    def table(self) -> Tensor:
        """Polynomials of all functions, ``[n_functions, n_intervals + 2, 4]``: the first and the last row lie outside.

        Row k + 1 is the polynomial of interval k in t, the place in it from 0 to 1.
        """
        coefficients: Tensor = self.coefficients
        if self.ends_at_zero:
            coefficients = torch.cat([coefficients, coefficients.new_zeros(len(coefficients), 3)], 1)
        windows = coefficients.unfold(1, 4, 1)
        inside = windows @ _TO_POLYNOMIAL.T.to(coefficients.device)
        zeros = coefficients.new_zeros(len(coefficients), 1, 2)
        before = torch.cat([inside[:, :1, :2], zeros], 2)
        if self.ends_at_zero:
            after = torch.cat([zeros, zeros], 2)
        else:
            last = inside[:, -1:]
            value, slope = last.sum(2, keepdim=True), last[..., 1:2] + 2.0 * last[..., 2:3] + 3.0 * last[..., 3:]
            after = torch.cat([value, slope, zeros], 2)
        return torch.cat([before, inside, after], 1)

    def place(self, x: Tensor, function: Tensor | int) -> tuple[Tensor, Tensor]:
        """Row of the table in which each value lies, and the place t in it, where x belongs to ``function``."""
        u = (x - self.first_knot[function]) / self.spacing[function]
        row = (u.detach().floor().to(torch.int64) + 1).clamp(0, self.n_intervals + 1)
        return row, u - (row - 1).clamp(min=0)

    def overlapping(self, x: Tensor, function: Tensor | int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four B-splines that make up a function at each place ``[n]``.

        Returns:
            The first one's coefficient, ``[n]``; the values, slopes and second derivatives of the four, ``[4, n]``.
        """
        row, t = self.place(x, function)
        is_inside = (row > 0) & (row <= self.n_intervals)
        end = (row > self.n_intervals).to(t.dtype)
        at = torch.where(is_inside, t, end)
        beyond = torch.where(is_inside, 0.0, t)  # there the tangent at the nearest end
        zero, one = torch.zeros_like(at), torch.ones_like(at)
        powers = torch.stack([one, at, at**2, at**3])
        slopes = torch.stack([zero, one, 2.0 * at, 3.0 * at**2])
        curvatures = torch.stack([zero, zero, 2.0 * one, 6.0 * at]) * is_inside
        parts = [powers + beyond * slopes, slopes, curvatures]
        if self.ends_at_zero:
            parts = [part * (1.0 - end) for part in parts]
        inverse = torch.reciprocal(self.spacing[function])
        shapes = _TO_POLYNOMIAL.T.to(x.device, x.dtype)
        values, slopes, curvatures = (shapes @ part for part in parts)
        return (row - 1).clamp(0, self.n_intervals - 1), values, slopes * inverse, curvatures * inverse**2


def _polynomial(rows: Tensor, t: Tensor, inverse_spacing: Tensor) -> Curve:
    """Value and slope of cubics whose coefficients are ``rows``, ``[n, 4]``."""
    c0, c1, c2, c3 = rows.unbind(1)
    return c0 + t * (c1 + t * (c2 + t * c3)), (c1 + t * (2.0 * c2 + t * (3.0 * c3))) * inverse_spacing


def fitted_coefficients(
    function: Callable[[Tensor], Tensor], first: float, last: float, n_intervals: int, *, ends_at_zero: bool
) -> np.ndarray:
    """Coefficients of the spline nearest to a function, by least squares.

    Deviations count relative to a tenth of the function's median size plus its size, so that a steep inner wall does
    not spoil the part where atoms are.
    """
    x = np.linspace(first, last, _SAMPLES_PER_INTERVAL * n_intervals + 1)
    spacing = (last - first) / n_intervals
    values = function(torch.from_numpy(x)).detach().numpy()
    u = (x - first) / spacing
    k = np.minimum(u.astype(int), n_intervals - 1)
    powers = (u - k)[:, None] ** np.arange(4)
    design = np.zeros((len(x), n_intervals + 3))
    np.put_along_axis(design, k[:, None] + np.arange(4), powers @ _TO_POLYNOMIAL.numpy(), axis=1)
    if ends_at_zero:
        design = design[:, :-3]
    size = np.abs(values)
    weights = 1.0 / (0.1 * np.median(size) + size + 1e-12)
    return np.linalg.lstsq(design * weights[:, None], values * weights, rcond=None)[0]


class SplineRadial(RadialFunctions):
    """Densities of each element and pair functions of each pair as splines.

    Args:
        start: functions that the splines are fitted to.
        n_elements: number of species.
        knots: the grid of all splines.
    """

    def __init__(self, start: RadialFunctions, n_elements: int, knots: SplineKnots) -> None:
        super().__init__()
        self.pairs = type_pairs(n_elements)
        self.diagonal = [k for k, (a, b) in enumerate(self.pairs) if a == b]

        def curves_of(k: int, r: Tensor) -> PairCurves:
            return start(r, [len(r) if j == k else 0 for j in range(len(self.pairs))])

        def pair(k: int, r: Tensor) -> Tensor:
            return curves_of(k, r).pair[0]

        def density(k: int, r: Tensor) -> Tensor:
            return curves_of(k, r).density_low[0]

        functions = [partial(pair, k) for k in range(len(self.pairs))]
        functions += [partial(density, k) for k in self.diagonal]
        self.splines = _radial_splines(functions, knots)

    def forward(self, distances: Tensor, counts: Sequence[int], *, is_first_order: bool = False) -> PairCurves:
        """See :meth:`~.radial.RadialFunctions.forward`."""
        table = self.splines.table()
        row, t = self.splines.place(distances, 0)
        inverse = torch.reciprocal(self.splines.spacing[0])
        n_pairs = len(self.pairs)
        groups = []
        for k, (place, at) in enumerate(zip(torch.split(row, list(counts)), torch.split(t, list(counts)), strict=True)):
            a, b = self.pairs[k]
            members = [k, n_pairs + a] if a == b else [k, n_pairs + a, n_pairs + b]
            rows = table[members].transpose(0, 1).reshape(len(table[0]), -1).index_select(0, place)
            pair, low, *high = (_polynomial(part, at, inverse) for part in rows.split(4, dim=1))
            groups.append(PairCurves(low, high[0] if high else low, pair))
        return PairCurves.joined(groups)


class SplineAngular(AngularFunctions):
    """Dipole and quadrupole functions of each pair as splines; arguments as of :class:`SplineRadial`."""

    def __init__(self, start: AngularFunctions, n_elements: int, knots: SplineKnots) -> None:
        super().__init__()
        self.n_pairs = len(type_pairs(n_elements))

        def curve(kind: int, k: int, r: Tensor) -> Tensor:
            return start(r, [len(r) if j == k else 0 for j in range(self.n_pairs)])[kind][0]

        functions = [partial(curve, kind, k) for k in range(self.n_pairs) for kind in (0, 1)]
        self.splines = _radial_splines(functions, knots)

    def forward(self, distances: Tensor, counts: Sequence[int]) -> tuple[Curve, Curve]:
        """See :meth:`~.radial.AngularFunctions.forward`."""
        table = self.splines.table()
        row, t = self.splines.place(distances, 0)
        n_rows = table.shape[1]
        if self.n_pairs > 1:
            group = torch.repeat_interleave(
                torch.arange(self.n_pairs, device=row.device), torch.tensor(list(counts), device=row.device)
            )
            row = group * n_rows + row
        both = table.reshape(self.n_pairs, 2, n_rows, 4).transpose(1, 2).reshape(self.n_pairs * n_rows, 8)
        dipole, quadrupole = both.index_select(0, row).split(4, dim=1)
        inverse = torch.reciprocal(self.splines.spacing[0])
        return _polynomial(dipole, t, inverse), _polynomial(quadrupole, t, inverse)


class SplineEmbedding(Embedding):
    """Embedding functions as splines from zero density to a multiple of the typical one.

    Args:
        start: embedding functions that the splines are fitted to.
        highest: density of the last knot by the typical density of each element.
        n_intervals: number of intervals between knots.
    """

    def __init__(self, start: Embedding, *, highest: float, n_intervals: int) -> None:
        super().__init__()
        last = highest * np.array(start.typical_densities())
        self.highest = highest

        def function(k: int, density: Tensor) -> Tensor:
            return start(density, torch.full((len(density),), k, dtype=torch.int64))[0]

        coefficients = np.stack(
            [
                fitted_coefficients(partial(function, k), 0.0, top, n_intervals, ends_at_zero=False)
                for k, top in enumerate(last)
            ]
        )
        self.splines = UniformSplines(coefficients, np.zeros(len(last)), last / n_intervals, ends_at_zero=False)

    def forward(self, density: Tensor, types: Tensor) -> Curve:
        """See :meth:`~.radial.Embedding.forward`."""
        table = self.splines.table()
        function = types if len(table) > 1 else 0
        row, t = self.splines.place(density, function)
        n_rows = table.shape[1]
        rows = table.reshape(-1, 4).index_select(0, row if isinstance(function, int) else function * n_rows + row)
        return _polynomial(rows, t, torch.reciprocal(self.splines.spacing)[function])

    def typical_densities(self) -> list[float]:
        """See :meth:`~.radial.Embedding.typical_densities`."""
        return (self.splines.spacing * self.splines.n_intervals / self.highest).tolist()


def _radial_splines(functions: Sequence[Callable[[Tensor], Tensor]], knots: SplineKnots) -> UniformSplines:
    coefficients = np.stack(
        [
            fitted_coefficients(f, knots.inner_ang, knots.cutoff_ang, knots.n_intervals, ends_at_zero=True)
            for f in functions
        ]
    )
    n = len(functions)
    spacing = (knots.cutoff_ang - knots.inner_ang) / knots.n_intervals
    return UniformSplines(coefficients, np.full(n, knots.inner_ang), np.full(n, spacing), ends_at_zero=True)
