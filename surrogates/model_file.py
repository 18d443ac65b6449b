"""One file a fitted surrogate: safetensors, whose metadata holds the settings as JSON and a checksum of everything.

The metadata is a single entry: safetensors writes several in random order, and equal models must be equal files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import orjson
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..structures.whole_file import write_whole
from .base import SurrogateError, SurrogateState

FORMAT = "alloysmith-surrogate"
VERSION = "1"


def dump_state(state: SurrogateState) -> bytes:
    """The content of a model file; equal states give equal bytes."""
    settings = orjson.dumps(dict(state.settings), option=orjson.OPT_SORT_KEYS).decode()
    arrays = {name: np.ascontiguousarray(state.arrays[name]) for name in sorted(state.arrays)}
    head = {
        "version": VERSION,
        "kind": state.kind,
        "settings": settings,
        "checksum": _checksum(state.kind, settings, arrays),
    }
    metadata = {FORMAT: orjson.dumps(head, option=orjson.OPT_SORT_KEYS).decode()}
    return save(arrays, metadata)


def save_state(state: SurrogateState, path: Path) -> None:
    """Write a model file.

    Raises:
        SurrogateError: the file cannot be written.
    """
    try:
        write_whole(path, dump_state(state))
    except OSError as error:
        raise SurrogateError(f"cannot write the model file {path}: {error.strerror or error}") from error


def load_state(path: Path) -> SurrogateState:
    """Read a model file.

    Raises:
        SurrogateError: the file is missing, damaged, or not a model file of a version known here.
    """
    if not path.is_file():
        raise SurrogateError(f"there is no model file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        raise SurrogateError(f"{path} is damaged or not a model file ({error}); fit the model again") from error
    if FORMAT not in metadata:
        raise SurrogateError(f"{path} holds arrays but no surrogate; write one with `alloysmith fit`")
    try:
        head = orjson.loads(metadata[FORMAT])
        if head["version"] != VERSION:
            raise SurrogateError(
                f"{path} has version {head['version']} of the format, this program reads {VERSION}; fit the model again"
            )
        found = _checksum(head["kind"], head["settings"], arrays)
        if found != head["checksum"]:
            raise SurrogateError(f"{path} is damaged: checksum {found}, expected {head['checksum']}; fit it again")
        return SurrogateState(head["kind"], orjson.loads(head["settings"]), arrays)
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise SurrogateError(f"{path} is damaged: its metadata is incomplete ({error!r}); fit it again") from error


def _checksum(kind: str, settings: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(f"{kind}\0{settings}".encode(), digest_size=16)
    for name, array in arrays.items():
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
