"""What all stages of a pipeline work with: files that are each whole or absent, workers, labels, and who is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ase import Atoms

from ...generators.base import Failure
from ...oracles.base import Label
from ...oracles.settings import OracleSettings
from ...structures.base import Phase
from ...structures.files import read_structures
from ...structures.whole_file import remove_unfinished
from ..config import FailurePolicySettings
from ..execution.base import Executor
from ..execution.build import build_executor
from ..labelling import label_structures
from ..rounds.crew import Crew
from ..rounds.endings import Limits
from ..rounds.labels import all_results
from .config import ModelName, PipelineConfig

Stage = Literal[
    "random orderings", "local search", "training", "optimizing", "drawing", "screening", "labelling", "shuffling"
]
OnProgress = Callable[[Stage, str], None]
"""Called with the stage, and how far it is."""

SPLIT = "split"
"""In the info of data: ``train``, ``validation`` or ``test``; structures that could not be labelled have none."""

_POLICY = FailurePolicySettings(max_failed_fraction=1.0)
"""Structures that cannot be labelled are part of the result, however many; a broken oracle still ends it."""


class PipelineFiles:
    """The files of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.random = run_dir / "random.extxyz"
        self.local_search = run_dir / "local_search.extxyz"
        self.searching = run_dir / "local_search.partial.extxyz"
        self.models = run_dir / "models"
        self.drafts = run_dir / "drafts.extxyz"
        self.draft_parts = run_dir / "drafts"
        self.labelled_drafts = run_dir / "labelled_drafts.extxyz"
        self.table_3 = run_dir / "table3"
        self.table_a1 = run_dir / "table_a1"
        self.report = run_dir / "report.html"

    def journal(self, name: str) -> Path:
        """Labels of a stage that is under way."""
        return self.run_dir / f"{name}.journal"

    def model(self, name: ModelName) -> Path:
        """A trained model."""
        return self.models / f"{name}.safetensors"

    def model_facts(self, name: ModelName) -> Path:
        """How it was trained."""
        return self.models / f"{name}.json"

    def checkpoint(self, name: ModelName) -> Path:
        """A training that is under way."""
        return self.models / f"{name}.training"

    def clear(self) -> None:
        """Remove what stages left that were under way, in this session or in one that was killed."""
        shutil.rmtree(self.draft_parts, ignore_errors=True)
        for pattern in ("*.journal", self.searching.name, f"{self.models.name}/*.training*"):
            for path in self.run_dir.glob(pattern):
                path.unlink()
        remove_unfinished(self.run_dir)

    def data(self, name: ModelName, split: str) -> list[Atoms]:
        """The labelled structures that a model learns from, or another part of its data."""
        paths = [self.random] if name == "random" else [self.random, self.local_search]
        return [atoms for path in paths for atoms in read_structures(path) if atoms.info.get(SPLIT) == split]


class Labellers:
    """Workers that hold the configuration's oracle, from one labelling to the next."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._executor: Executor | None = None

    def get(self) -> Executor:
        """The executor, started if there is none.

        Raises:
            ExecutorError: no worker can be started.
        """
        if self._executor is None:
            self._executor = build_executor(self._config.execution, self._config.oracle.build)
        return self._executor

    def close(self) -> None:
        """End the workers; safe to call twice."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


@dataclass(frozen=True)
class Site:
    """A pipeline's place of work.

    Attributes:
        crew: workers for jobs; those and the labellers are never there at once.
    """

    config: PipelineConfig
    files: PipelineFiles
    crew: Crew
    labellers: Labellers
    limits: Limits
    on_progress: OnProgress

    def label(
        self,
        stage: Stage,
        oracle: OracleSettings,
        structures: Sequence[Atoms],
        phases: Sequence[Phase | None],
        journal: Path,
        *,
        prefix: str = "",
    ) -> list[Label | Failure]:
        """Label structures, none that the journal knows.

        Args:
            oracle: the configuration's, whose workers are kept, or another.
            prefix: of what is told.

        Raises:
            Ending: a signal, or the oracle is broken.
        """
        self.limits.check()

        def on_labels(n_ended: int, n_failed: int) -> None:
            failed = f", {n_failed} failed" if n_failed else ""
            self.on_progress(stage, f"{prefix}{n_ended:,} of {len(structures):,}{failed}")

        on_labels(0, 0)
        self.crew.close()
        is_kept = oracle == self.config.oracle
        if not is_kept:
            self.labellers.close()
        executor = self.labellers.get() if is_kept and structures else None
        execution = self.config.execution
        run = label_structures(
            oracle, structures, phases, journal, execution, on_progress=on_labels, policy=_POLICY, executor=executor
        )
        return all_results(run, self.limits)
