"""Derivatives of energies, forces and virials by the coefficients of splines, in closed form.

Densities ρ, dipoles μ and quadrupoles λ of a structure, q together, are linear in the coefficients c of their splines:
q = D c. With the energy U(q) + Σ φ, the derivative of dE/dx by c is

    U'(q) · dD/dx + dq/dx · U''(q) · D.

The first term is a sum over pairs, of which each touches the four B-splines that overlap its distance; the second is a
product of small matrices for each structure. So all derivatives of a structure take little more time than its forces,
where automatic differentiation in forward mode takes as much again for each coefficient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..potentials.graph import Batch
from ..potentials.model import OutputSlopes
from .radial import type_pairs
from .splines import SplineAngular, SplineEmbedding, SplineRadial, UniformSplines

_PRODUCTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # components xx yy zz yz xz xy of a quadrupole


def coefficient_slopes(
    batch: Batch,
    radial: SplineRadial,
    embedding: SplineEmbedding,
    angular: SplineAngular | None,
    *,
    with_virials: bool,
) -> Iterator[OutputSlopes]:
    """Derivatives for each structure of a batch, by the coefficients of the species that it has.

    Columns count the coefficients of ``radial``, ``embedding`` and ``angular``, in this order.
    """
    offsets = [0, radial.splines.coefficients.numel()]
    offsets.append(offsets[1] + embedding.splines.coefficients.numel())
    of_pairs = torch.bincount(batch.frame_of_pair, minlength=batch.n_frames).tolist()
    atom = pair = 0
    for n_atoms, n_pairs in zip(batch.n_atoms.to(torch.int64).tolist(), of_pairs, strict=True):
        types = batch.types[atom : atom + n_atoms]
        pairs = slice(pair, pair + n_pairs)
        first, second = batch.first[pairs] - atom, batch.second[pairs] - atom
        frame = _Frame(n_atoms, first, second, batch.vectors[pairs].T.contiguous(), with_virials=with_virials)
        yield _slopes(frame, types, radial, embedding, angular, offsets)
        atom, pair = atom + n_atoms, pair + n_pairs


class _Frame:
    """Pairs of one structure, and how they add up to rows: forces, and then nine virials where these are wanted.

    Args:
        n_atoms: number of atoms.
        first, second: the pairs' atoms.
        vectors: ``[3, n_pairs]``, Å.
        with_virials: whether there are rows of virials.
    """

    def __init__(self, n_atoms: int, first: Tensor, second: Tensor, vectors: Tensor, *, with_virials: bool) -> None:
        self.n_atoms, self.first, self.second, self.vectors = n_atoms, first, second, vectors
        self.distances = torch.linalg.vector_norm(vectors, dim=0)
        self.units = vectors / self.distances
        self.n_rows = 3 * n_atoms + (9 if with_virials else 0)
        self._rows = [(_each(3, first), 1.0), (_each(3, second), -1.0)]
        if with_virials:
            self._virial_rows = 3 * n_atoms + torch.arange(9, device=first.device)[:, None]

    def places(self, width: int, columns: Tensor) -> list[Tensor]:
        """Where derivatives by the pair vectors go in a flat matrix ``[n_rows, width]``, for :meth:`add`."""
        found = [_places(rows, width, columns) for rows, _ in self._rows]
        return [*found, _places(self._virial_rows, width, columns)] if self.n_rows > 3 * self.n_atoms else found

    def add(self, flat: Tensor, places: list[Tensor], terms: Tensor) -> None:
        """Add derivatives of energies by the pair vectors, ``[3, k, n_pairs]``."""
        for place, (_, sign) in zip(places, self._rows, strict=False):
            flat.index_add_(0, place, terms.reshape(-1), alpha=sign)
        for place in places[2:]:
            flat.index_add_(0, place, (self.vectors[:, None, None] * terms[None]).reshape(-1))

    def turned(self, at_first: Tensor, at_second: Tensor) -> Tensor:
        """``[n_rows, n_atoms k]``: derivatives of k numbers of each atom.

        Args:
            at_first, at_second: their derivatives by the pair vectors, ``[3, k, n_pairs]``, for a pair's two atoms.
        """
        k = at_first.shape[1]
        width = self.n_atoms * k
        flat = at_first.new_zeros(self.n_rows * width)
        for atoms, terms in ((self.first, at_first), (self.second, at_second)):
            self.add(flat, self.places(width, _each(k, atoms)), terms)
        return flat.reshape(self.n_rows, width)


def _each(k: int, atoms: Tensor) -> Tensor:
    """Rows of k numbers of some atoms, ``[k, n]``."""
    return k * atoms + torch.arange(k, device=atoms.device)[:, None]


def _places(rows: Tensor, width: int, columns: Tensor) -> Tensor:
    """Places in a flat matrix of rows ``[k, n]`` with columns ``[l, n]``, ``[k l n]``."""
    return ((width * rows)[:, None] + columns).reshape(-1)


@dataclass(frozen=True)
class _Overlap:
    """The four B-splines that overlap each of n places, in the grid of some splines.

    Attributes:
        splines: those.
        start: the first one's coefficient, ``[n]``.
        values, slopes, curvatures: ``[4, n]``.
    """

    splines: UniformSplines
    start: Tensor
    values: Tensor
    slopes: Tensor
    curvatures: Tensor


class _Basis:
    """The B-splines of some functions, of which one belongs to each place.

    Args:
        overlap: at the places.
        function: which of the functions it is, ``[n]``.
        n_functions: their number.
    """

    def __init__(self, overlap: _Overlap, function: Tensor, n_functions: int) -> None:
        self.values, self.slopes, self._curvatures = overlap.values, overlap.slopes, overlap.curvatures
        # of functions that end at zero, the last three are no coefficients
        self._shape = (n_functions, overlap.splines.n_intervals + 3, overlap.splines.coefficients.shape[1])
        self._width = n_functions * self._shape[1]
        start = function * self._shape[1] + overlap.start
        self._columns = start + torch.arange(4, device=start.device)[:, None]
        self._places: list[Tensor] = []  # of pairs in the rows of their frame

    def curve(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, slopes and second derivatives ``[n]`` of the functions with these coefficients."""
        n_functions, window, n_kept = self._shape
        rows = coefficients.reshape(n_functions, n_kept)
        own = torch.cat([rows, rows.new_zeros(n_functions, window - n_kept)], 1).reshape(-1)[self._columns]
        return (self.values * own).sum(0), (self.slopes * own).sum(0), (self._curvatures * own).sum(0)

    def summed(self, n_rows: int, rows: Tensor, terms: Tensor) -> Tensor:
        """``[n_rows, n_coefficients]``: terms ``[k, 4, n]`` added up in rows ``[k, n]``."""
        flat = terms.new_zeros(n_rows * self._width)
        flat.index_add_(0, _places(rows, self._width, self._columns), terms.reshape(-1))
        return self._kept(flat, n_rows)

    def along(self, frame: _Frame, by_slopes: Tensor, by_values: Tensor | None = None) -> Tensor:
        """Rows of the frame from derivatives by the pair vectors: ``by_slopes`` ``[3, n_pairs]`` times the slopes."""
        terms = by_slopes[:, None] * self.slopes
        if by_values is not None:
            terms.addcmul_(by_values[:, None], self.values)
        self._places = self._places or frame.places(self._width, self._columns)
        flat = terms.new_zeros(frame.n_rows * self._width)
        frame.add(flat, self._places, terms)
        return self._kept(flat, frame.n_rows)

    def _kept(self, flat: Tensor, n_rows: int) -> Tensor:
        n_functions, window, n_kept = self._shape
        return flat.reshape(n_rows, n_functions, window)[:, :, :n_kept].reshape(n_rows, -1)


