"""Trainable functions of fixed form: ZJW04 densities, pair and embedding functions, Mishin's angular functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from .damped_exponential import tapered_damped_exponential
from .functions import (
    Curve,
    angular_function,
    angular_range,
    mixed_pair,
    piecewise_embedding,
    smooth_embedding,
    taper,
    times,
)
from .parameters import ANGULAR, CROSS, EMBEDDING, POSITIVE, RADIAL
from .radial import AngularFunctions, Embedding, PairCurves, RadialFunctions, type_pairs

Cross = Literal["mixing", "free"]


class ParameterSet(nn.Module):
    """Named parameters of several species.

    A parameter that makes sense only above zero is learnt as its logarithm, so that no step takes it below zero and
    steps are relative to its size.

    Args:
        values: by name, one value for each species.
        fixed: names that are not learnt.
    """

    def __init__(self, values: Mapping[str, Sequence[float]], fixed: Collection[str]) -> None:
        super().__init__()
        self.names = tuple(values)
        for name, numbers in values.items():
            tensor = torch.tensor(list(numbers), dtype=torch.float64)
            tensor = tensor.log() if name in POSITIVE else tensor
            if name in fixed:
                self.register_buffer(name, tensor)
            else:
                self.register_parameter(name, nn.Parameter(tensor))

    def values(self) -> dict[str, Tensor]:
        """Each parameter as ``[n_species]``."""
        return {name: getattr(self, name).exp() if name in POSITIVE else getattr(self, name) for name in self.names}

    def numbers(self) -> list[dict[str, float]]:
        """Values of each species as plain numbers."""
        values = {name: tensor.tolist() for name, tensor in self.values().items()}
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


class Zjw04Radial(RadialFunctions):
    """Densities and pair functions of ZJW04, Eqs. 15 to 17.

    Args:
        elements: values of :data:`~.parameters.RADIAL` for each element.
        cross: values of :data:`~.parameters.CROSS` for each pair of different elements, in the order of
            :func:`~.radial.type_pairs`; ``None`` mixes the elements' pair functions (Eq. 17).
        cutoff_ang, taper_ang: where functions end, and over which distance they go to zero; 0 cuts them off.
        fixed: names of parameters that are not learnt.
    """

    def __init__(
        self,
        elements: Sequence[Mapping[str, float]],
        cross: Sequence[Mapping[str, float]] | None,
        *,
        cutoff_ang: float,
        taper_ang: float,
        fixed: Collection[str],
    ) -> None:
        super().__init__()
        self.cutoff_ang, self.taper_ang = cutoff_ang, taper_ang
        self.pairs = type_pairs(len(elements))
        self.elements = ParameterSet({name: [row[name] for row in elements] for name in RADIAL}, fixed)
        self.cross = (
            ParameterSet({name: [row[name] for row in cross] for name in CROSS}, fixed) if cross is not None else None
        )

    def forward(self, distances: Tensor, counts: Sequence[int], *, is_first_order: bool = False) -> PairCurves:
        """See :meth:`~.radial.RadialFunctions.forward`."""
        of_element = {name: tensor.unbind() for name, tensor in self.elements.values().items()}
        of_cross = {name: tensor.unbind() for name, tensor in self.cross.values().items()} if self.cross else {}
        groups = []
        n_cross = 0
        for (a, b), r in zip(self.pairs, torch.split(distances, list(counts)), strict=True):
            end = taper(r, self.cutoff_ang, self.taper_ang) if self.taper_ang > 0.0 else None
            p, q = ({name: rows[k] for name, rows in of_element.items()} for k in (a, b))
            if a == b:
                density, pair = density_and_pair(r, p, end, is_first_order=is_first_order)
                groups.append(PairCurves(density, density, pair))
            elif self.cross is None:
                rho_a, phi_a = density_and_pair(r, p, None, is_first_order=is_first_order)
                rho_b, phi_b = density_and_pair(r, q, None, is_first_order=is_first_order)
                found = (rho_a, rho_b, mixed_pair(rho_a, phi_a, rho_b, phi_b))
                groups.append(PairCurves(*(found if end is None else (times(curve, end) for curve in found))))
            else:
                cross = {name: rows[n_cross] for name, rows in of_cross.items()}
                n_cross += 1
                rho_a, rho_b = (_density(r, row, end, is_first_order=is_first_order) for row in (p, q))
                groups.append(PairCurves(rho_a, rho_b, _pair(r, cross, end, is_first_order=is_first_order)))
        return PairCurves.joined(groups)


def density_and_pair(
    r: Tensor, p: Mapping[str, Tensor], end: Curve | None = None, *, is_first_order: bool = False
) -> tuple[Curve, Curve]:
    """ρ (Eq. 15) and φ (Eq. 16) of an element, which share a term, with derivatives by r.

    Args:
        r: distances, Å.
        p: parameters by name, scalars.
        end, is_first_order: see :func:`~.damped_exponential.tapered_damped_exponential`.
    """
    g = tapered_damped_exponential(r, p["re"], p["beta"], p["lambda"], end, is_first_order=is_first_order)
    h = tapered_damped_exponential(r, p["re"], p["alpha"], p["kappa"], end, is_first_order=is_first_order)
    pair = p["A"] * h[0] - p["B"] * g[0], p["A"] * h[1] - p["B"] * g[1]
    return (p["fe"] * g[0], p["fe"] * g[1]), pair


def _density(r: Tensor, p: Mapping[str, Tensor], end: Curve | None, *, is_first_order: bool) -> Curve:
    g = tapered_damped_exponential(r, p["re"], p["beta"], p["lambda"], end, is_first_order=is_first_order)
    return p["fe"] * g[0], p["fe"] * g[1]


def _pair(r: Tensor, p: Mapping[str, Tensor], end: Curve | None, *, is_first_order: bool) -> Curve:
    return density_and_pair(r, {**p, "fe": p["B"]}, end, is_first_order=is_first_order)[1]


class MishinAngular(AngularFunctions):
    """Dipole and quadrupole functions of each pair of species, Eqs. 23 to 25.

    Args:
        pairs: values of :data:`~.parameters.ANGULAR` for each pair, in the order of :func:`~.radial.type_pairs`.
    """

    def __init__(
        self, pairs: Sequence[Mapping[str, float]], *, cutoff_ang: float, taper_ang: float, fixed: Collection[str]
    ) -> None:
        super().__init__()
        self.cutoff_ang, self.taper_ang = cutoff_ang, taper_ang
        self.pairs = ParameterSet({name: [row[name] for row in pairs] for name in ANGULAR}, fixed)

    def forward(self, distances: Tensor, counts: Sequence[int]) -> tuple[Curve, Curve]:
        """See :meth:`~.radial.AngularFunctions.forward`."""
        columns = {name: tensor.unbind() for name, tensor in self.pairs.values().items()}
        groups = []
        for k, r in enumerate(torch.split(distances, list(counts))):
            p = {name: rows[k] for name, rows in columns.items()}
            psi = angular_range(r, p["rc"], p["h"])
            if self.taper_ang > 0.0:
                psi = times(psi, taper(r, self.cutoff_ang, self.taper_ang))
            inside = torch.minimum(r, p["rc"])
            dipole = angular_function(inside, p["d1"], p["d2"], p["d3"], psi)
            quadrupole = angular_function(inside, p["q1"], p["q2"], p["q3"], psi)
            groups.append((*dipole, *quadrupole))
        u, du, w, dw = groups[0] if len(groups) == 1 else (torch.cat(part) for part in zip(*groups, strict=True))
        return (u, du), (w, dw)


class Zjw04Embedding(Embedding):
    """Embedding functions of ZJW04: Eqs. 19 to 22, or Eq. 18 as published in 2004.

    Args:
        elements: values of :data:`~.parameters.EMBEDDING` for each element.
        is_smooth: whether the three parts are blended.
    """

    def __init__(self, elements: Sequence[Mapping[str, float]], *, is_smooth: bool, fixed: Collection[str]) -> None:
        super().__init__()
        self.is_smooth = is_smooth
        self.n_elements = len(elements)
        bounds = {"rhol", "rhoh"}  # definitions of the form, not parameters of a fit
        self.elements = ParameterSet({n: [row[n] for row in elements] for n in EMBEDDING}, {*fixed, *bounds})

    def forward(self, density: Tensor, types: Tensor) -> Curve:
        """See :meth:`~.radial.Embedding.forward`."""
        values = self.elements.values()
        if self.n_elements > 1:
            values = {name: tensor.index_select(0, types) for name, tensor in values.items()}
        return smooth_embedding(density, values) if self.is_smooth else piecewise_embedding(density, values)

    def typical_densities(self) -> list[float]:
        """See :meth:`~.radial.Embedding.typical_densities`."""
        return [float(v) for v in np.asarray(self.elements.values()["rhoe"].detach())]
