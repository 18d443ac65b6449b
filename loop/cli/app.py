"""The command `alloysmith`: its table of commands, its errors and its exit codes.

A command's module is imported when that command is asked for, and only then: the science behind `run` or `fit` takes
seconds to import (PyTorch, Ray, pymatgen), and `alloysmith --help`, a typing error or a shell completion should not
wait for it. So this module imports none of them; the table holds the one line of help that the overview prints, and
:class:`LazyGroup` reads the module named beside it once a command is chosen. Inside the command modules imports are
ordinary ones at the top.
"""

from __future__ import annotations

import errno
import importlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ... import __version__
from ...errors import AlloysmithError

EXIT_RUNTIME_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is implemented: ``module`` of this package has a function called ``function``.

    With ``is_group`` the module's ``commands`` are a group of commands, and ``function`` is what they have in common.
    """

    module: str
    function: str
    panel: str
    summary: str
    is_group: bool = False


COMMANDS: dict[str, CommandEntry] = {
    "init": CommandEntry("starter", "init", "Prepare", "Write a starter configuration with comments."),
    "validate": CommandEntry("check", "validate", "Prepare", "Check a configuration and print what it resolves to."),
    "schema": CommandEntry("check", "schema", "Prepare", "Print the JSON schema of configurations, for editors."),
    "plan": CommandEntry("plan", "plan", "Prepare", "Say what a campaign would do and spend, without spending it."),
    "doctor": CommandEntry("doctor", "doctor", "Prepare", "Say what this machine lacks and how to get it."),
    "run": CommandEntry("run", "run", "Run", "Run a campaign in a new run directory."),
    "resume": CommandEntry("run", "resume", "Run", "Go on with a campaign that was stopped, killed or cut off."),
    "learn": CommandEntry("learn", "learn", "Run", "Learn a potential, or barriers, from an oracle in rounds."),
    "pipeline": CommandEntry(
        "pipeline", "pipeline", "Run", "Make data, train crystal generators on it, optimize with them."
    ),
    "study": CommandEntry("study", "study", "Run", "Search the settings of a fit with Optuna.", is_group=True),
    "status": CommandEntry("status", "status", "Look", "Print where a campaign stands."),
    "watch": CommandEntry("status", "watch", "Look", "Follow a running campaign from any terminal."),
    "report": CommandEntry("report", "report", "Look", "Write a campaign's report, one HTML file that works offline."),
    "export": CommandEntry("export", "export", "Look", "Write a campaign's results in a format other tools open."),
    "label": CommandEntry("label", "label", "Use the parts", "Evaluate an oracle on every structure of a file."),
    "alloys": CommandEntry("alloys", "alloys", "Use the parts", "Write random alloys over a system's compositions."),
    "barriers": CommandEntry("hops", "barriers", "Use the parts", "Compute the energy barriers of vacancies' hops."),
    "compare": CommandEntry(
        "compare", "compare", "Use the parts", "Compare generated structures with a reference set."
    ),
    "order": CommandEntry("order", "order", "Use the parts", "Let an alloy take on chemical short-range order."),
    "sample": CommandEntry("sample", "sample", "Use the parts", "Sample labelled melts or crystals by MD."),
    "fit": CommandEntry("models", "fit", "Use the parts", "Fit a surrogate, a potential, or another model."),
    "generate": CommandEntry(
        "generate", "generate", "Use the parts", "Generate structures with a trained crystal generator."
    ),
    "screen": CommandEntry(
        "screen", "screen", "Use the parts", "Keep the generated structures that are worth a label."
    ),
    "convert": CommandEntry("convert", "convert", "Use the parts", "Convert data and models from and to DeePMD-kit."),
    "tabulate": CommandEntry("tables", "tabulate", "Use the parts", "Write a fitted potential as a LAMMPS table."),
    "card": CommandEntry("tables", "card", "Use the parts", "Write a fitted model's card, one HTML file."),
    "predict": CommandEntry("models", "predict", "Use the parts", "Predict with any fitted model."),
    "spectra": CommandEntry("spectra", "spectra", "Use the parts", "Predict the barrier spectra of alloys."),
    "assess": CommandEntry("assess", "assess", "Use the parts", "Measure a potential beside DFT and experiment."),
    "md": CommandEntry("md", "md", "Use the parts", "Run molecular dynamics with any potential."),
}

_EPILOG = (
    "First time here: alloysmith doctor, then alloysmith run nifecr_quickstart --run-dir runs/first, "
    "then alloysmith report runs/first."
)


def load_command(name: str) -> Any:
    """Import the module of command ``name`` and make its command object."""
    entry = COMMANDS[name]
    module = importlib.import_module(f"{__package__}.{entry.module}")
    if entry.is_group:
        return typer.main.get_command(module.commands)
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(getattr(module, entry.function))
    return typer.main.get_command(single)


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins that carry a line of help, until one of them is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the stand-in by the command itself."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


app = typer.Typer(
    cls=LazyGroup,
    help="Active learning and optimization of alloys, in campaigns that can be killed and resumed.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _stand_in() -> None:
    """Never called: :class:`LazyGroup` puts the command itself in its place."""


for _name, _entry in COMMANDS.items():
    app.command(_name, help=_entry.summary, rich_help_panel=_entry.panel)(_stand_in)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"alloysmith {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works at any place in the line.")
    ] = False,
) -> None:
    """Options before the command; ``--debug`` is read by :func:`run_command_line`, which prints the errors."""


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command line, print its error if it has one, and return its exit status (see docs/cli.md)."""
    is_debug = "--debug" in arguments
    try:
        app(args=[a for a in arguments if a != "--debug"], prog_name="alloysmith")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_RUNTIME_ERROR if end.code else 0
    except AlloysmithError as error:
        _print_error(str(error), is_debug)
        return error.exit_code
    except KeyboardInterrupt:
        _print_error("interrupted", is_debug)
        return EXIT_INTERRUPTED
    except OSError as error:
        _print_error(_explain_os_error(error), is_debug)
        return EXIT_RUNTIME_ERROR
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever is left is a defect, to be told as one
        hint = "" if is_debug else "\nRun the same command with --debug for the traceback, and report it."
        _print_error(f"internal error, {type(error).__name__}: {error}{hint}", is_debug)
        return EXIT_RUNTIME_ERROR
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command_line(sys.argv[1:]))


def _print_error(message: str, is_debug: bool) -> None:
    if is_debug:
        traceback.print_exc()
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)


def _explain_os_error(error: OSError) -> str:
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    remedy = {
        errno.ENOSPC: "the disk is full; free some space there, then go on with the same command (or `resume`)",
        errno.EDQUOT: "the disk quota is used up; free some space there, then go on with the same command",
        errno.EACCES: "this user may not write or read there; choose another place or change the permissions",
        errno.EROFS: "the file system is read-only; choose another place",
        errno.ENOENT: "no such file or folder; check the path",
        errno.ENOTDIR: "a folder was expected; check the path",
        errno.EISDIR: "a file was expected; check the path",
    }.get(error.errno or 0, "the operating system refused it")
    return f"{what}\n{remedy}"
