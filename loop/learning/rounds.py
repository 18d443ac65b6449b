"""What the learning of a potential leaves in its run directory.

```
RUN/config.json            the resolved configuration
RUN/labels.journal         every label, as it came
RUN/rounds/0003/trial-01.json, .training   settings that were tried: until all are
RUN/rounds/0003/search.json             what a search of the settings found, where there was one
RUN/rounds/0003/member-01.safetensors   members of the committee, checkpoints (*.training): until all are trained
RUN/rounds/0003/committee.safetensors   what was known at the beginning of the round
RUN/rounds/0003/run-002.extxyz, .json   what a run visited: until all have ended
RUN/rounds/0003/visited.extxyz, .json   what exploration visited, with deviations
RUN/rounds/0003/chosen.extxyz           what was chosen of it
RUN/rounds/0003/labelled.extxyz         labels of these
RUN/rounds/0003/seconds.json            wall time by stage, so far
RUN/rounds/0003/record.json             the round in figures
RUN/potential.safetensors               the result so far
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
from .search import SettingsSearch

POTENTIAL_NAME = "potential.safetensors"


@dataclass(frozen=True)
class RoundRecord:
    """A round in figures.

    Attributes:
        index: from 0; round 0 labels the first structures.
        n_labels: labels after the round, those of test structures not counted.
        n_test: labels that are never learnt from.
        n_chosen, n_failed: structures of this round that were sent to the oracle, and those without a label.
        n_visited: structures that exploration visited.
        n_explosions: runs of it that ended early.
        n_md_steps: steps of it.
        shares: of the visited structures, by band: accurate, candidate, failed.
        scale: true error over deviation, as calibrated before the choice.
        new_errors: errors of the result at the beginning of the round on the round's labels, test structures apart,
            before they were learnt: ``energy_mae_mev`` (per atom), ``force_mae_ev_ang`` and ``force_rmse_ev_ang`` (of
            components), ``force_max_ev_ang`` (largest norm).
        test_errors: the same on the test structures of the rounds before.
        train_errors: the first three on what it had learnt from.
        seconds: wall time by stage.
        calibration: the committee's deviation, and the largest force error of its mean, of each new label, eV/Å.
        search: of settings, at the beginning of the round; ``None`` where there was none.
        failures: trainings and runs that missed their deadline or failed otherwise, each with its reason.
    """

    index: int
    n_labels: int
    n_test: int
    n_chosen: int
    n_failed: int
    n_visited: int = 0
    n_explosions: int = 0
    n_md_steps: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    scale: float = 1.0
    new_errors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    test_errors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    train_errors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    calibration: tuple[tuple[float, float], ...] = ()
    search: SettingsSearch | None = None
    failures: tuple[str, ...] = ()

    def as_json(self) -> bytes:
        """The record as it is stored."""
        return record_json(self)

    @classmethod
    def from_json(cls, content: bytes, path: Path) -> RoundRecord:
        """The inverse of :meth:`as_json`.

        Raises:
            RunDirectoryError: the file is damaged.
        """
        try:
            plain = orjson.loads(content)
            search = plain.get("search")
            parts = {
                "calibration": tuple((float(a), float(b)) for a, b in plain["calibration"]),
                "search": None if search is None else SettingsSearch.from_plain(search),
                "failures": tuple(plain.get("failures", ())),
            }
            return cls(**{**plain, **parts})
        except (orjson.JSONDecodeError, TypeError, KeyError, ValueError) as error:
            raise RunDirectoryError(f"{path} is damaged ({error}); restore it, or remove its round's folder") from error


@dataclass(frozen=True)
class RunFiles:
    """Where what runs of exploration visited is kept.

    Attributes:
        structures: is there when all is.
        facts: counts and explosions.
    """

    structures: Path
    facts: Path

    def is_whole(self) -> bool:
        """Whether all is there."""
        return self.structures.exists()

    def remove(self) -> None:
        """Remove them, if they are there."""
        for path in (self.structures, self.facts):
            path.unlink(missing_ok=True)


class RoundFolder(Folder):
    """The files of one round."""

    def __init__(self, run_dir: Path, index: int) -> None:
        super().__init__(run_dir, index)
        self.search = self.path / "search.json"
        self.committee = self.path / "committee.safetensors"
        self.explored = RunFiles(self.path / "visited.extxyz", self.path / "visited.json")
        self.chosen = self.path / "chosen.extxyz"
        self.labelled = self.path / "labelled.extxyz"

    def trial(self, name: str) -> Path:
        """Settings that were tried, until all have been."""
        return self.path / f"trial-{name}.json"

    def trial_checkpoint(self, name: str) -> Path:
        """The training with settings that are tried."""
        return self.path / f"trial-{name}.training"

    def run(self, which: int) -> RunFiles:
        """What a run of exploration visited, until all have ended."""
        return RunFiles(self.path / f"run-{which:03d}.extxyz", self.path / f"run-{which:03d}.json")


def read_records(run_dir: Path) -> list[RoundRecord]:
    """Records of all rounds that are done, in order.

    Raises:
        RunDirectoryError: a record is damaged or a round is missing.
    """
    return read_round_records(run_dir, RoundRecord.from_json)
