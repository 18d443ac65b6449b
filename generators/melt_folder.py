"""Melts that are done, a file each, until all are: a sampling that was killed goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ..structures.files import read_structures, write_structures
from ..structures.whole_file import write_whole
from .melt_sampling import Melt, MeltSamplingSettings, PlannedMelt, planned_melts

_FACTS = ("displacement_ang", "energy_correlation", "volume_ang3")
"""What is known of a melt beside its frames; in the info of its first one."""


class MeltFolder:
    """The finished melts of a sampling, each whole or absent, with its frames to the last bit.

    Args:
        path: the folder; made with the first melt.
        settings: what is sampled.
        fingerprint: of the force field. Melts of another one, or of other settings, stay unseen.
    """

    def __init__(self, path: Path, settings: MeltSamplingSettings, fingerprint: str) -> None:
        self.path = path
        self._settings = settings
        self._fingerprint = fingerprint

    def read(self) -> dict[tuple[int, int], Melt]:
        """The melts that are done, by place.

        Raises:
            StructureError: a file is damaged; without it its melt is made anew.
        """
        planned = planned_melts(self._settings)
        return {one.place: self._read(one) for one in planned if self._file(one).is_file()}

    def put(self, melt: Melt) -> None:
        """Keep a melt.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        frames = [melt.frames[0].copy(), *melt.frames[1:]]
        frames[0].info |= {name: getattr(melt, name) for name in _FACTS}
        self.path.mkdir(exist_ok=True)
        write_whole(self._file(melt), lambda scratch: write_structures(scratch, frames))

    def remove(self) -> None:
        """Remove the folder and all melts in it, those of other settings too."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, planned: PlannedMelt) -> Melt:
        frames = read_structures(self._file(planned))
        facts: Mapping[str, Any] = {name: float(frames[0].info.pop(name)) for name in _FACTS}
        return Melt(**vars(planned), frames=frames, **facts)

    def _file(self, planned: PlannedMelt) -> Path:
        plain = self._settings.model_dump(mode="json", exclude={"compositions", "test_compositions", "temperatures_k"})
        what = [self._fingerprint, plain, planned.place, planned.composition, planned.temperature_k]
        key = hashlib.blake2b(orjson.dumps(what, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
        return self.path / f"{planned.composition}-{planned.temperature_k:g}K-{key}.extxyz"