@dataclass(frozen=True)
class _Coefficients:
    """Coefficients of some functions among all of their kind: which they are, and their values."""

    columns: Tensor
    values: Tensor

    @staticmethod
    def of(splines: UniformSplines, functions: list[int]) -> _Coefficients:
        every = splines.coefficients.detach()
        owners = torch.tensor(functions, device=every.device)
        columns = owners[:, None] * every.shape[1] + torch.arange(every.shape[1], device=every.device)
        return _Coefficients(columns.reshape(-1), every[owners].reshape(-1))


def _slopes(
    frame: _Frame,
    types: Tensor,
    radial: SplineRadial,
    embedding: SplineEmbedding,
    angular: SplineAngular | None,
    offsets: list[int],
) -> OutputSlopes:
    n_atoms, first, second, units = frame.n_atoms, frame.first, frame.second, frame.units
    species, local = torch.unique(types, return_inverse=True)
    present = species.tolist()
    groups = [k for k, (a, b) in enumerate(radial.pairs) if a in present and b in present]
    number = torch.zeros(len(present), len(present), dtype=torch.int64, device=types.device)
    for k, (a, b) in enumerate(type_pairs(len(present))):
        number[a, b] = number[b, a] = k
    overlap = _Overlap(radial.splines, *radial.splines.overlapping(frame.distances, 0))
    by_pair = _Basis(overlap, number[local[first], local[second]], len(groups))

    # densities: what the second atom makes at the first, and the reverse
    by_second = by_first = by_pair
    if len(present) > 1:
        by_second, by_first = (_Basis(overlap, local[atoms], len(present)) for atoms in (second, first))
    pair = _Coefficients.of(radial.splines, groups)
    made = _Coefficients.of(radial.splines, [len(radial.pairs) + a for a in present])
    density = by_second.summed(n_atoms, first[None], overlap.values)
    density += by_first.summed(n_atoms, second[None], overlap.values)
    at = _Overlap(embedding.splines, *embedding.splines.overlapping(density @ made.values, types))
    embedded, embedded_by = _Coefficients.of(embedding.splines, present), _Basis(at, local, len(present))
    _, slope, curvature = embedded_by.curve(embedded.values)
    atoms = torch.arange(n_atoms, device=types.device)[None]

    at_first, at_second = (basis.curve(made.values)[1] * units for basis in (by_second, by_first))
    turned = frame.turned(at_first[:, None], at_second[:, None])
    if len(present) > 1:
        direct = by_second.along(frame, slope[first] * units) + by_first.along(frame, slope[second] * units)
    else:
        direct = by_pair.along(frame, (slope[first] + slope[second]) * units)
    columns = [pair.columns, made.columns, offsets[1] + embedded.columns]
    energies = [
        by_pair.summed(1, torch.zeros_like(first)[None], overlap.values)[0],
        slope @ density,
        embedded_by.summed(1, torch.zeros_like(atoms), at.values)[0],
    ]
    rows = [
        by_pair.along(frame, units),
        direct + turned @ (curvature[:, None] * density),
        turned @ embedded_by.summed(n_atoms, atoms, at.slopes),
    ]
    if angular is not None:
        for kind, terms in enumerate((_dipoles, _quadrupoles)):
            found = _Coefficients.of(angular.splines, [2 * k + kind for k in groups])
            energy, row = terms(frame, by_pair, found.values)
            columns.append(offsets[2] + found.columns)
            energies.append(energy)
            rows.append(row)
    every = torch.cat(rows, 1)
    virial = every[3 * n_atoms :].reshape(-1, 3, every.shape[1])
    if len(virial):
        virial = 0.5 * (virial + virial.transpose(0, 1))
    return OutputSlopes(
        torch.cat(columns), torch.cat(energies), every[: 3 * n_atoms], virial.reshape(-1, every.shape[1])
    )


