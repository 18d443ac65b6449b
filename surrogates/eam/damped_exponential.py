"""The function of which ZJW04 densities and pair functions are made, with its derivatives by its two parameters.

Training needs the gradient of a loss in the function and its slope by the parameters, at distances that do not change.
Written out, that takes a third of the operations that automatic differentiation records.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .functions import Curve, damped_exponential, times


def tapered_damped_exponential(
    distances: Tensor, unit: Tensor, steepness: Tensor, shift: Tensor, end: Curve | None, *, is_first_order: bool
) -> Curve:
    """:func:`~.functions.damped_exponential` of ``distances / unit`` times ``end``, and its derivative by the distance.

    Args:
        distances: ``[n]``, Å.
        unit, steepness, shift: r_e, α or β, κ or λ; scalars.
        end: the taper, or ``None``.
        is_first_order: the result is differentiated once at most, and by the parameters only. It is then computed
            with written-out derivatives, unless distances or unit take part in the differentiation.
    """
    if is_first_order and not (distances.requires_grad or unit.requires_grad):
        value, slope = _FirstOrder.apply(distances, end, float(torch.reciprocal(unit)), steepness, shift)
        return value, slope
    inverse = torch.reciprocal(unit)
    value, slope = damped_exponential(distances * inverse, steepness, shift)
    plain = value, slope * inverse
    return plain if end is None else times(plain, end)


class _FirstOrder(torch.autograd.Function):
    """With x = r / r_e, q = x - λ, D = 1 / (1 + q^20) and g = exp(-β (x - 1)) D:

    M = 20 q^19 D is the derivative of ln g by λ, -(β + M) / r_e that by r, and N = (dM / dq) / r_e.
    """

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, end: Curve | None, inverse: float, steepness: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = r * inverse
        q = x - shift
        q2 = q * q
        q4 = q2 * q2
        q16 = (q4 * q4).square_()
        damping = torch.mul(q16, q4).add_(1.0).reciprocal_()
        q18_damped = q16.mul_(q2).mul_(damping)
        m = (q18_damped * q).mul_(20.0)
        x.sub_(1.0)
        g = (x * -steepness).exp_().mul_(damping)
        slope = (m + steepness).mul_(-inverse)
        if end is None:
            slope.mul_(g)
        else:
            tail = g * end[1]
            g.mul_(end[0])
            slope.mul_(g).add_(tail)
        if any(ctx.needs_input_grad):
            n = q18_damped.mul_(380.0).addcmul_(m, m, value=-1.0).mul_(inverse)
            ctx.save_for_backward(x, m, n, g, slope)
            ctx.inverse = inverse
        return g, slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_value: Tensor, by_slope: Tensor) -> tuple[None, None, None, Tensor, Tensor]:
        x, m, n, g, slope = ctx.saved_tensors
        plain = by_slope * g
        relative = (by_slope * slope).addcmul_(by_value, g)
        by_steepness = -(torch.dot(x, relative) + ctx.inverse * plain.sum())
        return None, None, None, by_steepness, torch.dot(m, relative) + torch.dot(n, plain)
