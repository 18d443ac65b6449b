"""`alloysmith run` and `alloysmith resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..campaign import Campaign
from ..config import load_config
from ..summary import summarize_run_dir
from .arguments import ConfigArgument, MachineOption, RunDirArgument, SetOption, find_config
from .console import notes, output
from .endings import explain
from .live import progress_line, view_for

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result and errors.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Lines of progress instead of the live view.")]


def run(
    config: ConfigArgument,
    run_dir: Annotated[
        Path, typer.Option("--run-dir", "-d", metavar="DIR", help="New or empty folder for all that it writes.")
    ],
    overrides: SetOption = None,
    machine: MachineOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the campaign that is in DIR, if nobody is at work on it.")
    ] = False,
    quiet: QuietOption = False,
    plain: PlainOption = False,
) -> None:
    """Run a campaign in a new run directory.

    Everything that happens is written to DIR/events.jsonl first, so the campaign can be killed at any instant and
    gone on with by `alloysmith resume DIR`. The first Ctrl-C lets running evaluations end, the second does not.

    Example: alloysmith run nifecr_quickstart --run-dir runs/first --set budget.n_evaluations=60
    """
    settings = load_config(find_config(config), overrides or (), machine)
    _drive(Campaign.create(settings, run_dir, overwrite=overwrite), quiet=quiet, plain=plain)


def resume(
    run_dir: RunDirArgument, overrides: SetOption = None, quiet: QuietOption = False, plain: PlainOption = False
) -> None:
    """Go on with a campaign that was stopped, killed or cut off.

    Nothing that finished is evaluated again. --set may change execution and budget, such as a larger
    budget.n_evaluations; a campaign that is complete, or that its agent ended, is left as it is.

    Example: alloysmith resume runs/first --set budget.n_evaluations=500
    """
    _drive(Campaign.open(run_dir, overrides or ()), quiet=quiet, plain=plain)


def _drive(campaign: Campaign, *, quiet: bool, plain: bool) -> None:
    was_complete = campaign.is_complete
    with view_for(notes(), str(campaign.run_dir), is_quiet=quiet, is_plain=plain) as view:
        result = campaign.run(view.note)
    console = output()
    summary = summarize_run_dir(campaign.state, campaign.run_dir)
    if was_complete:
        meaning = explain(summary.condition, campaign.state.stop)
        console.print(f"{campaign.run_dir} was over already ({result.message}): {meaning}", markup=False)
    else:
        console.print(f"{summary.condition}: {result.message}", markup=False)
    console.print(progress_line(summary), markup=False)
    if not quiet:
        verb = "report" if result.exit_code == 0 else "resume"
        notes().print(f"next: alloysmith {verb} {campaign.run_dir}", markup=False)
    if result.exit_code != 0:
        raise typer.Exit(result.exit_code)
