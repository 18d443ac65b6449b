"""Sums over frames, made here or by workers that each hold a part of the frames and a copy of the model.

Nothing else of the frames is needed to train: sums of squared residuals, gradients, normal equations. Those of workers
are added up in their order, so that a result depends on their number only in rounding, and not on which is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .batches import LabelledFrames
from .loss import LabelledBatch

if TYPE_CHECKING:
    from .objective import Counts, Objective
    from .shard import Shard

Sums = tuple[Tensor, ...]
Summand = Callable[..., Sums]
"""``summand(objective, parts, *arguments)`` sums over batches. A function of a module, which workers find by its name;
arguments are plain numbers and names."""


@dataclass(frozen=True)
class Share:
    """What one worker is asked for.

    Attributes:
        summand: see :data:`Summand`.
        parameters: ``[n_parameters]``, of the model.
        is_validation: whether it is about the worker's frames of the validation instead of those of the training.
        order: int64, which of the worker's frames, in this order.
        max_frames, max_pairs: of each batch.
        is_kept: whether the batches will be wanted again.
        arguments: of the summand.
    """

    summand: Summand
    parameters: np.ndarray
    is_validation: bool
    order: np.ndarray
    max_frames: int | None
    max_pairs: int
    is_kept: bool
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class ShareSums:
    """What a worker answers: its sums and the CPU time they took."""

    sums: tuple[np.ndarray, ...]
    cpu_s: float


class FrameWorkers(Protocol):
    """Workers that hold shards of the frames; the owner closes them.

    Attributes:
        n_workers: how many.
        cpu_s: CPU time of all answers so far.
    """

    n_workers: int
    cpu_s: float

    def hold(self, shards: Sequence[Shard]) -> None:
        """Give each worker a shard, in place of an earlier one."""
        ...

    def answers(self, shares: Sequence[Share | None]) -> list[ShareSums | None]:
        """Ask the workers all at once; ``None`` asks nothing. A worker that dies is replaced, and asked again.

        Raises:
            SurrogateError: what a worker raised.
            ExecutorError: workers die again and again.
        """
        ...


@dataclass(frozen=True)
class SpreadParts:
    """Frames of a step that lie with workers.

    Attributes:
        workers: who has them.
        places: of each worker, which of its frames.
        order: int64, the same frames as the driver counts them, worker after worker.
        counts: number of known energies, force components and virial components.
        is_validation, max_frames, max_pairs, is_kept: see :class:`Share`.
    """

    workers: FrameWorkers
    places: tuple[np.ndarray, ...]
    order: np.ndarray
    counts: Counts
    is_validation: bool
    max_frames: int | None
    max_pairs: int
    is_kept: bool

    def answers(self, summand: Summand, objective: Objective, *arguments: Any) -> list[Sums]:
        """The sums of each worker that has any of the frames, in the order of the workers."""
        flat = objective.parameters()
        sent = flat.cpu().numpy()
        shares = [
            Share(
                summand,
                sent,
                self.is_validation,
                places,
                self.max_frames,
                self.max_pairs,
                self.is_kept,
                arguments,
            )
            if len(places)
            else None
            for places in self.places
        ]
        found = [answer for answer in self.workers.answers(shares) if answer is not None]
        return [tuple(torch.tensor(array, device=flat.device) for array in answer.sums) for answer in found]


Parts = Collection[LabelledBatch] | SpreadParts
"""The frames of a step: batches, or frames that lie with workers."""


def summed(
    summand: Summand, objective: Objective, parts: Iterable[LabelledBatch] | SpreadParts, *arguments: Any
) -> Sums:
    """Sums over some frames, wherever they are."""
    first, *others = each(summand, objective, parts, *arguments)
    for other in others:
        first = tuple(a + b for a, b in zip(first, other, strict=True))
    return first


def each(
    summand: Summand, objective: Objective, parts: Iterable[LabelledBatch] | SpreadParts, *arguments: Any
) -> list[Sums]:
    """The sums of each place where frames are."""
    if isinstance(parts, SpreadParts):
        return parts.answers(summand, objective, *arguments)
    return [summand(objective, parts, *arguments)]


class SpreadFrames:
    """Frames whose sums are made by workers.

    Args:
        data: all frames.
        workers: who has them.
        owners: int64 ``[n_frames]``, the worker of each frame.
        is_validation: see :class:`Share`.
    """

    def __init__(
        self, data: LabelledFrames, workers: FrameWorkers, owners: np.ndarray, *, is_validation: bool = False
    ) -> None:
        self.data = data
        self._workers = workers
        self._owners = owners
        self._is_validation = is_validation
        self._places = np.zeros(len(data), dtype=np.int64)
        for worker in range(workers.n_workers):
            members = self.members(worker)
            self._places[members] = np.arange(len(members))

    def members(self, worker: int) -> np.ndarray:
        """The frames of a worker, int64."""
        return np.flatnonzero(self._owners == worker)

    def parts(
        self, order: Sequence[int] | np.ndarray, max_frames: int | None, max_pairs: int, *, is_kept: bool = False
    ) -> SpreadParts:
        """Frames in this order, in batches of at most so many frames and pairs of one worker."""
        chosen = np.asarray(order, dtype=np.int64)
        by_worker = [chosen[self._owners[chosen] == worker] for worker in range(self._workers.n_workers)]
        members = np.concatenate(by_worker)
        return SpreadParts(
            self._workers,
            tuple(self._places[part] for part in by_worker),
            members,
            self.data.counts(members),
            self._is_validation,
            max_frames,
            max_pairs,
            is_kept,
        )


def dealt(n_pairs: np.ndarray, steps: Sequence[np.ndarray], n_workers: int) -> np.ndarray:
    """Deal frames to workers so that each has about the same number of pairs in each step.

    The largest frames go first, each to the worker that has the fewest pairs of this step, and of all steps among such.

    Args:
        n_pairs: int64 ``[n_frames]``.
        steps: frames of each step; each frame is in one.

    Returns:
        The worker of each frame, int64 ``[n_frames]``.
    """
    owners = np.zeros(len(n_pairs), dtype=np.int64)
    in_all = np.zeros(n_workers, dtype=np.int64)
    for frames in steps:
        in_step = np.zeros(n_workers, dtype=np.int64)
        for k in sorted(frames.tolist(), key=lambda k: (-int(n_pairs[k]), k)):
            owner = int(np.lexsort((in_all, in_step))[0])
            owners[k] = owner
            # a frame without any pair is work as well
            in_step[owner] += int(n_pairs[k]) + 1
            in_all[owner] += int(n_pairs[k]) + 1
    return owners
