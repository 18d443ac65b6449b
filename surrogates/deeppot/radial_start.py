"""First embedding networks that say what neighbours do: smooth radial functions and contrasts between species.

DeePMD-kit draws embedding networks at random. Those are nearly linear in their input, so that descriptors are nearly
the same number many times over, and they mix species at random, so that an atom surrounded by species that the data
never showed together is unlike anything learned. Here the first layer has its steps spread over the distances, and
the second makes of it

- *common* functions, the same for all pairs of species: combinations of the first layer that are orthogonal, and the
  ones that vary most, over the distances of the data (columns that the axis neurons hold);
- *contrasts*: the first of these functions times the difference between the species of neighbour and centre in group
  and in period. They vanish among equal atoms. So what is learned of hot elements holds for a hot alloy as far as
  its atoms are alike, and cold alloys teach the differences: element-weighted densities, as in SNAP (Thompson et al.,
  J. Comput. Phys. 2015), but with weights that are learned.

Everything can change in the training that follows, and the model is as plain a DeepPot-SE as with random networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import atomic_numbers

from ..base import SurrogateError
from ..potentials.frame import Frame
from ..potentials.graph import build_graph
from .environment import weighted_inverse
from .networks import ResidualNetwork

_MAX_FRAMES = 150  # enough for a histogram of distances
_MAX_DISTANCES = 20_000
_SHORTEST_ANG = 2.0  # functions are told apart from here to the cutoff even where the data has no distances
_N_UNIFORM = 400
_STEEPNESS = 0.75  # of the steps of the first layer, by their spacing
_SIZE = 0.4  # of the functions before the last tanh: nearly linear
_CONTRAST = 0.25  # contrasts of the most different species, by the common functions
_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)


def first_embeddings(
    embeddings: Sequence[Sequence[ResidualNetwork]],
    elements: Sequence[str],
    frames: Sequence[Frame],
    *,
    inner_ang: float,
    cutoff_ang: float,
    mean: float,
    deviation: float,
    n_common: int,
    seed: int,
) -> None:
    """Set embedding networks of two layers, the second without a shortcut.

    Args:
        embeddings: network of each species of the centre (rows) and the neighbour (columns).
        elements: chemical symbols of the species.
        frames: structures whose distances count.
        inner_ang, cutoff_ang: of the weight of neighbours.
        mean, deviation: by which the networks' input is normalized.
        n_common: number of common functions; the other columns are contrasts, or common as well where the species are
            one.
        seed: of the choice of frames and of the steps.

    Raises:
        SurrogateError: there are fewer first-layer neurons than functions asked for.
    """
    first, second = embeddings[0][0].weights
    n_steps, n_columns = second.shape
    axes = contrasts(elements)
    n_axes = axes.shape[1]
    if n_axes == 0:
        n_common = n_columns
    per_axis = [(n_columns - n_common) // n_axes + (k < (n_columns - n_common) % n_axes) for k in range(n_axes)]
    if max(n_common, *per_axis, 0) > n_steps:
        raise SurrogateError(
            f"{n_common} radial functions of a first embedding layer of {n_steps} neurons are not independent; "
            f"make that layer at least {n_common} wide"
        )
    rng = np.random.default_rng([seed, 5])
    r = _distances(frames, elements, cutoff_ang, rng)
    s, _ = weighted_inverse(torch.from_numpy(r), inner_ang, cutoff_ang)
    x = (s.numpy() - mean) / deviation
    weights, biases = _steps(x, n_steps, rng)
    coefficients = _functions(np.tanh(x[:, None] * weights + biases), s.numpy(), max(n_common, *per_axis, 0))
    with torch.no_grad():
        for a, row in enumerate(embeddings):
            for b, network in enumerate(row):
                columns = [coefficients[:, :n_common]]
                for k, n in enumerate(per_axis):
                    columns.append(_CONTRAST * (axes[b, k] - axes[a, k]) * coefficients[:, :n])
                table = torch.from_numpy(_SIZE * np.concatenate(columns, axis=1))
                first, second = network.weights
                first.copy_(torch.from_numpy(weights)[None])
                network.biases[0].copy_(torch.from_numpy(biases))
                second.copy_(table[:-1])
                network.biases[1].copy_(table[-1])


def contrasts(elements: Sequence[str]) -> np.ndarray:
    """Coordinates in which species differ, ``[n_species, n_axes]``: group and period, where these are not all equal.

    Each spans 1 from its smallest to its largest value. Species that share both (lanthanides) differ in the order of
    their atomic numbers.
    """
    numbers = [atomic_numbers[symbol] for symbol in elements]
    period = [sum(number > noble for noble in _NOBLE_GASES) for number in numbers]
    group = [_group(number) for number in numbers]
    columns = [group, period]
    if len(set(zip(group, period, strict=True))) < len(elements):
        columns.append(numbers)
    spans = [np.array(column, dtype=float) for column in columns if len(set(column)) > 1]
    if not spans:
        return np.zeros((len(elements), 0))
    return np.stack([(span - span.min()) / (span.max() - span.min()) for span in spans], axis=1)


def _group(number: int) -> int:
    """Group of the periodic table, 1 to 18; the f elements are of group 3."""
    before = max(noble for noble in _NOBLE_GASES if noble < number)
    k = number - before
    length = next(noble for noble in _NOBLE_GASES if noble >= number) - before
    if k <= 2:
        return 18 if length == 2 and k == 2 else k
    if length == 8:
        return k + 10
    return k if length == 18 else max(3, k - 14)


def _distances(
    frames: Sequence[Frame], elements: Sequence[str], cutoff_ang: float, rng: np.random.Generator
) -> np.ndarray:
    chosen = rng.permutation(len(frames))[:_MAX_FRAMES]
    found = [np.linalg.norm(build_graph(frames[k].atoms, elements, cutoff_ang).vectors, axis=1) for k in chosen]
    r = rng.permutation(np.concatenate(found))[:_MAX_DISTANCES]
    return np.concatenate([r, np.linspace(min(_SHORTEST_ANG, cutoff_ang / 2), cutoff_ang, _N_UNIFORM)])


def _steps(x: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a layer whose steps lie evenly over the input."""
    places = np.linspace(x.min(), x.max(), n + 2)[1:-1]
    signs = np.where(np.arange(n) % 2, -1.0, 1.0)
    weights = signs * _STEEPNESS * n / (x.max() - x.min()) * rng.uniform(0.7, 1.4, n)
    return weights, -weights * places


def _functions(steps: np.ndarray, s: np.ndarray, n: int) -> np.ndarray:
    """Coefficients ``[n_steps + 1, n]`` (the last of a constant) of functions that are orthogonal with the weight s^2
    over the distances, the most variable ones first; of the size 1 but for two per cent of the distances."""
    columns = np.concatenate([steps, np.ones((len(steps), 1))], axis=1)
    _, spread, axes = np.linalg.svd(columns * s[:, None], full_matrices=False)
    coefficients = axes[:n].T / spread[:n]
    return np.asarray(coefficients / np.quantile(np.abs(columns @ coefficients), 0.98, axis=0))
