"""Where the commands print to."""

from __future__ import annotations

import sys

from rich.console import Console

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
