"""`alloysmith spectra`: spectra of migration barriers that a fitted model predicts."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import typer
from ase.data import chemical_symbols
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ...errors import ConfigError
from ...structures.whole_file import write_whole
from ...surrogates.barriers.base import BarrierModel
from ...surrogates.barriers.settings import barrier_model_from_state, is_barrier_model
from ...surrogates.barriers.spectra import HopBlock, SpectraOptions, pooled
from ...surrogates.model_file import load_state
from ..barrier_spectra import Sample, SampleSpectra, figures_table, histogram_table, sample_spectra, samples
from ..report.barrier_maps import moving_species
from ..report.barrier_spectra import spectra_page
from ..report.build import write_page
from .console import ProgressBar, notes, output
from .writing import check_target

_HOP_COLUMNS = (
    "structure",
    "vacancy_site",
    "neighbour",
    "moving_species",
    "predicted_barrier_ev",
    "predicted_barrier_ev_std",
    "predicted_barrier_backward_ev",
)


def spectra(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A barrier model's file, from `fit`.")],
    structures: Annotated[
        list[Path],
        typer.Argument(metavar="STRUCTURES", help="Structure files of perfect crystals, or folders of `order`."),
    ],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for tables and report.")],
    n_sites: Annotated[
        int | None, typer.Option("--sites", min=1, help="Vacancies at so many random sites of each structure.")
    ] = None,
    both_ways: Annotated[bool, typer.Option("--both-ways/--forward-only", help="Also the hops back, or not.")] = True,
    bin_ev: Annotated[float, typer.Option("--bin", min=1e-4, max=1.0, help="Width of a histogram's bins, eV.")] = 0.02,
    hops: Annotated[bool, typer.Option("--hops", help="Also write DIR/hops.csv, the barrier of each hop.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of sites.")] = 0,
) -> None:
    """Predict the barrier spectra of alloys.

    Every site is vacant in turn, and each nearest neighbour hops into it and back; hops are predicted in blocks, so
    that a million atoms fit into memory. DIR/spectra.csv has mean, spread and quantiles for each structure and moving
    species, DIR/histograms.csv the spectra, DIR/report.html the plots: over the triangle of compositions for alloys of
    three elements, along a line of compositions, or along the run for snapshots of `order`, with its short-range order.

    Example: alloysmith spectra barriers.safetensors alloys.extxyz -o spectra

    Example: alloysmith spectra barriers.safetensors ordered -o spectra_ordered --sites 2000
    """
    state = load_state(model)
    if not is_barrier_model(state):
        raise ConfigError(f"{model} is no model of migration barriers; fit one with `alloysmith fit fit/barriers`")
    fitted = barrier_model_from_state(state)
    check_target(folder / "report.html")
    found: list[SampleSpectra] = []

    def predict(table: IO[str] | None) -> None:
        options = SpectraOptions(n_sites=n_sites, both_ways=both_ways, bin_ev=bin_ev, seed=seed)
        found.extend(_predict(fitted, samples(structures, folder), options, table))

    def fill(scratch: Path) -> None:
        with scratch.open("w", newline="", encoding="utf-8") as file:
            predict(file)

    if hops:
        write_whole(folder / "hops.csv", fill)
    else:
        predict(None)
    write_whole(folder / "spectra.csv", figures_table(found).encode())
    write_whole(folder / "histograms.csv", histogram_table(found).encode())
    write_page(spectra_page(found, fitted.spec, _title(structures)), folder / "report.html")
    output().print(_overview(found))
    output().print(f"wrote {folder}: spectra.csv, histograms.csv, report.html", markup=False)


def _predict(
    model: BarrierModel, wanted: Iterable[Sample], options: SpectraOptions, table: IO[str] | None
) -> list[SampleSpectra]:
    """Predict one structure after the other, showing how far it is; write hops to the table, if any."""
    writer = None if table is None else csv.writer(table, lineterminator="\n")
    if writer is not None:
        writer.writerow(_HOP_COLUMNS)
    found: list[SampleSpectra] = []
    started, cpu_started = time.monotonic(), time.process_time()
    columns = (TextColumn("spectra"), TextColumn("{task.fields[name]}"), BarColumn(), MofNCompleteColumn())
    with ProgressBar(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("spectra", total=None, name="")
        for sample in wanted:
            progress.reset(bar, total=options.n_hops(model, sample.atoms), name=escape(sample.name))

            def follow(block: HopBlock, name: str = sample.name) -> None:
                progress.update(bar, advance=len(block.hops))
                if writer is not None:
                    writer.writerows(_hop_rows(name, block))

            found.append(sample_spectra(model, sample, options, follow))
    n_hops, cpu_s = sum(sample.n_hops for sample in found), time.process_time() - cpu_started
    notes().print(
        f"{n_hops:,} barriers in {time.monotonic() - started:.1f} s, {n_hops / max(cpu_s, 1e-9):,.0f} per CPU second",
        markup=False,
    )
    return found


def _hop_rows(name: str, block: HopBlock) -> Iterable[Sequence[object]]:
    hops, back = block.hops, block.backward
    return zip(
        repeat(name, len(hops)),
        hops.vacancy.tolist(),
        hops.neighbour.tolist(),
        np.array(chemical_symbols)[hops.moving_numbers].tolist(),
        block.forward.mean_ev.round(6).tolist(),
        block.forward.std_ev.round(6).tolist(),
        repeat("", len(hops)) if back is None else back.mean_ev.round(6).tolist(),
        strict=True,
    )


def _title(structures: Sequence[Path]) -> str:
    more = f" and {len(structures) - 1} more" if len(structures) > 1 else ""
    return f"Barriers of {structures[0].name}{more}"


def _overview(found: Sequence[SampleSpectra]) -> Table:
    """A row for each moving species and direction, all samples together."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("moves", "direction"):
        table.add_column(name)
    for name in ("hops", "mean eV", "spread eV", "5 %", "95 %", "error eV"):
        table.add_column(name, justify="right", no_wrap=True)
    for species in moving_species(found):
        for direction in found[0].spectra:
            spectrum = pooled([s.spectra[direction][species] for s in found if species in s.spectra[direction]])
            figures = (
                spectrum.mean_ev,
                spectrum.std_ev,
                spectrum.quantile_ev(0.05),
                spectrum.quantile_ev(0.95),
                spectrum.error_ev,
            )
            table.add_row(species, direction, f"{spectrum.n_hops:,}", *(f"{value:.3f}" for value in figures))
    return table
