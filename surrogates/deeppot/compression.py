"""Embedding networks as tables, for evaluation where parameters stay as they are.

A trained network is a curve ``G(s)`` in as many dimensions as it has outputs. Being smooth, the curve lies in a space
of few of them up to a tolerance: with orthonormal rows ``C``, found by singular value decomposition of its values and
slopes over the range of ``s``, ``G(s) = Phi(s) C``, and ``Phi`` has about 20 columns where ``G`` has 100. Sums over
neighbours run over ``Phi``, and ``C`` is applied once to each atom. ``Phi`` is interpolated from values and two
derivatives at equally spaced nodes (quintic Hermite), so that energies have two continuous derivatives; forces are the
exact derivatives of the interpolated energies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .networks import ResidualNetwork

MIN_DISTANCE_ANG = 1.2
"""Tables reach to pairs as close as this."""
TOLERANCE = 1e-9
"""Largest error of values, and of slopes by the normalized ``s``, where outputs are of the order of 1. Energies then
agree with the network's within 1e-7 eV per atom and forces within 1e-6 eV/Å, with room to spare."""
_MULTIPLE = 4  # columns are filled up with zeros to whole vectors of the processor
_N_SAMPLES = 2048  # of the range, in the decomposition
_FIRST_N_INTERVALS = 64
_MAX_N_INTERVALS = 4096


@dataclass(frozen=True)
class EmbeddingTable:
    """One network.

    Attributes:
        nodes: float64 ``[n_nodes, 3, n_columns]``: Phi, and its first and second derivative by ``s`` times the step and
            its square.
        basis: C, float64 ``[n_columns, n_outputs]``.
        step: distance of the nodes in ``s``, 1/Å.
        error: largest error of values and of slopes by the normalized ``s`` that was found between the nodes.
    """

    nodes: np.ndarray
    basis: np.ndarray
    step: float
    error: float

    def values_and_slopes(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G and its derivative by ``s``, both ``[n, n_outputs]``, at ``s`` ``[n]`` within the range."""
        place = s / self.step
        k = np.minimum(place.astype(np.int64), len(self.nodes) - 2)
        values, slopes = hermite_weights(place - k)
        around = np.concatenate([self.nodes[k], self.nodes[k + 1]], 1)
        found = (np.einsum("kn,nkc->nc", np.array(weights), around) @ self.basis for weights in (values, slopes))
        value, slope = found
        return value, slope / self.step


def tabulate(network: ResidualNetwork, mean: float, deviation: float) -> EmbeddingTable | None:
    """The table of a network of ``(s - mean) / deviation``, for ``s`` from 0 to ``1 / MIN_DISTANCE_ANG``.

    Returns:
        ``None`` where the network is too wild for a table of a reasonable size.
    """
    reach = 1.0 / MIN_DISTANCE_ANG
    values, slopes, _ = _curve(network, np.linspace(0.0, reach, _N_SAMPLES), mean, deviation)
    _, sizes, rows = np.linalg.svd(np.concatenate([values, slopes]), full_matrices=False)
    left_out = np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1])  # over all samples, so no single one is further off
    rank = max(int(np.count_nonzero(left_out > TOLERANCE / 2)), 1)
    basis = np.zeros((-(-rank // _MULTIPLE) * _MULTIPLE, values.shape[1]))
    basis[:rank] = rows[:rank]
    n = _FIRST_N_INTERVALS
    while n <= _MAX_N_INTERVALS:
        step = reach / n
        at_nodes = _curve(network, np.linspace(0.0, reach, n + 1), mean, deviation)
        nodes = np.stack([(step / deviation) ** k * (x @ basis.T) for k, x in enumerate(at_nodes)], 1)
        table = EmbeddingTable(nodes, basis, step, 0.0)
        error = _error(table, network, mean, deviation)
        if error <= TOLERANCE:
            return EmbeddingTable(nodes, basis, step, error)
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


def _curve(network: ResidualNetwork, s: np.ndarray, mean: float, deviation: float) -> list[np.ndarray]:
    """Values and two derivatives by the normalized ``s``, each ``[n, n_outputs]``."""
    x = ((s - mean) / deviation)[:, None]
    now = [x, np.ones_like(x), np.zeros_like(x)]
    for k, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        matrix = weight.detach().double().numpy()
        linear, rise, bend = (y @ matrix for y in now)
        value = np.tanh(linear + bias.detach().double().numpy())
        slope = 1.0 - value * value
        layer = [value, slope * rise, slope * (bend - 2.0 * value * rise * rise)]
        if str(k) in network.time_steps:
            layer = [y * network.time_steps[str(k)].detach().double().numpy() for y in layer]
        n_in, n_out = matrix.shape
        copies = n_out // n_in if n_out in (n_in, 2 * n_in) else 0  # of the input, added to the layer
        now = [y + np.tile(z, copies) if copies else y for y, z in zip(layer, now, strict=True)]
    return now


def _error(table: EmbeddingTable, network: ResidualNetwork, mean: float, deviation: float) -> float:
    n = len(table.nodes) - 1
    s = (np.arange(n)[:, None] + np.array([0.21, 0.5, 0.79])).reshape(-1) * table.step
    values, slopes, _ = _curve(network, s, mean, deviation)
    found, steep = table.values_and_slopes(s)
    return float(max(np.abs(found - values).max(), np.abs(steep * deviation - slopes).max()))
