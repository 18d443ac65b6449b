"""What a learning knows: all labels so far, those for tests apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ...surrogates.potentials.environments import environment_features
from ...surrogates.potentials.frame import Frame
from ...surrogates.potentials.frame_split import split_frames
from ...surrogates.potentials.frames import load_frames
from ..seeding import derive_seed
from .config import LearningConfig
from .labelled import read_labelled
from .rounds import RoundFolder


class Knowledge:
    """Labels, in the order in which they came.

    Attributes:
        frames: what may be learnt from.
        tests: what is never learnt from.
    """

    def __init__(self, config: LearningConfig) -> None:
        self.frames: list[Frame] = []
        self.tests: list[Frame] = []
        self._elements = config.system.elements
        self._cutoff_ang = config.potential.cutoff_ang
        self._features = np.zeros((0, 0))
        if config.data is not None:
            found = load_frames(config.data, self._elements)
            whole = config.data.model_copy(update={"validation_fraction": 0.0})
            parts = split_frames(found, whole, seed=derive_seed(config.seed, 0, "data"))
            self.frames += parts.train
            self.tests += parts.test

    def take_in(self, folder: RoundFolder, index: int) -> list[Frame]:
        """Take in the labels of a round, if there are any; return those that may be learnt from."""
        if not folder.labelled.exists():
            return []
        new, tests = read_labelled(folder.labelled, f"round {index}")
        self.frames += new
        self.tests += tests
        return new

    def features_of(self, structures: Sequence[Atoms]) -> np.ndarray:
        """Environments of structures, ``[n_structures, n_features]``."""
        return environment_features(structures, self._elements, self._cutoff_ang)

    def features(self) -> np.ndarray:
        """Environments of :attr:`frames`, each computed once, ``[n_frames, n_features]``."""
        n = len(self._features)
        if n < len(self.frames):
            new = self.features_of([frame.atoms for frame in self.frames[n:]])
            self._features = np.concatenate([self._features, new]) if n else new
        return self._features
