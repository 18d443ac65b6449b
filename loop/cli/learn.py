"""`alloysmith learn`: a potential, or a barrier model, that learns from an oracle in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..learning.config import load_learning_config
from ..learning.learning import PotentialEnd
from ..learning.learning import learn as run_learning
from ..learning.rounds import POTENTIAL_NAME, RoundRecord
from ..learning.search import SettingsSearch
from ..rounds.site import Stage
from ..yaml_source import read_yaml
from .arguments import ConfigArgument, SetOption, find_config
from .console import ProgressBar, notes, output
from .learn_barriers import learn_barriers

_RUNS_IT = "`alloysmith md` runs it"


def learn(
    config: ConfigArgument,
    run_dir: Annotated[Path, typer.Option("--run-dir", metavar="DIR", help="Folder of the learning.")],
    overrides: SetOption = None,
) -> None:
    """Learn a potential, or barriers, from an oracle in rounds.

    A configuration with `potential:` learns a potential. Round 0 labels perturbed crystals. Each round after it trains
    a committee on all labels, runs molecular dynamics with it at the temperatures, pressures and compositions of the
    configuration, labels those of the visited structures on which the committee disagrees, far from each other and from
    what is known, and notes how wrong it was. Trainings, runs and labels are spread over the workers of `execution`. It
    ends when little new is visited and the error no longer falls, or when the budget is spent. DIR then holds
    potential.safetensors, and each round's structures, labels and figures.

    A configuration with `barrier:` learns vacancy migration barriers. Round 0 computes those of random hops of a pool;
    each round after it those of the hops that a committee is unsure of, that are unlike each other, or random ones, and
    trains the committee again. It ends when the error on validation hops, or the predicted spectrum of barriers, no
    longer changes. DIR then holds barriers.csv and model.safetensors.

    The same command goes on with a learning that was interrupted or killed; no label is made twice.

    Example: alloysmith learn learn_nicr --run-dir runs/nicr

    Example: alloysmith learn learn_barriers_tanbmo --run-dir runs/barriers
    """
    path = find_config(config)
    if "barrier" in read_yaml(path).data:
        learn_barriers(path, run_dir, overrides or ())
    else:
        _learn_potential(path, run_dir, overrides or ())


def _learn_potential(path: Path, run_dir: Path, overrides: Sequence[str]) -> None:
    settings = load_learning_config(path, overrides)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[detail]}"))
    with ProgressBar(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("reading", total=None, detail="")

        def show(index: int, stage: Stage, detail: str) -> None:
            progress.update(bar, description=f"round {index}: {stage}", detail=detail)

        def show_round(record: RoundRecord) -> None:
            for line in _lines(record):
                progress.console.print(line, markup=False)

        end = run_learning(settings, run_dir, on_progress=show, on_round=show_round)
    output().print(round_table(end))
    for text in end.failures:
        notes().print(f"not trained from the last labels: {text}", markup=False)
    output().print(f"ended: {end.message} ({end.reason})", markup=False)
    if end.exit_code == 0:
        use = "`alloysmith tabulate` makes a LAMMPS file of it" if settings.potential.kind == "eam" else _RUNS_IT
        output().print(f"wrote {run_dir / POTENTIAL_NAME}; {use}", markup=False)
        output().print(f"`alloysmith report {run_dir}` shows how it went", markup=False)
    else:
        notes().print("the same command goes on", markup=False)
        raise typer.Exit(end.exit_code)


def round_table(end: PotentialEnd) -> Table:
    """Rows: rounds; columns: labels, what exploration found, errors."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("round", "labels", "visited", "accurate", "candidate", "failed", "exploded", "err/dev"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("new F MAE eV/Å", "test F MAE", "test E MAE meV/at"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in end.records:
        table.add_row(
            str(record.index),
            str(record.n_labels),
            str(record.n_visited) if record.n_visited else "",
            *(f"{record.shares[name]:.0%}" if record.shares else "" for name in ("accurate", "candidate", "failed")),
            str(record.n_explosions) if record.n_visited else "",
            f"{record.scale:.2f}" if record.n_visited else "",
            _figure(record.new_errors.get("force_mae_ev_ang"), 3),
            _figure(record.test_errors.get("force_mae_ev_ang"), 3),
            _figure(record.test_errors.get("energy_mae_mev"), 1),
        )
    return table


def _lines(record: RoundRecord) -> list[str]:
    lines = [f"round {record.index}: {text}" for text in record.failures]
    if record.search is not None:
        lines.append(f"round {record.index}: {_search_line(record.search)}")
    return [*lines, _line(record)]


def _search_line(search: SettingsSearch) -> str:
    what = f"tried {len(search.trials)} settings on {search.n_labels} labels"
    if search.error is None:
        return f"{what}; all failed"
    before = "failed" if search.in_use.error is None else f"{search.in_use.error:.4g}"
    if search.parameters == search.in_use.parameters:
        return f"{what}; none is better than those in use ({search.metric} {before})"
    new = ", ".join(f"{key}={value}" for key, value in search.parameters.items())
    return f"{what}; now {new} ({search.metric} {search.error:.4g}, before {before})"


def _line(record: RoundRecord) -> str:
    if not record.n_visited:
        return f"round {record.index}: {record.n_labels} labels, {record.n_failed} failed"
    test = _figure(record.test_errors.get("force_mae_ev_ang"), 3)
    new = _figure(record.new_errors.get("force_mae_ev_ang"), 3)
    test = f"{test} eV/Å on tests" if test else f"{new} eV/Å on what was chosen" if new else "not known"
    return (
        f"round {record.index}: {record.n_labels} labels; of {record.n_visited} visited "
        f"{record.shares['candidate']:.0%} candidates, {record.shares['failed']:.0%} failed, "
        f"{record.n_explosions} runs exploded; before these labels the force error was {test}"
    )


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
