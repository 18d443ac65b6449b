"""Which members of a pool are worth a label: those the model is unsure of, those unlike each other, both, or any.

Choosing both is the batch of F. Zhdanov, "Diverse mini-batch active learning", arXiv:1901.05954 (2019): the members
that the model is least sure of, several for each label, are divided into as many clusters as there are labels, each
counting by how unsure the model is of it; and each cluster sends its middle. Uncertainty by itself spends a batch on
members that are alike.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveInt
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from ..structures.settings import Settings
from ..surrogates.potentials.environments import farthest_points


class PoolSelectionSettings(Settings):
    """How members of a pool are chosen."""

    kind: Literal["both", "uncertainty", "diversity", "random"] = "both"
    """`uncertainty`: those on which the models of the committee differ most. `diversity`: those unlike each other and
    unlike what is known. `both`: unlike each other among those on which the committee differs most. `random`: any, at
    even odds; the yardstick that a selection has to beat."""
    diversity: Literal["k_means", "farthest_points"] = "k_means"
    """What makes a batch diverse: a member from the middle of each of as many clusters (`k_means`), or each member as
    far as can be from all that are known and chosen (`farthest_points`), which seeks the rim of what there is."""
    batch_size: PositiveInt = 60
    """Members chosen in each round."""
    n_per_choice: PositiveInt = 8
    """For `both`: members for each one that is chosen, the least certain ones of the pool, to choose from."""

    @property
    def needs_spread(self) -> bool:
        """Whether it asks how unsure the model is."""
        return self.kind in ("both", "uncertainty")


def choose(
    settings: PoolSelectionSettings,
    n: int,
    *,
    spreads: np.ndarray,
    features: np.ndarray,
    known: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Choose ``n`` different members of a pool, or all where there are no more.

    Args:
        spreads: ``[n_pool]``, how unsure the model is of each; looked at only where ``needs_spread``.
        features: ``[n_pool, n_features]``, what each is like; each column is scaled by its spread over the pool.
        known: ``[n_known, n_features]``, what those are like that have labels.
        seed: of all that is random.

    Returns:
        Rows of the pool, int64 ``[n]``, in the order of the choice.
    """
    n = min(n, len(features))
    rng = np.random.default_rng(seed)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    if settings.kind == "random":
        return rng.choice(len(features), n, replace=False)
    least_certain = np.argsort(-spreads, kind="stable") if settings.needs_spread else np.arange(len(features))
    if settings.kind == "uncertainty":
        return least_certain[:n]
    rows = least_certain[: settings.n_per_choice * n] if settings.kind == "both" else least_certain
    scale = features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)
    shown, told = features[rows] / scale, known.reshape(-1, features.shape[1]) / scale
    if settings.diversity == "farthest_points":
        # with nothing known it begins at the first row, so let that be a random one, or the least certain one
        first = 0 if settings.kind == "both" else int(rng.integers(len(rows)))
        return rows[_filled(farthest_points(shown, n, told, first), n, len(rows))]
    weights = spreads[rows] if settings.kind == "both" else _distance_to(shown, told)
    return rows[_middles(shown, n, weights, seed=int(rng.integers(2**31)))]


def _middles(points: np.ndarray, n: int, weights: np.ndarray, *, seed: int) -> np.ndarray:
    """The row nearest to the middle of each of ``n`` clusters."""
    weights = np.maximum(weights, 1e-6 * max(float(weights.max()), 1e-12))
    n_different = len(np.unique(points, axis=0))
    with threadpool_limits(limits=1):
        clusters = KMeans(min(n, n_different), n_init=1, max_iter=50, random_state=seed)
        clusters.fit(points, sample_weight=weights)
    distances = ((points - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(axis=1)
    order = np.lexsort((distances, clusters.labels_))
    first = np.unique(clusters.labels_[order], return_index=True)[1]
    return _filled(order[first].tolist(), n, len(points))


def _filled(chosen: list[int], n: int, n_rows: int) -> np.ndarray:
    """``n`` rows: those chosen, and the first of the others where they are too few, because many are alike."""
    others = np.setdiff1d(np.arange(n_rows), chosen)
    return np.concatenate([np.array(chosen, dtype=np.int64), others])[:n]


def _distance_to(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Squared distance of each point to the nearest known one, ``[n_points]``; ones where nothing is known."""
    if len(known) == 0:
        return np.ones(len(points))
    lengths = (points**2).sum(axis=1)
    nearest = np.full(len(points), np.inf)
    for part in np.array_split(known, 1 + len(known) // 512):
        squared = lengths[:, None] - 2.0 * points @ part.T + (part**2).sum(axis=1)
        nearest = np.minimum(nearest, squared.min(axis=1))
    return np.maximum(nearest, 0.0)