def _dipoles(frame: _Frame, by_pair: _Basis, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the energy, and rows of the frame, by the coefficients of dipole functions."""
    v, n_atoms = frame.vectors, frame.n_atoms
    terms = v[:, None] * by_pair.values
    moments = by_pair.summed(3 * n_atoms, _each(3, frame.first), terms)
    moments -= by_pair.summed(3 * n_atoms, _each(3, frame.second), terms)
    mu = moments @ coefficients
    value, slope, _ = by_pair.curve(coefficients)
    turn = (slope * frame.units)[:, None] * v
    turn.diagonal().add_(value[:, None])
    of_atoms = mu.reshape(-1, 3).T.contiguous()
    difference = of_atoms[:, frame.first] - of_atoms[:, frame.second]
    direct = by_pair.along(frame, (difference * v).sum(0) * frame.units, difference)
    return mu @ moments, direct + frame.turned(turn, -turn) @ moments


def _quadrupoles(frame: _Frame, by_pair: _Basis, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The same of quadrupole functions."""
    v, n_atoms = frame.vectors, frame.n_atoms
    products = torch.stack([v[a] * v[b] for a, b in _PRODUCTS])
    terms = products[:, None] * by_pair.values
    moments = by_pair.summed(6 * n_atoms, _each(6, frame.first), terms)
    moments += by_pair.summed(6 * n_atoms, _each(6, frame.second), terms)
    # second derivative of the energy by the components: squares, those off the diagonal twice, less the trace's third
    metric = torch.diag(v.new_tensor([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]))
    metric[:3, :3] -= 1.0 / 3.0
    stretched = torch.matmul(metric, moments.reshape(n_atoms, 6, -1)).reshape(6 * n_atoms, -1)
    by_lambda = stretched @ coefficients
    of_atoms = by_lambda.reshape(n_atoms, 6).T.contiguous()
    by_product = of_atoms[:, frame.first] + of_atoms[:, frame.second]
    value, slope, _ = by_pair.curve(coefficients)
    turn = (slope * frame.units)[:, None] * products
    along = torch.zeros_like(v)
    for k, (a, b) in enumerate(_PRODUCTS):
        for axis, other in ((a, b), (b, a)):
            turn[axis, k] += value * v[other]
            along[axis] += by_product[k] * v[other]
    direct = by_pair.along(frame, (by_product * products).sum(0) * frame.units, along)
    return by_lambda @ moments, direct + frame.turned(turn, turn) @ stretched
