"""`alloysmith pipeline`: from random alloys to optimized ones by crystal generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..pipeline.config import load_pipeline_config
from ..pipeline.pipeline import run_pipeline
from ..pipeline.results import Findings, best_line, table_3_cells
from ..pipeline.site import PipelineFiles, Stage
from ..texts import unit_of
from .arguments import ConfigArgument, SetOption, find_config
from .console import notes, output


def pipeline(
    config: ConfigArgument,
    run_dir: Annotated[Path, typer.Option("--run-dir", metavar="DIR", help="Folder of the pipeline.")],
    overrides: SetOption = None,
) -> None:
    """Make data, train crystal generators on it, optimize with them.

    Random orderings of many compositions are labelled and divided into training, validation and test; a share of them
    is improved by local search. One model (P-CDVAE) learns from the random orderings, another from these and the
    improved ones. The latent vectors of the test structures are optimized; structures drawn on the way are screened by
    their energy, relaxed and labelled. It prints, by model and step, how many of them count, their mean, best ten and
    best, and the mean of the same atoms in random order.

    DIR then holds the structures of each stage, the models, table3 and table_a1 (.csv, .md) and report.html. The same
    command goes on with a pipeline that was interrupted or killed, and ends with the same files.

    Example: alloysmith pipeline nifecr_pipeline_small --run-dir runs/small

    Example: alloysmith pipeline nifecr_pipeline --run-dir runs/pipeline
    """
    settings = load_pipeline_config(find_config(config), overrides or ())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, TimeElapsedColumn(), console=notes(), transient=True) as progress:
        bar = progress.add_task("reading", total=None, detail="")

        def show(stage: Stage, detail: str) -> None:
            progress.update(bar, description=f"{stage}:", detail=detail)

        def show_stage(text: str) -> None:
            progress.console.print(text, markup=False)

        end = run_pipeline(settings, run_dir, on_progress=show, on_stage=show_stage)
    if end.findings is None:
        notes().print(f"{end.reason}: {end.message}; the same command goes on", markup=False)
        raise typer.Exit(end.exit_code)
    files = PipelineFiles(run_dir)
    output().print(_table(end.findings))
    calls = end.findings.calls
    output().print(
        f"labels: {calls['random']:,} of random orderings, {calls['local_search']:,} in local searches, "
        f"{calls['drafts']:,} of what was drawn, {calls['shuffled']:,} of the same atoms in random order; besides "
        f"{end.findings.n_single_points:,} energies without relaxation",
        markup=False,
    )
    output().print(f"wrote {files.table_3}.csv, {files.table_a1}.csv and {files.report}", markup=False)
    output().print(best_line(end.findings, unit_of(settings.objective.property)), markup=False)


def _table(findings: Findings) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    unit = unit_of(findings.config.objective.property)
    for name in ("model", "optimization"):
        table.add_column(name, overflow="fold")
    for name in ("step", "drawn", "count", "in phase", f"mean {unit}", "best ten", "best", "shuffled"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in table_3_cells(findings)[1:]:
        table.add_row(*row)
    return table
