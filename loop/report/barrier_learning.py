"""The report of a learning of barriers: errors against labels, spectra by moving species, parity."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import yaml

from ... import __version__
from ...surrogates.barriers.settings import barrier_model_from_state
from ...surrogates.model_file import load_state
from ..barrier_fitting import species_of
from ..barrier_learning.config import BarrierLearningConfig
from ..barrier_learning.judging import read_spectrum, spectrum_hops
from ..barrier_learning.pool import KnownHops, read_labelled, read_pool
from ..barrier_learning.rounds import BarrierFolder, BarrierRound, read_barrier_rounds
from ..errors import RunDirectoryError
from ..rounds.files import read_config
from .page import Section, page, paragraph, plot, table
from .style import MUTED, SERIES

_STAGES = ("choosing", "labelling", "training", "judging")
_N_BINS = 60


def barrier_learning_report(run_dir: Path) -> str:
    """The HTML document; also while the learning runs.

    Raises:
        RunDirectoryError: no round is done yet, or files are damaged.
    """
    records = read_barrier_rounds(run_dir)
    if not records:
        raise RunDirectoryError(f"no round of {run_dir} is done yet; there is nothing to report")
    config = read_config(run_dir, BarrierLearningConfig)
    pool = read_pool(run_dir)
    last = records[-1]
    species = species_of(spectrum_hops(config, pool))
    spectra = [read_spectrum(BarrierFolder(run_dir, record.index)) for record in records]
    known = KnownHops(pool)
    for record in records:
        known.take_in(read_labelled(BarrierFolder(run_dir, record.index).labelled))
    validation = known.validation()
    model = barrier_model_from_state(load_state(BarrierFolder(run_dir, last.index).model))
    found = model.predict(validation)
    colours = dict(zip(sorted(last.means_ev), SERIES, strict=False))
    sections = [
        _errors(records, colours),
        _spectra(species, spectra, colours),
        _distances(records, colours),
        _parity(species_of(validation), validation.barriers_ev, found.mean_ev, found.std_ev, colours),
        _times(records),
        _rounds(records),
        _configuration(config),
    ]
    lead = (
        f"Vacancy migration barriers of {html.escape('-'.join(pool.hops.elements))}: {last.n_labels:,} barriers of "
        f"{len(pool.hops):,} hops learnt in {len(records)} rounds, chosen by {config.selection.kind}; error "
        f"{last.errors['mae_ev']:.4f} eV on {last.n_validation:,} hops that were not learnt."
    )
    footer = f"Alloysmith {html.escape(__version__)} · run directory {html.escape(str(run_dir))}"
    return page(config.name, lead, sections, footer, kicker="Alloysmith learning report")


def _errors(records: Sequence[BarrierRound], colours: dict[str, str]) -> Section:
    labels = [record.n_labels for record in records]
    figure = go.Figure()
    lines: dict[str, tuple[list[float | None], str]] = {"all": ([r.errors["mae_ev"] for r in records], MUTED)}
    lines |= {f"{name} moves": ([r.species_mae_ev.get(name) for r in records], c) for name, c in colours.items()}
    for name, (values, colour) in lines.items():
        figure.add_trace(go.Scatter(x=labels, y=values, name=name, mode="lines+markers", line={"color": colour}))
    new = [(records[r.index - 1].n_labels, r.new_errors["mae_ev"]) for r in records if r.new_errors]
    if new:
        x, y = zip(*new, strict=True)
        dashed = {"color": SERIES[-1], "dash": "dot"}
        figure.add_trace(go.Scatter(x=x, y=y, name="new hops, before they were learnt", mode="lines", line=dashed))
    figure.update_xaxes(title_text="barriers learnt from")
    figure.update_yaxes(title_text="mean absolute error (eV)", rangemode="tozero")
    note = paragraph(
        "Errors on the validation hops, which are never learnt from. New hops that are chosen for being hard have "
        "larger errors than those."
    )
    return Section("Errors", note + plot(figure, name="errors"))


def _spectra(species: np.ndarray, spectra: Sequence[np.ndarray], colours: dict[str, str]) -> Section:
    ends = [float(min(s.min() for s in spectra)), float(max(s.max() for s in spectra))]
    edges = np.linspace(ends[0], ends[1] + 1e-9, _N_BINS + 1)
    middles = 0.5 * (edges[1:] + edges[:-1])
    figure = go.Figure()
    for name, colour in colours.items():
        last = len(spectra) - 1
        for index, dash in ((0, "dot"), (last, "solid")) if last else ((0, "solid"),):
            barriers = spectra[index]
            density = np.histogram(barriers[species == name], bins=edges, density=True)[0]
            line = {"color": colour, "dash": dash, "shape": "hvh"}
            figure.add_trace(go.Scatter(x=middles, y=density, name=f"{name}, round {index}", mode="lines", line=line))
    figure.update_xaxes(title_text="predicted barrier (eV)")
    figure.update_yaxes(title_text="density (1/eV)", rangemode="tozero")
    note = paragraph(f"Predicted barriers of {len(species):,} hops of the pool, the same ones in each round.")
    return Section("Spectra by moving species", note + plot(figure, name="spectra"))


def _distances(records: Sequence[BarrierRound], colours: dict[str, str]) -> Section:
    figure = go.Figure()
    rounds = [record for record in records if record.distances_ev]
    for name, colour in colours.items():
        moved = [record.distances_ev.get(name) for record in rounds]
        x = [record.index for record in rounds]
        figure.add_trace(go.Scatter(x=x, y=moved, name=name, mode="lines+markers", line={"color": colour}))
    figure.update_xaxes(title_text="round", dtick=1)
    figure.update_yaxes(title_text="distance from the round before (eV)", type="log", dtick="D2", tickformat=".2~g")
    note = paragraph("First Wasserstein distance between the spectra of successive rounds, by moving species.")
    return Section("How far spectra moved", note + plot(figure, name="distances", height=320))


def _parity(
    species: np.ndarray, known_ev: np.ndarray, mean_ev: np.ndarray, std_ev: np.ndarray, colours: dict[str, str]
) -> Section:
    figure = go.Figure()
    for name, colour in colours.items():
        of_it = species == name
        bars = {"type": "data", "array": std_ev[of_it], "thickness": 1, "width": 0, "color": colour}
        figure.add_trace(
            go.Scatter(
                x=known_ev[of_it],
                y=mean_ev[of_it],
                error_y=bars,
                name=f"{name} moves",
                mode="markers",
                marker={"color": colour, "size": 6},
            )
        )
    ends = [float(known_ev.min()), float(known_ev.max())]
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": MUTED, "dash": "dot"}))
    figure.update_xaxes(title_text="computed barrier (eV)")
    figure.update_yaxes(title_text="predicted barrier (eV)")
    note = paragraph("The validation hops, by the latest model; bars are one predicted standard deviation.")
    return Section("Parity", note + plot(figure, name="parity", height=480))


def _times(records: Sequence[BarrierRound]) -> Section:
    figure = go.Figure()
    for stage, colour in zip(_STAGES, SERIES, strict=False):
        seconds = [record.seconds.get(stage, 0.0) for record in records]
        x = [record.index for record in records]
        figure.add_trace(go.Bar(x=x, y=seconds, name=stage, marker={"color": colour}))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="round", dtick=1)
    figure.update_yaxes(title_text="wall time (s)")
    return Section("Time", plot(figure, name="times", height=300))


def _rounds(records: Sequence[BarrierRound]) -> Section:
    species = sorted(records[-1].means_ev)
    header = ["round", "barriers", "chosen", "failed", "MAE", "within 1 σ", "new MAE", "expected"]
    header += [f"{name}: mean ± width" for name in species] + ["time (s)"]
    rows = [
        [
            str(record.index),
            str(record.n_labels),
            str(record.n_chosen),
            html.escape(", ".join(f"{n} {kind}" for kind, n in sorted(record.failures.items())) or "0"),
            f"{record.errors['mae_ev']:.4f}",
            f"{record.errors['within_1_std']:.0%}",
            _number(record.new_errors.get("mae_ev")),
            _number(record.new_errors.get("expected_mae_ev")),
            *(f"{record.means_ev[name]:.3f} ± {record.widths_ev[name]:.3f}" for name in species),
            f"{sum(record.seconds.values()):.0f}",
        ]
        for record in records
    ]
    note = '<p class="note">Energies in eV. New hops are judged by the model of the round before.</p>'
    return Section("Rounds", table(header, rows, numeric=range(len(header))) + note)


def _configuration(config: BarrierLearningConfig) -> Section:
    plain = config.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return Section("Configuration", f"<pre>{html.escape(text)}</pre>")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
