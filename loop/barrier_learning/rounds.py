"""What a learning of barriers leaves in its run directory.

```
RUN/config.json            the resolved configuration
RUN/alloys.extxyz          the perfect crystals of the pool
RUN/pool.csv               its hops
RUN/labels.journal         every label, as it came
RUN/barriers.csv           all barriers so far, as `alloysmith fit` reads them
RUN/model.safetensors      the result so far
RUN/rounds/0003/chosen.json             which hops of the pool were chosen
RUN/rounds/0003/labelled.json           their rows of the table
RUN/rounds/0003/member-01.safetensors   members of the committee, checkpoints (*.training): until all are trained
RUN/rounds/0003/model.safetensors       what all labels of this and the earlier rounds have taught
RUN/rounds/0003/spectrum.npy            barriers that it predicts for the hops that are followed, eV
RUN/rounds/0003/seconds.json            wall time by stage, so far
RUN/rounds/0003/record.json             the round in figures
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import orjson

from ..errors import RunDirectoryError
from ..rounds.files import Folder, read_round_records, record_json

MODEL_NAME = "model.safetensors"
TABLE_NAME = "barriers.csv"
NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class BarrierRound:
    """A round in figures.

    Attributes:
        index: from 0; round 0 labels the first hops.
        n_labels: hops with barriers that the model of this round has learnt from.
        n_validation: hops with barriers that are never learnt from.
        n_chosen, n_failed: hops of this round that were sent to the oracle, and those without a barrier.
        failures: why, by kind of failure -> how many of them.
        errors: of this round's model on the validation hops: ``mae_ev``, ``rmse_ev``, ``r2``, ``within_1_std`` (share).
        species_mae_ev: its mean absolute error there, by moving species.
        new_errors: of the model of the round before on this round's new hops: ``mae_ev``, and ``expected_mae_ev``, what
            its spread lets expect.
        distances_ev: by moving species, how far the predicted spectrum has moved since the round before.
        means_ev, widths_ev: by moving species, mean and standard deviation of the predicted spectrum.
        seconds: wall time by stage.
    """

    index: int
    n_labels: int
    n_validation: int
    n_chosen: int
    n_failed: int
    failures: Mapping[str, int]
    errors: Mapping[str, float]
    species_mae_ev: Mapping[str, float]
    new_errors: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    distances_ev: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    means_ev: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    widths_ev: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    seconds: Mapping[str, float] = field(default_factory=lambda: NOTHING)

    def as_json(self) -> bytes:
        """The record as it is stored."""
        return record_json(self)

    @classmethod
    def from_json(cls, content: bytes, path: Path) -> BarrierRound:
        """The inverse of :meth:`as_json`.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        try:
            return cls(**orjson.loads(content))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise RunDirectoryError(f"{path} is damaged ({error}); restore it, or remove its round's folder") from error


class BarrierFolder(Folder):
    """The files of one round."""

    def __init__(self, run_dir: Path, index: int) -> None:
        super().__init__(run_dir, index)
        self.chosen = self.path / "chosen.json"
        self.labelled = self.path / "labelled.json"
        self.model = self.path / MODEL_NAME
        self.spectrum = self.path / "spectrum.npy"


def read_barrier_rounds(run_dir: Path) -> list[BarrierRound]:
    """Records of all rounds that are done, in order.

    Raises:
        RunDirectoryError: a record is damaged or a round is missing.
    """
    return read_round_records(run_dir, BarrierRound.from_json)
