"""Embedding networks as tables, for evaluation where parameters stay as they are.

A trained network is a curve ``G(s)`` in as many dimensions as it has outputs. Being smooth, the curve lies in a space
of few of them up to a tolerance: with orthonormal rows ``C``, found by singular value decomposition of its values and
slopes over the range of ``s``, ``G(s) = Phi(s) C``, and ``Phi`` has about 20 columns where ``G`` has 100. Sums over
neighbours run over ``Phi``, and ``C`` is applied once to each atom. ``Phi`` is interpolated from values and two
derivatives at equally spaced nodes (quintic Hermite), so that energies have two continuous derivatives; forces are the
exact derivatives of the interpolated energies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .networks import ResidualNetwork

MIN_DISTANCE_ANG = 1.2
"""Tables reach to pairs as close as this."""
TOLERANCE = 1e-9
"""Largest error of values, and of slopes by the normalized ``s``, where outputs are of the order of 1. Energies then
agree with the networks' within 1e-7 eV per atom and forces within 1e-6 eV/Å, with room to spare."""
_REACH = 1.0 / MIN_DISTANCE_ANG
_MULTIPLE = 4  # columns are filled up with zeros to whole vectors of the processor
_N_SAMPLES = 2048  # of the range, in the decomposition
_FIRST_N_INTERVALS = 64
_MAX_N_INTERVALS = 4096


@dataclass(frozen=True)
class EmbeddingTables:
    """Networks of one normalization.

    Attributes:
        nodes: float64 ``[n_networks, n_nodes, 3, n_columns]``: Phi, and its first and second derivative by ``s`` times
            the step and its square.
        bases: C, float64 ``[n_networks, n_columns, n_outputs]``.
        step: distance of the nodes in ``s``, 1/Å.
        error: largest error of values and of slopes by the normalized ``s`` that was found between the nodes.
    """

    nodes: np.ndarray
    bases: np.ndarray
    step: float
    error: float

    def values_and_slopes(self, network: int, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G of one network and its derivative by ``s``, both ``[n, n_outputs]``, at ``s`` ``[n]`` within the range."""
        nodes, basis = self.nodes[network], self.bases[network]
        place = s / self.step
        k = np.minimum(place.astype(np.int64), len(nodes) - 2)
        around = np.concatenate([nodes[k], nodes[k + 1]], 1)
        values, slopes = (np.einsum("kn,nkc->nc", np.array(w), around) @ basis for w in hermite_weights(place - k))
        return values, slopes / self.step


def tabulate(networks: Sequence[ResidualNetwork], mean: float, deviation: float) -> EmbeddingTables | None:
    """Tables of networks of ``(s - mean) / deviation``, for ``s`` from 0 to ``1 / MIN_DISTANCE_ANG``.

    Returns:
        ``None`` where a network is too wild for a table of a reasonable size.
    """
    bases = _bases([_curve(network, np.linspace(0.0, _REACH, _N_SAMPLES), mean, deviation) for network in networks])
    n = _FIRST_N_INTERVALS
    while n <= _MAX_N_INTERVALS:
        step, s = _REACH / n, np.linspace(0.0, _REACH, n + 1)
        nodes = np.empty((len(networks), n + 1, 3, bases.shape[1]))
        for b, network in enumerate(networks):
            for k, derivative in enumerate(_curve(network, s, mean, deviation)):
                nodes[b, :, k] = (step / deviation) ** k * (derivative @ bases[b].T)
        tables = EmbeddingTables(nodes, bases, step, 0.0)
        error = max(_error(tables, b, network, mean, deviation) for b, network in enumerate(networks))
        if error <= TOLERANCE:
            return EmbeddingTables(nodes, bases, step, error)
        n *= 2
    return None


def hermite_weights(t):  # type: ignore[no-untyped-def]
    """Weights of value, slope and curvature at the left and then the right node, and the weights' derivatives by ``t``,
    which goes from 0 to 1 between the nodes; numbers or arrays."""
    u = 1.0 - t
    tt, uu = t * t, u * u
    ttt, uuu = tt * t, uu * u
    bump = 30.0 * tt * uu
    values = (
        uuu * (1.0 + 3.0 * t + 6.0 * tt),
        t * uuu * (1.0 + 3.0 * t),
        0.5 * tt * uuu,
        ttt * (1.0 + 3.0 * u + 6.0 * uu),
        -u * ttt * (1.0 + 3.0 * u),
        0.5 * uu * ttt,
    )
    slopes = (
        -bump,
        uu * (1.0 - 3.0 * t) * (1.0 + 5.0 * t),
        0.5 * t * uu * (2.0 - 5.0 * t),
        bump,
        tt * (1.0 - 3.0 * u) * (1.0 + 5.0 * u),
        -0.5 * u * tt * (2.0 - 5.0 * u),
    )
    return values, slopes


def _bases(curves: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Orthonormal rows for each curve, ``[n_networks, n_columns, n_outputs]``; those that it does not need are zero."""
    found, ranks = [], []
    for values, slopes, _ in curves:
        _, sizes, rows = np.linalg.svd(np.concatenate([values, slopes]), full_matrices=False)
        left_out = np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1])  # over all samples, so no single one is further off
        ranks.append(int(np.count_nonzero(left_out > TOLERANCE / 2)))
        found.append(rows)
    n_columns = -(-max(*ranks, 1) // _MULTIPLE) * _MULTIPLE
    bases = np.zeros((len(curves), n_columns, found[0].shape[1]))
    for basis, rows, rank in zip(bases, found, ranks, strict=True):
        basis[:rank] = rows[:rank]
    return bases


def _curve(network: ResidualNetwork, s: np.ndarray, mean: float, deviation: float) -> list[np.ndarray]:
    """Values and two derivatives by the normalized ``s``, each ``[n, n_outputs]``."""
    x = ((s - mean) / deviation)[:, None]
    now = [x, np.ones_like(x), np.zeros_like(x)]
    for layer in network.layers():
        linear, rise, bend = (y @ layer.weight for y in now)
        value = np.tanh(linear + layer.bias)
        slope = (1.0 - value * value) * layer.time_step
        bent = [value * layer.time_step, slope * rise, slope * (bend - 2.0 * value * rise * rise)]
        now = [y + np.tile(z, layer.n_copies) if layer.n_copies else y for y, z in zip(bent, now, strict=True)]
    return now


def _error(tables: EmbeddingTables, b: int, network: ResidualNetwork, mean: float, deviation: float) -> float:
    n = tables.nodes.shape[1] - 1
    s = (np.arange(n)[:, None] + np.array([0.21, 0.5, 0.79])).reshape(-1) * tables.step
    values, slopes, _ = _curve(network, s, mean, deviation)
    found, steep = tables.values_and_slopes(b, s)
    return float(max(np.abs(found - values).max(), np.abs(steep * deviation - slopes).max()))
