"""Where the commands print to."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ...surrogates.base import Metrics, Report

_WIDTH_OF_FILES = 120
"""Columns of what is printed to something that is not a terminal."""
_SECONDS_BETWEEN_LINES = 30.0
"""Of progress that is written to something that is not a terminal."""


def output() -> Console:
    """Console of results, on standard output; made anew each time so that a redirected stream is respected."""
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else _WIDTH_OF_FILES)


def notes() -> Console:
    """Console of progress and remarks, on standard error, so that results can be piped."""
    is_terminal = sys.stderr.isatty()
    return Console(
        stderr=True, highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else _WIDTH_OF_FILES
    )


class ProgressBar(Progress):
    """Progress on standard error: a line that changes and vanishes at the end; in a file, such as a batch job's, a line
    every half minute."""

    def __init__(self, *columns: str | ProgressColumn, console: Console | None = None) -> None:
        super().__init__(*columns, console=console or notes(), transient=True)
        self._written = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See :meth:`rich.progress.Progress.update`."""
        super().update(task_id, **changes)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._written >= _SECONDS_BETWEEN_LINES:
            self._written = now
            self.console.print(self.get_renderable())


def metrics_text(step: int, metrics: Metrics) -> str:
    """Metrics of a training in a line."""
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())


@contextmanager
def training_progress(text: Callable[[int, Metrics], str] = metrics_text) -> Iterator[Report]:
    """Shows how far a training is that is given what this yields as its report; says what to do after Ctrl-C.

    Args:
        text: step and metrics in a line.
    """
    columns = (SpinnerColumn(), TextColumn("training"), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with ProgressBar(*columns) as progress:
        bar = progress.add_task("training", total=None, state="reading data")

        def show(step: int, metrics: Metrics) -> bool:
            progress.update(bar, state=text(step, metrics))
            return True

        try:
            yield show
        except KeyboardInterrupt:
            progress.console.print(
                "interrupted; the same command goes on from the last checkpoint, if there is one yet"
            )
            raise typer.Exit(128 + signal.SIGINT) from None
