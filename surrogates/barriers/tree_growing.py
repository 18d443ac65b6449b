"""Growing boosted trees with scikit-learn, apart from :mod:`.boosted_trees` because its import takes a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from .boosted_trees import BoostedTreesSettings, Trees


def grow(settings: BoostedTreesSettings, features: np.ndarray, targets: np.ndarray, *, seed: int) -> Trees:
    """All trees that the settings allow.

    Args:
        features: ``[n, n_features]``.
        targets: ``[n]``, eV.
    """
    learner = HistGradientBoostingRegressor(
        max_iter=settings.max_trees,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.max_leaves,
        min_samples_leaf=settings.min_leaf_hops,
        l2_regularization=settings.l2,
        early_stopping=False,
        random_state=seed % 2**32,
    )
    return _plain(learner.fit(features, targets))


def _plain(learner: Any) -> Trees:
    """The trees of scikit-learn's learner, whose own file format is pickle."""
    tables = [stage[0].nodes for stage in learner._predictors]
    roots = np.cumsum([0, *(len(nodes) for nodes in tables)])[:-1]

    def children(side: str) -> np.ndarray:
        parts = []
        for nodes, root in zip(tables, roots, strict=True):
            parts.append(np.where(nodes["is_leaf"].astype(bool), np.arange(len(nodes)), nodes[side]) + root)
        return np.concatenate(parts).astype(np.int32)

    return Trees(
        start_ev=float(np.ravel(learner._baseline_prediction)[0]),
        roots=roots.astype(np.int32),
        feature=np.concatenate([t["feature_idx"] for t in tables]).astype(np.int32),
        left=children("left"),
        right=children("right"),
        threshold=np.concatenate([t["num_threshold"] for t in tables]).astype(float),
        leaf_ev=np.concatenate([t["value"] for t in tables]).astype(float),
        depth=max(int(t["depth"].max()) for t in tables),
    )
