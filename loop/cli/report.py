"""`alloysmith report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import ConfigError
from ..barrier_learning.pool import POOL_NAME
from ..report.barrier_learning import barrier_learning_report
from ..report.build import write_page, write_report
from ..report.learning import is_learning, learning_report
from ..report.pipeline import is_pipeline, pipeline_report, read_pipeline
from .arguments import RunDirArgument
from .console import output


def report(
    run_dir: RunDirArgument,
    path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; DIR/report.html if left out.")
    ] = None,
    baselines: Annotated[
        list[Path] | None,
        typer.Option("--baseline", "-b", metavar="DIR", help="A run directory to draw beside it; may be repeated."),
    ] = None,
) -> None:
    """Write a campaign's report, one HTML file that works offline.

    Also that of a learning (`alloysmith learn`): errors, and of potentials exploration and the committee's calibration,
    of barriers spectra and parity. And that of a pipeline (`alloysmith pipeline`).

    Runs whose configurations have the same name are drawn together, as median and range.

    Example: alloysmith report runs/first -o first.html --baseline runs/random-1 --baseline runs/random-2
    """
    target = path if path is not None else run_dir / "report.html"
    if is_learning(run_dir):
        if baselines:
            raise ConfigError(f"{run_dir} is a learning, which has no baselines; leave --baseline out")
        is_of_barriers = (run_dir / POOL_NAME).is_file()
        write_page(barrier_learning_report(run_dir) if is_of_barriers else learning_report(run_dir), target)
    elif is_pipeline(run_dir):
        if baselines:
            raise ConfigError(f"{run_dir} is a pipeline, which has no baselines; leave --baseline out")
        write_page(pipeline_report(read_pipeline(run_dir), run_dir), target)
    else:
        write_report(run_dir, target, baselines or ())
    output().print(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)", markup=False)
