"""Where the commands print to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...surrogates.base import Metrics, Report

_WIDTH_OF_FILES = 120
"""Columns of what is printed to something that is not a terminal."""


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


def metrics_text(step: int, metrics: Metrics) -> str:
    """Metrics of a training in a line."""
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())


@contextmanager
def training_progress(text: Callable[[int, Metrics], str] = metrics_text) -> Iterator[Report]:
    """Shows how far a training is that is given what this yields as its report.

    Args:
        text: step and metrics in a line.
    """
    columns = (SpinnerColumn(), TextColumn("training"), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=notes(), transient=True) as progress:
        bar = progress.add_task("training", total=None, state="reading data")

        def show(step: int, metrics: Metrics) -> bool:
            progress.update(bar, state=text(step, metrics))
            return True

        yield show
