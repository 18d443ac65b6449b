"""What `alloysmith learn` does with migration barriers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..barrier_learning.config import load_barrier_learning_config
from ..barrier_learning.learning import BarrierEnd
from ..barrier_learning.learning import learn_barriers as run_learning
from ..barrier_learning.rounds import MODEL_NAME, TABLE_NAME, BarrierRound
from ..rounds.site import Stage
from .console import ProgressBar, notes, output


def learn_barriers(path: Path, run_dir: Path, overrides: Sequence[str]) -> None:
    """Begin a learning of barriers or go on with it, and show how far it is."""
    settings = load_barrier_learning_config(path, overrides)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[detail]}"))
    with ProgressBar(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("reading", total=None, detail="")

        def show(index: int, stage: Stage, detail: str) -> None:
            progress.update(bar, description=f"round {index}: {stage}", detail=detail)

        def show_round(record: BarrierRound) -> None:
            progress.console.print(_line(record), markup=False)

        end = run_learning(settings, run_dir, on_progress=show, on_round=show_round)
    if end.records:
        output().print(round_table(end))
    output().print(f"ended: {end.message} ({end.reason})", markup=False)
    if end.exit_code == 0:
        output().print(
            f"wrote {run_dir / TABLE_NAME} and {run_dir / MODEL_NAME}; `alloysmith fit` reads the one, "
            "`alloysmith predict` the other",
            markup=False,
        )
        output().print(f"`alloysmith report {run_dir}` shows how it went", markup=False)
    else:
        notes().print("the same command goes on", markup=False)
        raise typer.Exit(end.exit_code)


def round_table(end: BarrierEnd) -> Table:
    """Rows: rounds; columns: labels, errors, how far the spectra moved."""
    species = sorted(end.records[-1].means_ev)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("round", "labels", "failed", "MAE eV", *(f"{name} moves" for name in species), "new MAE", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in species:
        table.add_column(f"Δ{name} eV", justify="right", no_wrap=True)
    for record in end.records:
        table.add_row(
            str(record.index),
            str(record.n_labels),
            str(record.n_failed),
            _figure(record.errors["mae_ev"]),
            *(_figure(record.species_mae_ev.get(name)) for name in species),
            _figure(record.new_errors.get("mae_ev")),
            _figure(record.new_errors.get("expected_mae_ev")),
            *(_figure(record.distances_ev.get(name)) for name in species),
        )
    return table


def _line(record: BarrierRound) -> str:
    failed = f", {record.n_failed} failed" if record.n_failed else ""
    moved = f"; spectra moved by {max(record.distances_ev.values()):.4f} eV" if record.distances_ev else ""
    return (
        f"round {record.index}: {record.n_labels} barriers learnt{failed}; error {record.errors['mae_ev']:.4f} eV on "
        f"{record.n_validation} validation hops{moved}"
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
