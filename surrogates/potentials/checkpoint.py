"""The state of a training in one file, from which it goes on bit by bit.

The file is written beside its place, synced, and renamed, so that a kill at any moment leaves either the old file or
the new one. It has the format of a model file: named arrays with a checksum over everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...structures.whole_file import write_whole
from ..base import SurrogateError, SurrogateState
from ..model_file import dump_state, load_state

KIND = "training"


@dataclass(frozen=True)
class Checkpoint:
    """A training at rest.

    Attributes:
        inputs: hash of each input by name (``data``, ``settings``, …); a training with other inputs is refused.
        facts: JSON-able facts: counts, names of the history's columns, why the training stopped.
        arrays: weights, the optimizer's memory, the random generator's state, the history.
    """

    inputs: Mapping[str, str]
    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint in place of the one that may be there.

    Raises:
        SurrogateError: the file cannot be written.
    """
    settings = {"inputs": dict(checkpoint.inputs), "facts": dict(checkpoint.facts)}
    content = dump_state(SurrogateState(KIND, settings, checkpoint.arrays))
    try:
        write_whole(path, content)
    except OSError as error:
        raise SurrogateError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error


def read_checkpoint(path: Path, inputs: Mapping[str, str]) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: an existing file.
        inputs: hashes of the inputs of the training that wants to go on.

    Raises:
        SurrogateError: the file is damaged, or belongs to a training with other inputs.
    """
    advice = "delete it to train from the start"
    try:
        state = load_state(path)
    except SurrogateError as error:
        raise SurrogateError(f"the checkpoint {path} cannot be used: {error}; {advice}") from error
    if state.kind != KIND:
        raise SurrogateError(f"{path} holds a {state.kind} and no checkpoint of a training; give another path")
    found, facts = state.settings.get("inputs", {}), state.settings.get("facts", {})
    differing = sorted(name for name in {*inputs, *found} if inputs.get(name) != found.get(name))
    if differing:
        raise SurrogateError(
            f"the checkpoint {path} is of a training with other {', '.join(differing)}; give these as they were, "
            f"choose another path, or {advice}"
        )
    return Checkpoint(found, facts, state.arrays)
