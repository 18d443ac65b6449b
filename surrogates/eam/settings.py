"""How a configuration names an EAM or ADP model, and building it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, model_validator

from ...structures.settings import Settings
from ..base import SurrogateError, SurrogateState
from ..potentials.torch_potential import TorchPotential
from .fixed_forms import MishinAngular, Zjw04Embedding, Zjw04Radial
from .model import EamModel
from .parameters import (
    ANGULAR,
    EMBEDDING,
    RADIAL,
    EamParameters,
    pair_key,
    published,
    published_names,
    read_parameters,
    zjw04,
)
from .radial import AngularFunctions, Embedding, RadialFunctions, type_pairs
from .splines import SplineAngular, SplineEmbedding, SplineKnots, SplineRadial
from .start import fitted_cross

KIND = "eam"

_ANGULAR_START = {"d1": 0.05, "d2": 0.5, "d3": 0.01, "q1": 0.05, "q2": 0.5, "q3": 0.01, "h": 3.0}
"""Small, and not zero: the energy is of second order in the angular functions, so at zero nothing is learnt."""


class EamSettings(Settings):
    """An embedded-atom model, or an angular-dependent one, with functions that can be learnt."""

    kind: Literal["eam"] = "eam"
    cutoff_ang: float = Field(default=6.5, gt=2.0, le=15.0)
    """Pairs of atoms further apart do not interact, Å."""
    taper_ang: float = Field(default=1.0, ge=0.0)
    """Over this distance before the cutoff all functions of fixed form go to zero without a jump in value, slope or
    curvature, Å; 0 cuts them off, as the original tables do. Splines end smoothly by themselves."""
    functions: Literal["zjw04", "spline"] = "zjw04"
    """Form of densities, pair and angular functions: `zjw04` (with Mishin's angular functions), or cubic `spline`s
    that are fitted to those at the start."""
    embedding: Literal["smooth", "piecewise", "spline"] = "smooth"
    """Form of embedding functions: `smooth` (blended parts), `piecewise` (as published in 2004), or cubic `spline`s
    that are fitted to the smooth ones at the start."""
    n_intervals: int = Field(default=20, ge=4, le=200)
    """Number of intervals between the knots of each spline of the distance."""
    n_embedding_intervals: int = Field(default=20, ge=4, le=200)
    """Number of intervals between the knots of each embedding spline."""
    inner_ang: float = Field(default=1.5, gt=0.0)
    """First knot of splines of the distance, Å; below, they are straight lines."""
    highest_density: float = Field(default=2.0, gt=1.0, le=10.0)
    """Last knot of embedding splines by the element's ρ_e; beyond, they are straight lines."""
    angular: bool = False
    """Add dipole and quadrupole terms (ADP)."""
    cross: Literal["mixing", "free"] = "free"
    """Pair functions between different elements: `free` have parameters of their own, `mixing` follow from the
    elements' functions."""
    start: str = "zjw04"
    """Parameters to start from: `zjw04` (the table of Zhou, Johnson and Wadley), a published set (`ml-eam-ni`,
    `ml-eam-mo`, `ml-adp-mo`, `ml-eam-nimo`, `ml-adp-nimo`), or a file of parameters (`*.csv`, relative to the
    configuration file)."""
    variants: dict[str, str] = Field(default_factory=dict)
    """Which row of the ZJW04 table to take for elements whose sources differ, for example `{Ni: tensoralloy}`."""
    overrides: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Values that replace those of the start: `{Ni: {beta: 4.5}, Mo-Ni: {alpha: 8.0}}`."""
    fixed: tuple[str, ...] = ("re",)
    """Names of parameters of fixed forms that are not learnt."""
    base_dir: Path | None = None
    """Folder that file names are relative to; set when the config file is read."""

    @model_validator(mode="after")
    def _is_possible(self) -> EamSettings:
        if self.taper_ang >= self.cutoff_ang:
            raise ValueError(f"taper_ang must be below cutoff_ang = {self.cutoff_ang}, got {self.taper_ang}")
        if self.inner_ang >= self.cutoff_ang - self.taper_ang:
            raise ValueError(f"inner_ang must be below cutoff_ang - taper_ang, got {self.inner_ang}")
        if self.functions == "spline" and self.cross == "mixing":
            raise ValueError("splines between different elements are functions of their own; set cross: free")
        if self.start not in ("zjw04", *published_names()) and not self.start.endswith(".csv"):
            known = ", ".join(("zjw04", *published_names()))
            raise ValueError(f"start must be one of {known}, or a file *.csv, got {self.start!r}")
        if self.variants and self.start != "zjw04":
            raise ValueError(f"variants choose rows of the ZJW04 table, but start is {self.start!r}")
        unknown = sorted(set(self.fixed) - {*RADIAL, *EMBEDDING, *ANGULAR})
        if unknown:
            raise ValueError(f"fixed names unknown parameters {', '.join(unknown)}")
        return self

    def resolved(self, base_dir: Path) -> EamSettings:
        """A copy whose relative file names refer to ``base_dir``; a base set before is kept."""
        return self if self.base_dir is not None else self.model_copy(update={"base_dir": base_dir.resolve()})

    def parameters(self, elements: Sequence[str]) -> EamParameters:
        """The parameters that a model of these elements starts from.

        Raises:
            SurrogateError: they cannot be read, lack an element, or hold terms that these settings leave out.
        """
        if self.start == "zjw04":
            found = zjw04(self.variants)
        elif self.start in published_names():
            found = published(self.start)
        else:
            found = read_parameters((self.base_dir or Path.cwd()) / self.start)
        found = found.with_values(self.overrides)
        found.require(elements, self.start)
        if not self.angular and any(pair in found.angular for pair in _symbol_pairs(elements)):
            raise SurrogateError(f"{self.start} has angular functions of {', '.join(elements)}; set angular: true")
        if self.cross == "mixing" and any(pair in found.cross for pair in _symbol_pairs(elements)):
            raise SurrogateError(f"{self.start} has pair functions between elements; set cross: free")
        return found

    def build(self, elements: Sequence[str]) -> EamModel:
        """A model of these elements with the parameters to start from.

        Raises:
            SurrogateError: see :meth:`parameters`; or symbols that are no different chemical elements.
        """
        symbols = tuple(elements)
        if not symbols or len(set(symbols)) < len(symbols) or any(s not in atomic_numbers for s in symbols):
            raise SurrogateError(f"elements must be different chemical symbols, got {' '.join(symbols) or 'none'}")
        return self._assembled(symbols, self.parameters(symbols))

    def _assembled(self, elements: tuple[str, ...], parameters: EamParameters) -> EamModel:
        rows = [parameters.elements[symbol] for symbol in elements]
        cut = {"cutoff_ang": self.cutoff_ang, "taper_ang": self.taper_ang}
        cross = None
        if self.cross == "free" and len(elements) > 1:
            cross = [
                parameters.cross.get(pair_key(a, b)) or fitted_cross(parameters.elements[a], parameters.elements[b])
                for a, b in _symbol_pairs(elements, in_order=True)
                if a != b
            ]
        radial: RadialFunctions = Zjw04Radial(rows, cross, **cut, fixed=self.fixed)
        embedding: Embedding = Zjw04Embedding(rows, is_smooth=self.embedding != "piecewise", fixed=self.fixed)
        angular: AngularFunctions | None = None
        if self.angular:
            start = {**_ANGULAR_START, "rc": self.cutoff_ang}
            pairs = [parameters.angular.get(pair, start) for pair in _symbol_pairs(elements)]
            angular = MishinAngular(pairs, **cut, fixed=self.fixed)
        if self.functions == "spline":
            knots = SplineKnots(self.inner_ang, self.cutoff_ang, self.n_intervals)
            radial = SplineRadial(radial, len(elements), knots)
            angular = SplineAngular(angular, len(elements), knots) if angular is not None else None
        if self.embedding == "spline":
            embedding = SplineEmbedding(embedding, highest=self.highest_density, n_intervals=self.n_embedding_intervals)
        form = self.model_dump(mode="json", exclude={"base_dir", "start", "variants", "overrides"})
        return EamModel(elements, self.cutoff_ang, radial, embedding, angular, form)


def eam_from_state(state: SurrogateState) -> TorchPotential:
    """See :meth:`~..potentials.torch_potential.TorchPotential.from_state`."""

    def build(form: Any, elements: tuple[str, ...]) -> EamModel:
        return EamSettings.model_validate(form)._assembled(elements, _placeholder(elements))

    return TorchPotential.from_state(state, KIND, build)


def _symbol_pairs(elements: Sequence[str], *, in_order: bool = False) -> list[tuple[str, str]]:
    pairs = [(elements[a], elements[b]) for a, b in type_pairs(len(elements))]
    return pairs if in_order else [pair_key(*pair) for pair in pairs]


def _placeholder(elements: Sequence[str]) -> EamParameters:
    """Parameters of the right shape, to be replaced by those of a state."""
    row = dict.fromkeys((*RADIAL, *EMBEDDING), 1.0)
    return EamParameters(dict.fromkeys(elements, row))
