"""Boosted regression trees on counts of species: grown by scikit-learn, kept as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from ...structures.settings import Settings
from ..base import Report, SurrogateError, SurrogateState
from .base import BarrierPrediction, BarrierSpec
from .calibration import Calibration
from .hop_lattice import hop_lattice
from .hops import Hops, occupations, phase_of
from .ridge import Ridge, RidgeSettings, base_of, with_base
from .site_features import FeatureKind, site_features

KIND = "barrier_trees"
_CHUNK = 20_000


class BoostedTreesSettings(Settings):
    """Gradient-boosted trees; the number of trees with the smallest error on the validation hops is kept."""

    kind: Literal["trees"] = "trees"
    features: FeatureKind = "counts"
    """What describes a hop; see the ridge model."""
    n_shells: int = Field(default=5, ge=1, le=8)
    """Neighbour shells about the vacancy and about the moving atom."""
    max_trees: int = Field(default=800, ge=1)
    """Most trees."""
    learning_rate: float = Field(default=0.08, gt=0.0, le=1.0)
    """Share of each tree's correction that is taken."""
    max_leaves: int = Field(default=31, ge=2)
    """Leaves of a tree."""
    min_leaf_hops: int = Field(default=15, ge=1)
    """Least hops in a leaf."""
    l2: float = Field(default=1.0, ge=0.0)
    """Penalty on the values of leaves."""
    base: RidgeSettings | None = None
    """A linear model whose errors the trees learn."""

    def fit(
        self,
        train: Hops,
        validation: Hops,
        *,
        elements: tuple[str, ...],
        seed: int,
        report: Report | None = None,
        checkpoint_path: Path | None = None,
    ) -> BoostedTrees:
        """See :class:`~.base.BarrierTrainer`."""
        phase = phase_of(train)
        spec = BarrierSpec(self.kind, phase, elements, len(train))
        from .tree_growing import grow

        targets, judged_targets = train.barriers_ev, validation.barriers_ev
        base = None
        if self.base is not None:
            base = self.base.fit(train, validation, elements=elements, seed=seed)
            targets = targets - base.predict(train).mean_ev
            judged_targets = judged_targets - base.predict(validation).mean_ev
        features, judged = (_features(self, spec, hops) for hops in (train, validation))
        grown = grow(self, features, targets, seed=seed)
        errors = np.abs(grown.stages(judged) - judged_targets[:, None]).mean(axis=0)
        kept = grown.first(int(errors.argmin()))
        residual = kept.values(judged) - judged_targets
        return BoostedTrees(spec, self, Calibration.of(residual, np.zeros(len(residual))), kept, base)


@dataclass(frozen=True, eq=False)
class Trees:
    """Binary trees laid end to end; a leaf is its own child.

    Attributes:
        start_ev: value before the first tree.
        roots: int32 ``[n_trees]``.
        feature, left, right: int32 ``[n_nodes]``.
        threshold, leaf_ev: ``[n_nodes]``; features at most the threshold go left.
        depth: of the deepest tree.
    """

    start_ev: float
    roots: np.ndarray
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    threshold: np.ndarray
    leaf_ev: np.ndarray
    depth: int

    def values(self, features: np.ndarray) -> np.ndarray:
        """Sum of the trees, ``[n]``, eV."""
        from .site_kernels import add_trees

        total = np.full(len(features), self.start_ev)
        roots, feature = self.roots.astype(np.uint32), self.feature.astype(np.uint32)
        children = np.stack([self.left, self.right], axis=1).ravel().astype(np.uint32)
        rows = np.ascontiguousarray(features)
        add_trees(rows, roots, self._depths, feature, children, self.threshold, self.leaf_ev, total)
        return total

    @cached_property
    def _depths(self) -> np.ndarray:
        """Steps from each root to its deepest leaf, int64 ``[n_trees]``."""
        steps = np.zeros(len(self.feature), dtype=np.int64)
        inner = np.flatnonzero(self.left != np.arange(len(self.left)))
        for _ in range(self.depth):
            steps[self.left[inner]] = steps[self.right[inner]] = steps[inner] + 1
        return np.asarray(np.maximum.reduceat(steps, self.roots) if len(self.roots) else steps[:0])

    def stages(self, features: np.ndarray) -> np.ndarray:
        """Sums of the first 0, 1, 2, … trees, ``[n, n_trees + 1]``, eV."""
        steps = [np.full(len(features), self.start_ev)]
        steps += [self.leaf_ev[self._leaves(features, root)] for root in self.roots]
        return np.cumsum(np.stack(steps, axis=1), axis=1)

    def first(self, n_trees: int) -> Trees:
        """The first trees alone."""
        end = self.roots[n_trees] if n_trees < len(self.roots) else len(self.feature)
        cut = (self.feature[:end], self.left[:end], self.right[:end], self.threshold[:end], self.leaf_ev[:end])
        return Trees(self.start_ev, self.roots[:n_trees], *cut, self.depth)

    def _leaves(self, features: np.ndarray, root: int) -> np.ndarray:
        rows = np.arange(len(features))
        node = np.full(len(features), root)
        for _ in range(self.depth):
            goes_left = features[rows, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        return node


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """A fitted sum of trees."""

    spec: BarrierSpec
    settings: BoostedTreesSettings
    calibration: Calibration
    trees: Trees
    base: Ridge | None = None

    def predict(self, hops: Hops) -> BarrierPrediction:
        """See :class:`~.base.BarrierModel`."""
        lattice = hop_lattice(self.spec.phase, self.settings.n_shells)
        found = occupations(hops, lattice, self.spec.elements)
        mean = np.empty(len(hops))
        for part in np.array_split(np.arange(len(hops)), 1 + len(hops) // _CHUNK):
            shown = site_features(self.settings.features, found.take(part), lattice, len(self.spec.elements))
            mean[part] = self.trees.values(shown)
        if self.base is not None:
            mean += self.base.predict(hops).mean_ev
        return BarrierPrediction(mean, self.calibration.std_ev(np.zeros(len(mean))))

    def state(self) -> SurrogateState:
        """See :class:`~.base.BarrierModel`."""
        names = ("roots", "feature", "left", "right", "threshold", "leaf_ev")
        state = SurrogateState(
            KIND,
            {
                "spec": self.spec.as_settings(),
                "settings": self.settings.model_dump(mode="json"),
                "calibration": [self.calibration.floor_ev, self.calibration.factor],
                "start_ev": self.trees.start_ev,
                "depth": self.trees.depth,
            },
            {name: getattr(self.trees, name) for name in names},
        )
        return with_base(state, self.base)

    @classmethod
    def from_state(cls, state: SurrogateState) -> BoostedTrees:
        """The inverse of :meth:`state`.

        Raises:
            SurrogateError: something is missing.
        """
        names = ("roots", "feature", "left", "right", "threshold", "leaf_ev")
        try:
            arrays = {name: state.arrays[name] for name in names}
            trees = Trees(start_ev=state.settings["start_ev"], depth=state.settings["depth"], **arrays)
            return cls(
                BarrierSpec.from_settings(state.settings["spec"]),
                BoostedTreesSettings.model_validate(state.settings["settings"]),
                Calibration(*state.settings["calibration"]),
                trees,
                base_of(state),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SurrogateError(f"the trees' state is incomplete ({error!r}); fit them again") from error


def _features(settings: BoostedTreesSettings, spec: BarrierSpec, hops: Hops) -> np.ndarray:
    lattice = hop_lattice(spec.phase, settings.n_shells)
    found = occupations(hops, lattice, spec.elements)
    return site_features(settings.features, found, lattice, len(spec.elements))
