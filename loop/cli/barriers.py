"""What `alloysmith fit` and `alloysmith predict` do with models of migration barriers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from ...errors import ConfigError
from ...structures.whole_file import write_whole
from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.data_settings import ColumnSettings, HopDataSettings
from ...surrogates.barriers.hop_file import read_hops
from ...surrogates.model_file import save_state
from ..barrier_fitting import BarrierFitConfig, fit_barriers, hop_errors, hop_errors_by_species
from ..config import load_settings
from ..fitting import ErrorFigures
from .console import notes, output, training_progress


def fit(config_path: Path, data: Sequence[Path], model: Path, overrides: Sequence[str]) -> None:
    """Fit a barrier model, showing how far it is; a killed training goes on with the same command."""
    config: BarrierFitConfig = load_settings(config_path, BarrierFitConfig, overrides)
    checkpoint = model.with_name(f"{model.name}.checkpoint")
    with training_progress() as show:
        fitted = fit_barriers(config, data, checkpoint_path=checkpoint, report=show)
    for name, dropped in fitted.dropped.items():
        row, reason = next(iter(dropped.items()))
        notes().print(f"warning: {name}: {len(dropped)} bad rows left out; row {row}: {reason}", markup=False)
    save_state(fitted.model.state(), model)
    for path in checkpoint.parent.glob(f"{checkpoint.name}.*"):
        path.unlink()
    console = output()
    table = {f"{name} hops": figures for name, figures in fitted.errors.items()}
    table |= {f"{fitted.judged_on}: {name} moves": figures for name, figures in fitted.by_species.items()}
    table |= {f"{fitted.judged_on}, baseline: {name}": figures for name, figures in fitted.baselines.items()}
    console.print(error_table(table))
    spec = fitted.model.spec
    console.print(
        f"wrote {model}: {spec.kind}, {spec.phase} {'-'.join(spec.elements)}, {spec.n_train} hops", markup=False
    )


def predict(model: BarrierModel, path: Path, target: Path, columns: ColumnSettings | None = None) -> None:
    """Predict the barriers of a table of hops and write it with two columns more; print errors where they are known."""
    if target.suffix.lower() != ".csv":
        raise ConfigError(f"{target} is not named as a CSV table, which is what is written for barriers")
    settings = HopDataSettings(columns=columns or ColumnSettings(), on_bad_row="drop")
    table = read_hops(path, settings, barriers_needed=False)
    found = model.predict(table.hops)
    means = dict(zip(table.hops.rows.tolist(), found.mean_ev.tolist(), strict=True))
    stds = dict(zip(table.hops.rows.tolist(), found.std_ev.tolist(), strict=True))
    added = ("predicted_barrier_ev", "predicted_barrier_ev_std", "failure_message")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kept = [name for name in table.header if name not in added]
    writer.writerow([*kept, *added])
    for number, line in enumerate(table.lines, start=1):
        values = [f"{means[number]:.6f}", f"{stds[number]:.6f}", ""] if number in means else ["", "", ""]
        writer.writerow([*(line.get(name, "") for name in kept), *values[:2], table.dropped.get(number, "")])
    write_whole(target, text.getvalue().encode())
    if table.dropped:
        row, reason = next(iter(table.dropped.items()))
        notes().print(
            f"warning: {len(table.dropped)} of {len(table.lines)} rows cannot be predicted; row {row}: {reason}",
            markup=False,
        )
    console = output()
    if np.isfinite(table.hops.barriers_ev).any():
        figures = {path.name: hop_errors(found, table.hops)}
        figures |= {f"{name} moves": f for name, f in hop_errors_by_species(found, table.hops).items()}
        console.print(error_table(figures))
    else:
        notes().print("no row holds a barrier, so there are no errors to print", markup=False)
    console.print(f"wrote {target}: {len(means)} predicted barriers", markup=False)


def error_table(errors: Mapping[str, ErrorFigures]) -> Table:
    """Rows: sets of hops; columns: figures of the barriers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name in ("n", "MAE eV", "RMSE eV", "R²", "within 1 σ"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in errors.items():
        table.add_row(
            name,
            str(figures.n),
            f"{figures.mae:.4f}",
            f"{figures.rmse:.4f}",
            f"{figures.r2:.4f}",
            f"{figures.coverage_68:.0%}",
        )
    return table
