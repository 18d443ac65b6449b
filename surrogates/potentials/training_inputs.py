"""Hashes of all that the weights of a training depend on, by which a checkpoint knows whose it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from .frame import Frame
from .model import PotentialModel
from .training_settings import CONTINUABLE, TrainingSettings


def hashes_of_inputs(
    model: PotentialModel,
    train: Sequence[Frame],
    validation: Sequence[Frame],
    settings: TrainingSettings,
    seed: int,
) -> dict[str, str]:
    """Hashes of all that the weights depend on; constraints are compared by their losses."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    free = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    chosen = {name: value for name, value in settings.model_dump(mode="json").items() if name not in CONTINUABLE}
    facts = {"model": dict(model.settings()), "elements": model.elements, "cutoff_ang": model.cutoff_ang, "free": free}
    return {
        "frames": _hash_of_frames(train),
        "validation frames": _hash_of_frames(validation),
        "settings": _hash_of(chosen),
        "model": _hash_of(facts),
        "first weights": _hash_of_arrays(arrays),
        "seed": str(seed),
    }


def _hash_of(value: Any) -> str:
    """Hash of a JSON-able value."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _hash_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{array.dtype.str}\0{np.shape(arrays[name])}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _hash_of_frames(frames: Sequence[Frame]) -> str:
    """Hash of structures and labels, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        parts = [frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array, frame.atoms.pbc]
        labels = [np.array(frame.energy_ev), *(x for x in (frame.forces, frame.stress) if x is not None)]
        head = f"{frame.group}\0{len(frame.atoms)}\0{frame.forces is None}\0{frame.stress is None}\0"
        digest.update(head.encode())
        for array in (*parts, *labels):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
