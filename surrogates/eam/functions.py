"""The functions of an embedded-atom potential, each with its derivative in closed form.

Zhou, Johnson and Wadley (Phys. Rev. B 69, 144113, 2004), called ZJW04 here, and the angular terms of Mishin, as written
in Chen et al., "Machine learning enhanced empirical potentials for metals and alloys" (Comput. Phys. Commun., 2021),
whose equation numbers are cited. All are pure functions of tensors, differentiable to any order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Curve = tuple[Tensor, Tensor]
"""Values of a function and its derivative, of the same shape."""

SMALLEST_RELATIVE_DENSITY = 1e-6
"""Below this multiple of ρ_s the power law of Eq. 18 is held constant: at zero density its slope is infinite."""

_BLEND_STEEPNESS = 2.0  # of the sigmoids of Eqs. 20 and 21


def damped_exponential(x: Tensor, steepness: Tensor, shift: Tensor) -> Curve:
    """exp(-steepness (x - 1)) / (1 + (x - shift)^20), of which Eqs. 15 and 16 are made, and its derivative by x.

    Args:
        x: distances divided by r_e.
        steepness: α or β.
        shift: κ or λ.
    """
    q = x - shift
    q2 = q * q
    q4 = q2 * q2
    q16 = (q4 * q4).square()
    q19 = q16 * q2 * q
    damping = torch.reciprocal(1.0 + q16 * q4)
    value = torch.exp(-steepness * (x - 1.0)) * damping
    return value, -value * (steepness + 20.0 * q19 * damping)


def taper(distances: Tensor, cutoff_ang: float, width_ang: float) -> Curve:
    """1 up to ``cutoff_ang - width_ang``, 0 from ``cutoff_ang`` on, and a fifth-degree polynomial between.

    Value, slope and curvature have no jump. Multiplies a function so that it ends smoothly.
    """
    t = ((distances - (cutoff_ang - width_ang)) / width_ang).clamp(0.0, 1.0)
    value = 1.0 + t * t * t * (-10.0 + t * (15.0 - 6.0 * t))
    slope = (-30.0 / width_ang) * (t * (1.0 - t)).square()
    return value, slope


def times(first: Curve, second: Curve) -> Curve:
    """The product of two functions of the same variable."""
    return first[0] * second[0], first[1] * second[0] + first[0] * second[1]


def mixed_pair(rho_a: Curve, phi_a: Curve, rho_b: Curve, phi_b: Curve) -> Curve:
    """The pair function between two species from those of each, Eq. 17."""
    inverse_a, inverse_b = torch.reciprocal(rho_a[0]), torch.reciprocal(rho_b[0])
    ratio = rho_b[0] * inverse_a
    inverse = rho_a[0] * inverse_b
    log_slope = rho_b[1] * inverse_b - rho_a[1] * inverse_a
    value = 0.5 * (ratio * phi_a[0] + inverse * phi_b[0])
    slope = 0.5 * (ratio * (phi_a[1] + log_slope * phi_a[0]) + inverse * (phi_b[1] - log_slope * phi_b[0]))
    return value, slope


def angular_range(distances: Tensor, range_ang: Tensor, width_ang: Tensor) -> Curve:
    """ψ((r - range) / width) of Eq. 25, which ends an angular function at its range, and its derivative by r."""
    x = (torch.minimum(distances, range_ang) - range_ang) / width_ang
    x3 = x * x * x
    x4 = x3 * x
    growth = torch.reciprocal(1.0 + x4)
    return x4 * growth, 4.0 / width_ang * x3 * growth.square()


def angular_function(distances: Tensor, amplitude: Tensor, decay: Tensor, offset: Tensor, psi: Curve) -> Curve:
    """The dipole or quadrupole function of Eqs. 23 and 24, (amplitude exp(-decay r) + offset) ψ.

    Args:
        distances: Å; not beyond the range of ψ, where the exponential of a negative decay could overflow.
        amplitude, decay, offset: d_1, d_2, d_3 or q_1, q_2, q_3.
        psi: what the function ends with.
    """
    exponential = amplitude * torch.exp(-decay * distances)
    shape = exponential + offset
    return shape * psi[0], shape * psi[1] - decay * exponential * psi[0]


def smooth_embedding(density: Tensor, p: Mapping[str, Tensor]) -> Curve:
    """The embedding energy whose three parts are blended by sigmoids, Eqs. 19 to 22, eV.

    Args:
        density: ρ of each atom.
        p: parameters by name, each of a shape that broadcasts with ``density``.
    """
    inner, middle, outer = _embedding_parts(density, p)
    c1 = torch.sigmoid(-_BLEND_STEEPNESS * (density - p["rhol"] * p["rhoe"]))
    c3 = torch.sigmoid(_BLEND_STEEPNESS * (density - p["rhoh"] * p["rhoe"]))
    c2 = 1.0 - c1 - c3
    d1 = -_BLEND_STEEPNESS * c1 * (1.0 - c1)
    d3 = _BLEND_STEEPNESS * c3 * (1.0 - c3)
    value = c1 * inner[0] + c2 * middle[0] + c3 * outer[0]
    slope = c1 * inner[1] + c2 * middle[1] + c3 * outer[1]
    return value, slope + d1 * (inner[0] - middle[0]) + d3 * (outer[0] - middle[0])


def piecewise_embedding(density: Tensor, p: Mapping[str, Tensor]) -> Curve:
    """The embedding energy in three parts, Eq. 18, eV; arguments as in :func:`smooth_embedding`."""
    inner, middle, outer = _embedding_parts(density, p)
    is_inner = density < p["rhol"] * p["rhoe"]
    is_outer = density >= p["rhoh"] * p["rhoe"]

    def choose(k: int) -> Tensor:
        return torch.where(is_inner, inner[k], torch.where(is_outer, outer[k], middle[k]))

    return choose(0), choose(1)


def _embedding_parts(density: Tensor, p: Mapping[str, Tensor]) -> tuple[Curve, Curve, Curve]:
    inner = _cubic(density, p["rhol"] * p["rhoe"], p["Fn0"], p["Fn1"], p["Fn2"], p["Fn3"])
    middle = _cubic(density, p["rhoe"], p["F0"], p["F1"], p["F2"], p["F3"])
    return inner, middle, _power_law(density, p["rhos"], p["eta"], p["Fe"])


def _cubic(density: Tensor, unit: Tensor, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> Curve:
    t = density / unit - 1.0
    return c0 + t * (c1 + t * (c2 + t * c3)), (c1 + t * (2.0 * c2 + t * (3.0 * c3))) / unit


def _power_law(density: Tensor, unit: Tensor, eta: Tensor, scale: Tensor) -> Curve:
    """F_e [1 - η ln(ρ/ρ_s)] (ρ/ρ_s)^η."""
    ratio = density / unit
    x = ratio.clamp(min=SMALLEST_RELATIVE_DENSITY)
    is_inside = (ratio > SMALLEST_RELATIVE_DENSITY).to(density.dtype)
    log = torch.log(x)
    power = scale * torch.exp(eta * log)
    return power * (1.0 - eta * log), -power * eta * eta * log / (x * unit) * is_inside
