"""First embedding networks that say what neighbours do: smooth radial functions and contrasts between species.

DeePMD-kit draws embedding networks at random. Those are nearly linear in their input, so that descriptors are nearly
the same number many times over, and they mix species at random, so that an atom surrounded by species that the data
never showed together is unlike anything learned. Here the first layer has its steps spread over the distances, and
the second makes of it

- *common* functions: combinations of the first layer that are orthogonal, and the ones that vary most, over the
  distances of the data (columns that the axis neurons hold). They are the same for all pairs of species but for
  size: an atom sees a neighbour of another species as one of its own at the distance that is as near for their sizes;
- *contrasts*: the first of these functions times the difference between the species of neighbour and centre in group
  and in period. They vanish among equal atoms, and are small. So what is learned of hot elements holds for a hot alloy
  as far as its atoms are alike, and cold alloys teach the differences: element-weighted densities, as in SNAP
  (Thompson et al., J. Comput. Phys. 2015), but with weights that are learned.

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
_CONTRAST = 0.05  # contrasts of the most different species, by the common functions
_NEAREST_ANG = 4.0  # atoms without a neighbour up to here say nothing of sizes
_DISTINCT = 1e-2  # compositions that differ less leave sizes as they are
_RELATIVE_ERROR = 1e-6  # of functions at scaled distances
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
    s = weighted_inverse(torch.from_numpy(r), inner_ang, cutoff_ang)[0].numpy()
    weights, biases = _steps((s - mean) / deviation, n_steps, rng)

    def layer(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First layer and a constant, and the weight of neighbours."""
        s = weighted_inverse(torch.from_numpy(r), inner_ang, cutoff_ang)[0].numpy()
        return np.pad(
            np.tanh((s[:, None] - mean) / deviation * weights + biases), ((0, 0), (0, 1)), constant_values=1.0
        ), s

    at_r, s = layer(r)
    functions = _functions(at_r, s, max(n_common, *per_axis, 0))
    sizes = _sizes(frames, elements)
    with torch.no_grad():
        for a, row in enumerate(embeddings):
            for b, network in enumerate(row):
                at_scaled, s_scaled = layer(r * 2.0 * sizes[a] / (sizes[a] + sizes[b]))
                wanted = s_scaled[:, None] * (at_scaled @ functions)
                coefficients = np.linalg.lstsq(at_r * s[:, None], wanted, rcond=_RELATIVE_ERROR)[0]
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


def _sizes(frames: Sequence[Frame], elements: Sequence[str]) -> np.ndarray:
    """Size of the atoms of each element, ``[n_species]``, Å: the distance of nearest neighbours.

    Its mean over a frame is taken for linear in the composition; elements that frames do not tell apart are equal.
    """
    shares, nearest = [], []
    for frame in frames:
        graph = build_graph(frame.atoms, elements, _NEAREST_ANG)
        closest = np.full(len(graph.types), np.inf)
        r = np.linalg.norm(graph.vectors, axis=1)
        for centre in (graph.first, graph.second):
            np.minimum.at(closest, centre, r)
        if np.isfinite(closest).all():
            shares.append(np.bincount(graph.types, minlength=len(elements)) / len(graph.types))
            nearest.append(closest.mean())
    if not nearest:
        return np.ones(len(elements))
    mean = float(np.mean(nearest))
    return mean + np.linalg.lstsq(np.array(shares), np.array(nearest) - mean, rcond=_DISTINCT)[0]


def _steps(x: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a layer whose steps lie evenly over the input."""
    places = np.linspace(x.min(), x.max(), n + 2)[1:-1]
    signs = np.where(np.arange(n) % 2, -1.0, 1.0)
    weights = signs * _STEEPNESS * n / (x.max() - x.min()) * rng.uniform(0.7, 1.4, n)
    return weights, -weights * places


def _functions(layer: np.ndarray, s: np.ndarray, n: int) -> np.ndarray:
    """Coefficients ``[n_steps + 1, n]``, the last of a constant, that make functions of the first layer.

    They are orthogonal with the weight s^2 over the distances, the most variable ones first, and below 1 for all but
    two per cent of the distances.
    """
    _, spread, axes = np.linalg.svd(layer * s[:, None], full_matrices=False)
    coefficients = axes[:n].T / spread[:n]
    return np.asarray(coefficients / np.quantile(np.abs(layer @ coefficients), 0.98, axis=0))
