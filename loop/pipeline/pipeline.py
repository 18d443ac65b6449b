"""A pipeline from its first structure to its tables, in stages each of which leaves whole files.

A stage is a function of the files before it and of seeds by position. What was finished is not done again, so that a
killed pipeline goes on with the same command and ends with the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...generators.screening import FAULT
from ...structures.files import read_structures
from ..report.build import write_page
from ..report.pipeline import pipeline_report
from ..rounds.endings import Ending, EndReason, Limits
from ..rounds.files import CONFIG_NAME, put
from ..rounds.learning import occupied
from .config import PipelineConfig
from .data import CALLS, make_random_orderings, search_locally
from .generation import draw_drafts, train_models
from .jobs import PipelineRunner
from .results import Findings, read_findings, write_tables
from .screening import label_drafts
from .site import SPLIT, Labellers, OnProgress, PipelineFiles, Site, Stage

OnStage = Callable[[str], None]
"""Told, in a line, what a stage has ended with."""


@dataclass(frozen=True)
class PipelineEnd:
    """How a session ended.

    Attributes:
        findings: of a pipeline that was brought to its end.
        reason: why it was not; empty otherwise.
        exit_code: for the shell; 0 where it was brought to its end.
    """

    findings: Findings | None
    reason: EndReason | None = None
    message: str = ""
    exit_code: int = 0


def run_pipeline(
    config: PipelineConfig,
    run_dir: Path,
    *,
    on_progress: OnProgress | None = None,
    on_stage: OnStage | None = None,
) -> PipelineEnd:
    """Begin a pipeline in a new run directory, or go on with the one that is there.

    Args:
        on_progress: told what is going on.
        on_stage: told what each stage has ended with.

    Raises:
        RunDirectoryError: the folder holds something else, a pipeline of another configuration, or cannot be written.
        StructureError: compositions or labels that cannot be learnt from.
        LearningError: a training failed.
        ExecutorError: no worker can be started, or there is no such cluster.
    """
    files, execution = PipelineFiles(run_dir), config.execution
    place = occupied(
        run_dir,
        config,
        execution,
        PipelineRunner,
        execution.job_deadline_s,
        called="pipeline",
        may_change="name and execution",
    )
    with place as (crew, signals), closing(Labellers(config)) as labellers:
        put(run_dir / CONFIG_NAME, config.model_dump_json(indent=2).encode())
        site = Site(config, files, crew, labellers, Limits(None, signals, 0.0), on_progress or _silent)
        try:
            for do, about in _STAGES:
                site.limits.check()
                do(site)
                if on_stage is not None:
                    on_stage(about(site))
        except Ending as end:
            return PipelineEnd(None, end.reason, str(end), end.exit_code)
        findings = read_findings(files, config)
        write_tables(findings, files)
        write_page(pipeline_report(findings, run_dir), files.report)
        files.clear()
    return PipelineEnd(findings)


def _about_random(site: Site) -> str:
    rows = read_structures(site.files.random)
    n_of = {split: sum(row.info.get(SPLIT) == split for row in rows) for split in ("train", "validation", "test")}
    parts = ", ".join(f"{n:,} {split}" for split, n in n_of.items())
    failed = len(rows) - sum(n_of.values())
    return f"random orderings: {len(rows):,} labels, {failed:,} failed; {parts}"


def _about_search(site: Site) -> str:
    rows = read_structures(site.files.local_search)
    return f"local search: {len(rows):,} structures improved with {sum(int(row.info[CALLS]) for row in rows):,} labels"


def _about_models(site: Site) -> str:
    return f"models: {', '.join(site.config.models)}"


def _about_drafts(site: Site) -> str:
    return f"drawn: {len(read_structures(site.files.drafts)):,} structures"


def _about_labels(site: Site) -> str:
    rows = read_structures(site.files.labelled_drafts)
    return f"labelled: {sum(FAULT not in row.info for row in rows):,} of {len(rows):,} drawn structures count"


_STAGES: tuple[tuple[Callable[[Site], None], Callable[[Site], str]], ...] = (
    (make_random_orderings, _about_random),
    (search_locally, _about_search),
    (train_models, _about_models),
    (draw_drafts, _about_drafts),
    (label_drafts, _about_labels),
)


def _silent(stage: Stage, detail: str) -> None:
    """Progress that nobody follows."""
