"""Random parts of labelled data: to learn from, to decide when to stop, and to test with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...structures.base import structure_id
from ..base import SurrogateError
from .data_settings import DataSettings
from .frame import Frame
from .frames import FrameSet


@dataclass(frozen=True)
class FrameSplit:
    """Parts of a frame set, each in the order of the files.

    Attributes:
        train_rows, validation_rows, test_rows: indices into ``frames`` of the set. Without test rows, the test
            frames are those of test files.
    """

    train: tuple[Frame, ...]
    validation: tuple[Frame, ...]
    test: tuple[Frame, ...]
    train_rows: tuple[int, ...]
    validation_rows: tuple[int, ...]
    test_rows: tuple[int, ...]


def split_frames(data: FrameSet, settings: DataSettings, *, seed: int) -> FrameSplit:
    """Set test and validation frames aside at random; the same seed and data give the same parts.

    Frames of the same structure stay together, so that none is learned from and tested.

    Raises:
        SurrogateError: nothing is left to learn from.
    """
    frames = data.frames
    units = _units(frames, by_group=settings.stratify_by_group)
    rng = np.random.default_rng(seed)
    shuffled = [[unit[k] for k in rng.permutation(len(unit))] for unit in units]
    test = _take(shuffled, round(settings.test_fraction * len(frames)))
    validation = _take(shuffled, round(settings.validation_fraction * len(frames)))
    train = sorted(set(range(len(frames))) - set(test) - set(validation))
    if not train:
        raise SurrogateError(
            f"of {len(frames)} frames, {len(test)} for tests and {len(validation)} for validation leave none to learn "
            "from; lower test_fraction or validation_fraction"
        )
    return FrameSplit(
        train=tuple(frames[k] for k in train),
        validation=tuple(frames[k] for k in validation),
        test=tuple(frames[k] for k in test) if test else data.test_frames,
        train_rows=tuple(train),
        validation_rows=tuple(validation),
        test_rows=tuple(test),
    )


def _units(frames: Sequence[Frame], *, by_group: bool) -> list[list[list[int]]]:
    """Rows of equal structure, for each stratum: ``units[stratum][structure][copy]``."""
    strata: dict[str, dict[str, list[int]]] = defaultdict(dict)
    home: dict[str, str] = {}  # copies in several groups follow the first
    for k, frame in enumerate(frames):
        identity = structure_id(frame.atoms)
        group = home.setdefault(identity, frame.group if by_group else "")
        strata[group].setdefault(identity, []).append(k)
    return [list(members.values()) for members in strata.values()]


def _take(strata: list[list[list[int]]], n_wanted: int) -> list[int]:
    """Take ``n_wanted`` rows off the ends of the strata, from each in proportion; fewer if copies do not fit."""
    sizes = np.array([sum(map(len, units)) for units in strata])
    quotas = _quotas(sizes, n_wanted)
    taken: list[int] = []
    for units, quota in zip(strata, quotas, strict=True):
        left = quota
        for k in reversed(range(len(units))):
            if left > 0 and len(units[k]) <= left:  # copies that are too many are left to the other parts
                left -= len(units[k])
                taken.extend(units.pop(k))
    return sorted(taken)


def _quotas(sizes: np.ndarray, n_wanted: int) -> list[int]:
    """Whole shares of ``n_wanted`` in proportion to the sizes, by largest remainders."""
    if sizes.sum() == 0:
        return [0] * len(sizes)
    exact = n_wanted * sizes / sizes.sum()
    whole = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: n_wanted - whole.sum()]] += 1
    return [int(n) for n in whole]
