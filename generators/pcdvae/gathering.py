"""Moves of rows between edges and atoms whose derivatives are moves as well.

Automatic differentiation turns ``x[index]`` into a scattered sum, several times slower on a CPU than the gather. The
two moves here have an inverse that is known, so their derivatives are plain gathers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Spread(torch.autograd.Function):
    """Rows laid into a larger table at different places, zeros elsewhere."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, n_places: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(n_places, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return gradients[0].index_select(0, places), None, None


class _Collect(torch.autograd.Function):
    """The rows of a table at different places: the inverse of :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.n_places = len(table)
        return table.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        gradient = gradients[0]
        return gradient.new_zeros(ctx.n_places, *gradient.shape[1:]).index_copy_(0, places, gradient), None


class _Repeat(torch.autograd.Function):
    """The row of each edge's target; the derivative is a sum over the padded form."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, target: Tensor, places: Tensor, width: int) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = (len(rows), width)
        return rows.index_select(0, target)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (places,) = ctx.saved_tensors
        gradient, (n_rows, width) = gradients[0], ctx.shape
        table = gradient.new_zeros(n_rows * width, *gradient.shape[1:]).index_copy_(0, places, gradient)
        return table.unflatten(0, (n_rows, width)).sum(1), None, None, None


def spread(rows: Tensor, places: Tensor, n_places: int) -> Tensor:
    """Rows ``[n, ...]`` at different ``places`` (int64 ``[n]``) of a table ``[n_places, ...]``, zeros elsewhere."""
    result: Tensor = _Spread.apply(rows, places, n_places)
    return result


def collect(table: Tensor, places: Tensor) -> Tensor:
    """Rows of a table ``[n_places, ...]`` at different ``places``, int64 ``[n]``."""
    result: Tensor = _Collect.apply(table, places)
    return result


def repeat(rows: Tensor, target: Tensor, places: Tensor, width: int) -> Tensor:
    """Rows ``[n_atoms, ...]`` at the ``target`` of each edge; its place in the padded form is in ``places``."""
    result: Tensor = _Repeat.apply(rows, target, places, width)
    return result
