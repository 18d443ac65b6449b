"""The functions of a model on uniform grids, as files for other programs hold them.

All functions start at zero distance and zero density, where they are finite. Between grid points programs interpolate
with cubic polynomials; with the default grids that changes energies by less than 1e-8 eV/atom.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, reference_states

from ...oracles.setfl import EamTables, grid_step
from ...structures.whole_file import write_whole
from ..base import SurrogateError
from .model import EamModel
from .radial import type_pairs

_SHORTEST_OF_NEIGHBOUR = 0.65
_FCC_SHELLS = ((12, 1.0), (6, math.sqrt(2.0)), (24, math.sqrt(3.0)), (12, 2.0))


def tabulate(model: EamModel, *, n_r: int = 4001, n_rho: int = 10001, rho_max: float | None = None) -> EamTables:
    """Evaluate the functions of a model on grids.

    Args:
        n_r, n_rho: number of grid points.
        rho_max: highest density; :func:`highest_density` by default.

    Raises:
        SurrogateError: grids too coarse to be used, or a function that is not finite on them.
    """
    if min(n_r, n_rho) < 500:
        raise SurrogateError(f"tables need at least 500 points, got n_r = {n_r} and n_rho = {n_rho}")
    elements = model.elements
    pairs = type_pairs(len(elements))
    top = highest_density(model) if rho_max is None else rho_max
    if not (math.isfinite(top) and top > 0.0):
        raise SurrogateError(f"the highest density of the tables must be finite and above zero, got {top}")
    dr, drho = grid_step(model.cutoff_ang, n_r), top / (n_rho - 1)
    distances = torch.arange(n_r, dtype=torch.float64) * dr
    distances[-1] = model.cutoff_ang
    densities = torch.arange(n_rho, dtype=torch.float64) * drho
    counts = [n_r] * len(pairs)
    with torch.no_grad():
        repeated = distances.repeat(len(pairs))
        curves = model.radial(repeated, counts)
        angular = model.angular(repeated, counts) if model.angular is not None else None
        embedding = [
            model.embedding(densities, torch.full((n_rho,), k, dtype=torch.int64))[0] for k in range(len(elements))
        ]
    diagonal = [k for k, (a, b) in enumerate(pairs) if a == b]
    tables = EamTables(
        elements=elements,
        cutoff_ang=model.cutoff_ang,
        dr_ang=dr,
        drho=drho,
        embedding=torch.stack(embedding).numpy(),
        density=curves.density_low[0].reshape(len(pairs), n_r)[diagonal].numpy(),
        pair=curves.pair[0].reshape(len(pairs), n_r).numpy(),
        dipole=angular[0][0].reshape(len(pairs), n_r).numpy() if angular else None,
        quadrupole=angular[1][0].reshape(len(pairs), n_r).numpy() if angular else None,
    )
    for name in ("embedding", "density", "pair", "dipole", "quadrupole"):
        values = getattr(tables, name)
        if values is not None and not np.isfinite(values).all():
            raise SurrogateError(f"the {name} function is not finite everywhere on its grid; the model is unusable")
    return tables


def highest_density(model: EamModel) -> float:
    """A density that no simulation should reach: that of close packing at 0.65 times the usual neighbour distance.

    That is a crystal at 3.6 times its density; the highest over the elements, and not less than twice their typical
    densities.
    """
    pairs = type_pairs(len(model.elements))
    found = [2.0 * density for density in model.embedding.typical_densities()]
    for k, symbol in enumerate(model.elements):
        shortest = _SHORTEST_OF_NEIGHBOUR * neighbour_distance(symbol)
        shells = torch.tensor([shortest * factor for _, factor in _FCC_SHELLS], dtype=torch.float64)
        shells = shells[shells < model.cutoff_ang]
        counts = [len(shells) if pair == (k, k) else 0 for pair in pairs]
        with torch.no_grad():
            density = model.radial(shells, counts).density_low[0]
        found.append(sum(n * float(rho) for (n, _), rho in zip(_FCC_SHELLS, density, strict=False)))
    return max(found)


def neighbour_distance(symbol: str) -> float:
    """Distance of nearest neighbours in an element's crystal, Å, from ASE's reference states; 2.8 where unknown."""
    state = reference_states[atomic_numbers[symbol]] or {}
    factor = {"fcc": math.sqrt(0.5), "bcc": math.sqrt(0.75), "hcp": 1.0, "diamond": math.sqrt(3.0) / 4.0}
    return factor[state["symmetry"]] * state["a"] if state.get("symmetry") in factor else 2.8


def write_text(text: str, path: Path) -> None:
    """Write a file that is complete or not there at all.

    Raises:
        SurrogateError: the folder does not exist or cannot be written to.
    """
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise SurrogateError(f"{path} cannot be written ({error}); choose a folder that exists and is yours") from error
