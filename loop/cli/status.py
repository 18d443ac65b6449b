"""`alloysmith status` and `alloysmith watch`."""

from __future__ import annotations

import time
from typing import Annotated

import orjson
import typer

from ..errors import RunDirectoryError
from ..events import Event
from ..state import CampaignState, replay
from ..store.event_log import LogPosition, read_log
from ..store.lock import lock_holder
from ..summary import CampaignSummary, summarize_run_dir
from .arguments import RunDirArgument
from .console import notes, output
from .endings import explain
from .live import dashboard, progress_line, view_for

_N_NEWS = 20
"""Of the events found in one look, so many of the latest are shown."""


def status(
    run_dir: RunDirArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for scripts; see docs/cli.md.")] = False,
) -> None:
    """Print where a campaign stands.

    Reads the log only, so it may be asked at any time and from any machine that sees the folder.

    Example: alloysmith status runs/first --json | jq .best.value
    """
    state = replay(run_dir)
    summary = summarize_run_dir(state, run_dir)
    console = output()
    if as_json:
        console.out(orjson.dumps(summary.as_json(run_dir), option=orjson.OPT_INDENT_2).decode())
        return
    console.print(_condition(summary, state), markup=False)
    console.print(dashboard(summary, (), str(run_dir), time.time()))


def watch(
    run_dir: RunDirArgument,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of progress instead of the live view.")] = False,
    interval_s: Annotated[float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Between looks.")] = 1.0,
) -> None:
    """Follow a running campaign from any terminal.

    Ends when the driver does; Ctrl-C ends the view and leaves the campaign alone.

    Example: alloysmith watch runs/first
    """
    state = CampaignState()
    position = LogPosition()
    with view_for(notes(), str(run_dir), is_quiet=False, is_plain=plain) as view:
        while True:
            is_driven = lock_holder(run_dir) is not None
            news: list[Event] = []
            for event, after in read_log(run_dir, position):
                state.apply(event)
                position = after
                news.append(event)
            for event in news[-_N_NEWS:]:
                view.note(event, state)
            if not is_driven:
                break
            time.sleep(interval_s)
    if state.n_events == 0:
        raise RunDirectoryError(f"{run_dir} holds no campaign; `alloysmith run CONFIG --run-dir {run_dir}` starts one")
    summary = summarize_run_dir(state, run_dir)
    console = output()
    console.print(_condition(summary, state), markup=False)
    console.print(progress_line(summary), markup=False)


def _condition(summary: CampaignSummary, state: CampaignState) -> str:
    message = f" ({summary.condition_message})" if summary.condition_message else ""
    return f"{summary.condition}{message}: {explain(summary.condition, state.stop)}"
