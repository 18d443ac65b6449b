"""`alloysmith barriers`: migration barriers of vacancies, as a table to learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...errors import ConfigError
from ...generators.base import Failure
from ...oracles.base import Label
from ...oracles.vacancy_migration import VacancyMigrationSettings
from ...structures.files import write_structures
from ...structures.whole_file import write_whole
from ..campaign import EXIT_FAILURES
from ..config import ExecutionSettings, load_settings
from ..hop_labelling import WantedHop, listed_hops, random_hops, saddle_rows, table_text
from ..labelling import LabellingRun, check_oracle, count_requests, label_structures
from .arguments import DeadlineOption, ExecutorOption, RetryFailedOption, SetOption, WorkersOption, find_config
from .console import ProgressBar, notes, output
from .writing import check_target


def barriers(
    oracle: Annotated[
        str, typer.Argument(metavar="ORACLE", help="YAML file of the oracle, or the shipped oracles/vacancy_migration.")
    ],
    structures: Annotated[
        Path,
        typer.Argument(metavar="STRUCTURES", help="Structures without vacancies, or a CSV table that lists hops."),
    ],
    target: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="CSV table to write.")],
    n_hops: Annotated[int | None, typer.Option("--hops", min=1, help="Random hops of each structure.")] = None,
    n_vacancies: Annotated[
        int | None, typer.Option("--vacancies", min=1, help="Random vacancies of each structure, all hops into each.")
    ] = None,
    phase: Annotated[
        Literal["stated", "fcc", "bcc"],
        typer.Option(help="Whose nearest neighbours hop; `stated`: what info['phase'] says, else what most atoms are."),
    ] = "stated",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of hops.")] = 0,
    saddles: Annotated[
        Path | None, typer.Option("--saddles", metavar="FILE", help="Extended XYZ file of saddles and paths to write.")
    ] = None,
    overrides: SetOption = None,
    executor: ExecutorOption = "ray",
    workers: WorkersOption = None,
    deadline_s: DeadlineOption = 600.0,
    retry_failed: RetryFailedOption = False,
) -> None:
    """Compute the energy barriers of vacancies' hops.

    Takes a vacancy at each site of each structure, or at random ones (--vacancies, --hops), and lets each nearest
    neighbour hop into it. Or takes the hops from a CSV table with the columns structure (a path, or path@index),
    vacancy_site and neighbour (indices from 0). OUT has these columns, barrier_ev, barrier_backward_ev, moving_species,
    and failure where there is none. Outcomes are kept in OUT.journal as they come: the same command goes on after a
    kill, and after an interruption OUT holds what is done.

    Example: alloysmith barriers oracles/vacancy_migration alloys.extxyz -o barriers.csv --hops 60
    """
    settings: VacancyMigrationSettings = load_settings(find_config(oracle), VacancyMigrationSettings, overrides or ())
    if target.suffix != ".csv":
        raise ConfigError(f"{target} is not named *.csv, and what is written here is a CSV table")
    check_target(target)
    if saddles is not None:
        check_target(saddles, ("extxyz",))
    hops = _hops(structures, target, n_hops, n_vacancies, phase, seed)
    marked = [hop.marked() for hop in hops]
    check_oracle(settings, marked)
    for note in settings.potential.load().notes:
        notes().print(f"note: {note}", markup=False)
    execution = ExecutionSettings(executor=executor, n_workers=workers, deadline_s=deadline_s)
    columns = (TextColumn("barriers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"))
    with ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("barriers", total=count_requests(marked, [None] * len(marked)), failed="")

        def advance(n_ended: int, n_failed: int) -> None:
            progress.update(bar, completed=n_ended, failed=f"{n_failed} failed" if n_failed else "")

        run = label_structures(
            settings,
            marked,
            [None] * len(marked),
            target.with_name(f"{target.name}.journal"),
            execution,
            retry_failed=retry_failed,
            on_progress=advance,
        )
    write_whole(target, table_text(hops, run.results).encode())
    if saddles is not None:
        write_structures(saddles, saddle_rows(hops, run.results))
    _tell(run, target, len(hops))


def _hops(
    structures: Path, target: Path, n_hops: int | None, n_vacancies: int | None, phase: str, seed: int
) -> list[WantedHop]:
    if structures.suffix == ".csv":
        if n_hops is not None or n_vacancies is not None:
            raise ConfigError(f"{structures} lists the hops; leave out --hops and --vacancies")
        return listed_hops(structures, target.parent)
    if n_hops is not None and n_vacancies is not None:
        raise ConfigError("--hops and --vacancies are two ways to choose; give one of them")
    return random_hops(
        structures,
        n_hops=n_hops,
        n_vacancies=n_vacancies,
        phase="fcc" if phase == "fcc" else "bcc" if phase == "bcc" else None,
        folder=target.parent,
        seed=seed,
    )


def _tell(run: LabellingRun, target: Path, n_hops: int) -> None:
    labels = [result for result in run.results if isinstance(result, Label)]
    kinds = Counter(str(result.kind) for result in run.results if isinstance(result, Failure))
    failed = f", {kinds.total()} failed ({', '.join(f'{n} {k}' for k, n in kinds.most_common())})" if kinds else ""
    cpu_s = sum(label.cpu_s for label in labels) / len(labels) if labels else 0.0
    output().print(
        f"wrote {target}: {len(labels)} of {n_hops} barriers{failed}; {run.n_evaluated} evaluated now, {cpu_s:.2f} CPU "
        "seconds each on average",
        markup=False,
    )
    if run.interrupted_by is not None:
        notes().print("interrupted: the same command goes on", markup=False)
        raise typer.Exit(128 + run.interrupted_by)
    if run.aborted_because:
        notes().print(f"aborted: {run.aborted_because}", markup=False)
        raise typer.Exit(EXIT_FAILURES)
