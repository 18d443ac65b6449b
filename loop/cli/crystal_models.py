"""What `alloysmith fit` does with crystal generators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import typer
from rich.table import Table

from ...errors import ConfigError
from ...generators.pcdvae.labelled import LabelledCrystals
from ...structures.files import read_structures
from ...surrogates.base import Metrics
from ...surrogates.model_file import save_state
from ..config import load_settings
from ..pcdvae_fitting import HeadErrors, PcdvaeFitConfig, fit_pcdvae
from ..signals import GracefulStop
from ..texts import duration_text, unit_of
from .console import notes, output, training_progress

_SHOWN = ("loss", "coordinates", "types", "property")


def fit(
    config_path: Path, data: Sequence[Path], properties: Sequence[str], model: Path, overrides: Sequence[str]
) -> None:
    """Train a crystal generator, showing how far it is; a killed training goes on with the same command."""
    if len(properties) > 1:
        raise ConfigError(f"a crystal generator learns one property, got {', '.join(properties)}")
    chosen = [f"data.property={name}" for name in properties]
    config: PcdvaeFitConfig = load_settings(config_path, PcdvaeFitConfig, [*overrides, *chosen])
    files = data or config.files
    if not files:
        raise ConfigError("give --data FILE, the labelled structures to learn from, or `files` in the configuration")
    checkpoint = model.with_name(f"{model.name}.checkpoint")
    with (
        GracefulStop("stopping after this epoch; once more ends at once") as stop,
        training_progress(lambda epoch, metrics: _state(epoch, config.training.max_epochs, metrics)) as show,
    ):
        rows = [atoms for file in files for atoms in read_structures(file, allow_defects=True)]
        fitted = fit_pcdvae(
            config,
            rows,
            checkpoint_path=checkpoint,
            report=lambda epoch, metrics: show(epoch, metrics) and stop.received is None,
            on_data=_tell_data,
        )
    if fitted.training.stop_reason == "asked":
        notes().print(
            f"interrupted after epoch {len(fitted.training.history)} of {config.training.max_epochs}, which is kept in "
            f"{checkpoint}; the same command goes on",
            markup=False,
        )
        raise typer.Exit(stop.exit_code)
    data_of = fitted.data
    if data_of.unusable:
        row, reason = next(iter(data_of.unusable.items()))
        notes().print(f"warning: {len(data_of.unusable)} bad rows left out; row {row}: {reason}", markup=False)
    if fitted.training.n_rollbacks:
        notes().print(
            f"warning: the training diverged {fitted.training.n_rollbacks} times and was taken back to the last good "
            "epoch at half the learning rate each time",
            markup=False,
        )
    save_state(fitted.fitted.state(), model)
    checkpoint.unlink(missing_ok=True)
    console = output()
    console.print(_error_table(fitted.errors, config.data.property))
    result = fitted.training
    unlabelled = f"; {data_of.n_unlabelled} rows without the property left out" if data_of.n_unlabelled else ""
    console.print(
        f"wrote {model}: pcdvae of {', '.join(data_of.elements)} in {', '.join(data_of.phases)}, "
        f"{len(data_of.crystals)} structures, {result.n_steps} steps in {duration_text(result.cpu_s)} of CPU time, "
        f"weights of epoch {result.best_epoch} ({result.stop_reason.replace('_', ' ')}){unlabelled}",
        markup=False,
    )


def _tell_data(data: LabelledCrystals) -> None:
    """What will be learnt from, so that a misspelt phase or a stray element is seen before the training."""
    phases = Counter(data.phases[crystal.phase] for crystal in data.crystals)
    elements = Counter(data.elements[k] for crystal in data.crystals for k in np.unique(crystal.types).tolist())
    parts = [
        f"{len(data.crystals)} structures",
        ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items())),
        ", ".join(f"{element} in {n}" for element, n in sorted(elements.items())),
    ]
    notes().print("; ".join(parts), markup=False)


def _state(epoch: int, n_epochs: int, metrics: Metrics) -> str:
    if "held_out_loss" not in metrics:
        return f"diverged in epoch {epoch + 1} and returned to epoch {epoch}, learning rate × {metrics['rate_scale']:g}"
    return f"epoch {epoch} of {n_epochs}; held out: " + ", ".join(
        f"{name} {metrics[f'held_out_{name}']:.3g}" for name in _SHOWN
    )


def _error_table(errors: Mapping[str, HeadErrors], name: str | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("structures")
    columns = ["n", "lengths %", "shares %", "phases right"]
    columns += [f"{name} {unit_of(name)}".strip(), "of the mean"] if name else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for part, e in errors.items():
        cells = [str(e.n), f"{e.length_percent:.2f}", f"{e.composition_percent:.2f}", f"{e.phase:.0%}"]
        table.add_row(part, *cells, *([f"{e.value:.3g}", f"{e.value_of_mean:.3g}"] if name else []))
    return table
