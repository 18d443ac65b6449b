"""Choosing structures that determine a potential's parameters best: a greedy D-optimal design.

Near its present parameters a potential is a linear model whose features are the derivatives of the energy by them. A
set of labelled energies determines the parameters the better, the larger the determinant of the features' information
matrix is (D-optimality, as in Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017), Eqs. 12-16, there for
moment tensor potentials, which are linear throughout). The structure that raises it most is the one of largest
leverage: the one whose energy is foreseen with the largest variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from .graph import build_graph, collate
from .model import PotentialModel

_MAX_FEATURES = 512
_RIDGE = 1e-3


def energy_gradients(
    model: PotentialModel, structures: Sequence[Atoms], seed: int = 0, *, linear_only: bool = False
) -> np.ndarray:
    """Derivatives of the energy per atom by the trainable parameters.

    They hold for the model's parameters as they are: a model that has learnt since has others. Those of models with
    many parameters are summed, with random signs, in 512 groups drawn at random, which keeps
    scalar products on average (the count sketch of Charikar, Chen and Farach-Colton, Theor. Comput. Sci. 312, 3,
    2004).

    Args:
        seed: of groups and signs; rows of different calls go together if it is the same.
        linear_only: by the parameters that energies are linear in alone, for a model that is solved for by least
            squares: the others stay as they are.

    Returns:
        ``[n_structures, n_features]``, eV over the units of the parameters.

    Raises:
        SurrogateError: an element that the model lacks, or coordinates that are not finite.
    """
    names = set(model.linear_parameters()) if linear_only else None
    parameters = [
        parameter
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad if names is None else name in names)
    ]
    n = sum(parameter.numel() for parameter in parameters)
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, _MAX_FEATURES, n) if n > _MAX_FEATURES else np.arange(n)
    signs = rng.choice([-1.0, 1.0], n) if n > _MAX_FEATURES else np.ones(n)
    rows = np.zeros((len(structures), min(n, _MAX_FEATURES)))
    for row, atoms in zip(rows, structures, strict=True):
        graph = build_graph(atoms, model.elements, model.cutoff_ang)
        batch = collate([graph], dtype=parameters[0].dtype, device=str(parameters[0].device))
        energy = model.energies(batch).sum() / len(atoms)
        slopes = torch.autograd.grad(energy, parameters, allow_unused=True)
        flat = np.concatenate(
            [
                np.zeros(parameter.numel()) if slope is None else slope.double().cpu().numpy().reshape(-1)
                for parameter, slope in zip(parameters, slopes, strict=True)
            ]
        )
        row[:] = np.bincount(groups, weights=signs * flat, minlength=len(row))
    return rows


def d_optimal(features: np.ndarray, n: int, known: np.ndarray | None = None) -> list[int]:
    """Choose up to ``n`` rows, each the one that adds most to the determinant of the information matrix.

    Columns are scaled to a mean square of 1 first, and a little (0.001) is added to the matrix's diagonal, so that it
    has an inverse.

    Args:
        features: ``[n_rows, n_features]``.
        known: ``[n_known, n_features]``, rows that are part of the design already.
    """
    if len(features) == 0 or n < 1:
        return []
    everything = features if known is None else np.concatenate([known, features])
    scale = np.sqrt((everything**2).mean(axis=0))
    scale = np.where(scale > 1e-12 * scale.max(initial=0.0), scale, np.inf)
    rows = features / scale
    inverse: np.ndarray = np.eye(features.shape[1]) / _RIDGE
    if known is not None and len(known):
        scaled = known / scale
        inverse = np.linalg.inv(scaled.T @ scaled + _RIDGE * np.eye(features.shape[1]))
    leverage: np.ndarray = np.einsum("ij,jk,ik->i", rows, inverse, rows, optimize=True)
    chosen: list[int] = []
    while len(chosen) < min(n, len(rows)):
        best = int(np.argmax(leverage))
        chosen.append(best)
        direction = inverse @ rows[best]
        gain = 1.0 + float(rows[best] @ direction)
        inverse -= np.outer(direction, direction) / gain
        leverage = leverage - (rows @ direction) ** 2 / gain
        leverage[chosen] = -np.inf
    return chosen
