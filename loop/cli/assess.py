"""`alloysmith assess`: a potential's properties beside references."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ...errors import ConfigError
from ...oracles.lammps_engine import LammpsEngine
from ...oracles.potentials import LammpsPotential
from ...oracles.validation.base import Bench, ForceField
from ...oracles.validation.record import Entry, PotentialIdentity, ValidationRecord, read_record
from ...oracles.validation.settings import ValidationSettings
from ...oracles.validation.suite import Progress, Task, run_suite, tasks_of
from ...surrogates.potentials.native import force_field_of
from ..campaign import EXIT_FAILURES
from ..config import load_settings
from ..potential_choice import POTENTIAL_HELP, find_potential
from ..report.liquid import write_liquid_curves
from ..report.validation import comparison_rows, write_validation_report
from ..store.lock import RunLock
from ..texts import duration_text
from .arguments import SetOption, find_config
from .console import ProgressBar, notes, output


def assess(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="YAML file of a validation, or a shipped potentials/… name.")
    ],
    potential: Annotated[
        str,
        typer.Option(
            "--potential",
            "-p",
            metavar="POTENTIAL",
            help=POTENTIAL_HELP,
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of results; the same one goes on.")
    ],
    only: Annotated[
        str, typer.Option(metavar="KINDS", help="Only these properties, with commas: eos,elastic,vacancy.")
    ] = "",
    overrides: SetOption = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", metavar="DIR", help="Folder of another potential's results, to show beside."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure again what failed before.")] = False,
) -> None:
    """Measure a potential beside DFT and experiment.

    Equation of state, elastic constants, vacancies, surfaces, phonons, lattices; where the configuration asks for it,
    the melting temperature, and the structure and motion of melts beside those of a reference potential. Results are
    kept in DIR/validation.json as they come: the same command goes on after a kill and measures nothing twice.
    DIR/report.html has all tables and curves. A property that fails is told and ends nothing; the status is then 3.

    Example: alloysmith assess potentials/validate_ni --potential zjw04 -o assessed/ni-zjw04
    """
    settings: ValidationSettings = load_settings(find_config(config), ValidationSettings, overrides or ())
    others = [_read(other) for other in beside or ()]
    kinds = [kind.strip() for kind in only.split(",") if kind.strip()]
    folder.mkdir(parents=True, exist_ok=True)
    found = find_potential(potential, _elements(settings))
    identity = PotentialIdentity(found.label, found.fingerprint, found.elements)
    lock = RunLock(folder)
    console = notes()
    try:
        with (
            ExitStack() as stack,
            force_field_of(found.potential) as force_field,
            ProgressBar(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as bar,
        ):
            line = bar.add_task("")

            def tell(progress: Progress) -> None:
                what = f"{progress.task.crystal.name}: {progress.task.property.kind}"
                if progress.entry is None:
                    bar.update(line, description=escape(f"{what} {progress.message}".rstrip()))
                elif progress.is_new:
                    console.print(_line(progress.task, progress.entry), markup=False)

            references = {name: _reference(name, settings, stack) for name in settings.reference_potentials()}
            tasks = tasks_of(settings, found.fingerprint, kinds, references)
            everything = [task.key for task in tasks_of(settings, found.fingerprint, (), references)]
            native = force_field if isinstance(force_field, LammpsPotential) else None
            engine = LammpsEngine(force_field) if isinstance(force_field, LammpsPotential) else force_field
            try:
                bench = Bench(
                    engine,
                    native,
                    folder,
                    label=found.label,
                    fingerprint=found.fingerprint,
                    references=references,
                )
                record = run_suite(tasks, identity, bench, retry_failed=retry_failed, on_progress=tell)
            finally:
                engine.close()
    finally:
        lock.release()
    report = folder / "report.html"
    write_validation_report(settings, record, everything, report, others)
    has_curves = write_liquid_curves(record.selected(everything), folder / "melts.csv")
    entries = record.selected([task.key for task in tasks])
    _print_table(settings, record.selected(everything))
    failed = [entry for entry in entries if entry.failure is not None]
    written = f"{report}, {folder / 'melts.csv'}" if has_curves else str(report)
    output().print(f"wrote {written}", markup=False)
    if failed:
        console.print(f"{len(failed)} of {len(entries)} properties failed", markup=False)
        raise typer.Exit(EXIT_FAILURES)


def _read(folder: Path) -> ValidationRecord:
    record = read_record(folder)
    if record is None:
        raise ConfigError(f"{folder} holds no results of a validation; write them there with --output {folder}")
    return record


def _elements(settings: ValidationSettings) -> list[str]:
    symbols = [symbol for entry in settings.entries for symbol in entry.build().symbols]
    return list(dict.fromkeys(symbols))


def _reference(name: str, settings: ValidationSettings, stack: ExitStack) -> ForceField:
    """A reference potential, ready to run until the stack is closed."""
    melts = [melt for melt in settings.melts if melt.dynamics.reference_potential == name]
    found = find_potential(name, list(dict.fromkeys(symbol for melt in melts for symbol in melt.build().symbols)))
    return ForceField(found.label, found.fingerprint, stack.enter_context(force_field_of(found.potential)))


def _line(task: Task, entry: Entry) -> str:
    head = f"{task.crystal.name}: {task.property.kind}"
    if entry.failure is not None:
        return f"{head} failed, {entry.failure.kind}: {entry.failure.message}"
    return f"{head} in {duration_text(entry.wall_s)}, {entry.n_calls} force calls"


def _print_table(settings: ValidationSettings, entries: tuple[Entry, ...]) -> None:
    for crystal in settings.entries:
        rows = comparison_rows(crystal, entries)
        sources = list(crystal.reference)
        table = Table(title=crystal.title, title_justify="left", box=None, header_style="bold")
        table.add_column("")
        for column in ("potential", *sources, f"vs {sources[0]}" if sources else ""):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(row.label, row.value, *row.references, row.difference)
        output().print(table)
