"""A worker's part of a training: some of the frames, their neighbours, and a copy of the model on its device."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .batches import Batches, LabelledFrames
from .frame_sums import FrameWorkers, Share, ShareSums, SpreadFrames, dealt
from .freed_memory import keep_freed_memory
from .model import PotentialModel
from .objective import Objective
from .training_settings import TrainingSettings

_Key = tuple[bool, bytes, int | None, int]
"""What tells the frames of one share, and how they are cut into batches, from those of another."""


@dataclass(frozen=True)
class Shard:
    """What a worker needs to begin; picklable, and opened anew where a worker was replaced.

    Attributes:
        model: on the CPU; never changed.
        training, validation: frames, perhaps none.
        settings: of the training.
    """

    model: PotentialModel
    training: LabelledFrames
    validation: LabelledFrames
    settings: TrainingSettings


class ShardHolder:
    """A shard at work.

    Raises:
        ConfigError: the device is not there.
    """

    def __init__(self, shard: Shard) -> None:
        settings = shard.settings
        torch.set_num_threads(settings.n_threads)
        keep_freed_memory()
        self._device = settings.torch_device()
        model = copy.deepcopy(shard.model).to(device=self._device, dtype=settings.torch_dtype())
        self._objective = Objective(model, (), settings.loss)
        self._training, self._validation = shard.training.on(self._device), shard.validation.on(self._device)
        self._kept: dict[_Key, Batches] = {}
        self._bytes_left = settings.max_cache_mib * 2**20
        self._at: tuple[_Key, bytes] | None = None

    def sums(self, share: Share) -> ShareSums:
        """The sums that are asked for."""
        began_s = time.process_time()
        key = (share.is_validation, share.order.tobytes(), share.max_frames, share.max_pairs)
        at = (key, share.parameters.tobytes())
        if at != self._at:  # else sums that the objective keeps are of these parameters and frames
            self._objective.assign(torch.from_numpy(share.parameters.copy()).to(self._device))
            self._objective.forget()
            self._at = at
        parts = self._parts(share, key)
        sums = share.summand(self._objective, parts, *share.arguments)
        if share.is_kept and key not in self._kept:
            self._kept[key] = parts
            self._bytes_left -= parts.n_bytes
        arrays = tuple(tensor.detach().cpu().numpy() for tensor in sums)
        return ShareSums(arrays, time.process_time() - began_s)

    def _parts(self, share: Share, key: _Key) -> Batches:
        found = self._kept.get(key)
        if share.is_kept and found is not None:
            return found
        data = self._validation if share.is_validation else self._training
        parts = data.partition(share.order, share.max_frames, share.max_pairs)
        return Batches(data, parts, max_bytes=self._bytes_left if share.is_kept else 0)


def spread(
    model: PotentialModel,
    training: LabelledFrames,
    steps: Sequence[np.ndarray],
    validation: LabelledFrames,
    settings: TrainingSettings,
    workers: FrameWorkers,
) -> tuple[SpreadFrames, SpreadFrames]:
    """Give each worker its shard.

    Args:
        training, validation: frames; the same object where the training frames are those of the validation.
        steps: frames of each step of an epoch.

    Returns:
        The frames of the training and those of the validation, as they lie with the workers.

    Raises:
        AlloysmithError: workers cannot be started.
    """
    of_training = SpreadFrames(training, workers, dealt(training.n_pairs, steps, workers.n_workers))
    of_validation = of_training
    if validation is not training:
        owners = dealt(validation.n_pairs, [np.arange(len(validation))], workers.n_workers)
        of_validation = SpreadFrames(validation, workers, owners, is_validation=True)
    held = copy.deepcopy(model).to("cpu")  # a worker may have no GPU, or another one
    nothing = training.taken(np.zeros(0, dtype=np.int64))
    workers.hold(
        [
            Shard(
                held,
                training.taken(of_training.members(k)),
                nothing if validation is training else validation.taken(of_validation.members(k)),
                settings,
            )
            for k in range(workers.n_workers)
        ]
    )
    return of_training, of_validation
