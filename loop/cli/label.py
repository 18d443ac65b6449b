"""`alloysmith label`: any oracle over any structure file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer
from ase import Atoms
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...generators.base import Failure
from ...oracles.settings import OracleSettings
from ...structures.base import Phase
from ...structures.files import read_structures, write_structures
from ..campaign import EXIT_FAILURES
from ..config import ExecutionSettings, load_settings
from ..labelling import check_oracle, count_requests, label_structures, stated_phase
from ..rows import labelled_row
from .arguments import DeadlineOption, ExecutorOption, RetryFailedOption, SetOption, WorkersOption, find_config
from .console import ProgressBar, notes, output
from .writing import check_target


def label(
    oracle: Annotated[
        str, typer.Argument(metavar="ORACLE", help="YAML file of an oracle, or a shipped oracles/… name.")
    ],
    structures: Annotated[Path, typer.Argument(metavar="STRUCTURES", help="Structure file of any known format.")],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ file to write.")],
    overrides: SetOption = None,
    executor: ExecutorOption = "ray",
    workers: WorkersOption = None,
    deadline_s: DeadlineOption = 600.0,
    phase: Annotated[
        Literal["stated", "fcc", "bcc", "any"],
        typer.Option(help="Phase that structures must keep; `stated`: what their info['phase'] says, if anything."),
    ] = "stated",
    geometry: Annotated[
        Literal["final", "given"],
        typer.Option(help="Positions and cell to write: `final`, which the values belong to, or as `given`."),
    ] = "final",
    retry_failed: RetryFailedOption = False,
) -> None:
    """Evaluate an oracle on every structure of a file.

    Rows keep their order and what their info and arrays held. Values are added under names with units, such as
    bulk_modulus_gpa in info or forces_ev_ang in arrays; a row that failed is kept as given, with its failure's kind in
    `failure` and the reason in `failure_message`. Crashes are tried again as in a campaign, and when nothing but
    failures comes, it ends with status 3. Outcomes are kept in OUT.journal as they come: the same command goes
    on after a kill, and labels nothing twice, not even equal structures.

    Example: alloysmith label oracles/bulk_modulus structures.extxyz -o labelled.extxyz
    """
    settings: OracleSettings = load_settings(find_config(oracle), OracleSettings, overrides or ())
    check_target(target, ("extxyz",))
    rows = read_structures(structures)
    check_oracle(settings, rows)
    phases = [_wanted_phase(row, phase) for row in rows]
    execution = ExecutionSettings(executor=executor, n_workers=workers, deadline_s=deadline_s)
    columns = (TextColumn("labelling"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"))
    console = notes()
    with ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("label", total=count_requests(rows, phases), failed="")

        def advance(n_ended: int, n_failed: int) -> None:
            progress.update(bar, completed=n_ended, failed=f"{n_failed} failed" if n_failed else "")

        run = label_structures(
            settings,
            rows,
            phases,
            target.with_name(f"{target.name}.journal"),
            execution,
            retry_failed=retry_failed,
            on_progress=advance,
        )
    results = [result for result in run.results if result is not None]
    if run.interrupted_by is not None:
        console.print(
            f"interrupted: {len(results)} of {len(rows)} rows are done; the same command goes on", markup=False
        )
        raise typer.Exit(128 + run.interrupted_by)
    if run.aborted_because:
        console.print(
            f"aborted: {run.aborted_because}\nNo output was written. What was labelled is kept: mend the cause, and "
            "the same command goes on",
            markup=False,
        )
        raise typer.Exit(EXIT_FAILURES)
    is_final = geometry == "final"
    write_structures(
        target, [labelled_row(row, result, is_final=is_final) for row, result in zip(rows, results, strict=True)]
    )
    kinds = Counter(str(result.kind) for result in results if isinstance(result, Failure))
    failed = (
        f", {kinds.total()} failed ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})" if kinds else ""
    )
    output().print(
        f"wrote {target}: {len(rows) - kinds.total()} labelled{failed}; {run.n_evaluated} evaluated now", markup=False
    )


def _wanted_phase(atoms: Atoms, choice: str) -> Phase | None:
    if choice == "stated":
        return stated_phase(atoms)
    return "fcc" if choice == "fcc" else "bcc" if choice == "bcc" else None
