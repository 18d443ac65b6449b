"""The page of predicted barrier spectra: spectra by moving species, over compositions, along a run. One HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ... import __version__
from ...surrogates.barriers.base import BarrierSpec
from ...surrogates.barriers.spectra import Spectrum, pooled
from ..barrier_spectra import SampleSpectra, elements_of
from .barrier_maps import is_run, line_element, line_section, moving_species, run_section, triangle_section
from .page import Section, page, paragraph, plot, table
from .style import MUTED, SERIES, translucent

_MAX_TOGETHER = 6
"""Alloys whose spectra are drawn over one another; of more, one is chosen from a list."""
_MAX_TABLE_ROWS = 400


def spectra_page(found: Sequence[SampleSpectra], spec: BarrierSpec, title: str) -> str:
    """The HTML document.

    Args:
        found: at least one sample.
        spec: of the model.
        title: plain text.
    """
    elements = elements_of(found)
    sections = [_overall(found), _spectra(found)]
    if is_run(found):
        sections.append(run_section(found))
    elif line_element(found, elements) is not None:
        sections.append(line_section(found, elements))
    elif (triangle := triangle_section(found, elements)) is not None:
        sections.append(triangle)
    sections.append(_figures(found))
    n_hops = sum(sample.n_hops for sample in found)
    samples = f"{len(found)} samples" if len(found) > 1 else html.escape(found[0].composition)
    lead = (
        f"{n_hops:,} barriers of vacancy hops in {samples}, {sum(s.n_atoms for s in found):,} atoms in all, predicted "
        f"by a model of kind {html.escape(spec.kind)} that was fitted to {spec.n_train:,} hops."
    )
    return page(title, lead, sections, f"Alloysmith {html.escape(__version__)}", kicker="Alloysmith barrier spectra")


def step_outline(spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a histogram's outline, from zero to zero: barriers (eV) and densities (1/eV)."""
    drawn = spectrum.smooth_enough()
    edges, density = drawn.edges_ev, drawn.density_per_ev
    return np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(density, 2), [0.0]])


def _overall(found: Sequence[SampleSpectra]) -> Section:
    rows = []
    for direction in found[0].spectra:
        for species in moving_species(found):
            spectrum = pooled([s.spectra[direction][species] for s in found if species in s.spectra[direction]])
            figures = (spectrum.mean_ev, spectrum.std_ev, *(spectrum.quantile_ev(q) for q in (0.05, 0.5, 0.95)))
            cells = [f"{value:.3f}" for value in (*figures, spectrum.error_ev)]
            rows.append([html.escape(species), direction, f"{spectrum.n_hops:,}", *cells])
    header = ["moves", "direction", "hops", "mean (eV)", "spread (eV)", "5 %", "median", "95 %", "error to expect (eV)"]
    note = (
        "Forward: from the relaxed vacancy. Backward: from the state after the hop, over the same saddle. The spread "
        "is that of the predicted barriers; the error to expect of each comes on top of it."
    )
    return Section("All samples together", table(header, rows, numeric=range(2, len(header))) + _note(note))


def _spectra(found: Sequence[SampleSpectra]) -> Section:
    species = moving_species(found)
    figure = make_subplots(rows=1, cols=len(species), horizontal_spacing=0.07)
    if len(found) <= _MAX_TOGETHER:
        for k, sample in enumerate(found):
            _add_sample(figure, sample, species, SERIES[k % len(SERIES)], is_filled=len(found) == 1)
        note = "Dotted: the hops back." if "backward" in found[0].spectra else ""
    else:
        _add_choice(figure, found, species)
        note = "Grey: all samples together. Choose one from the list" + (
            "; dotted: its hops back." if "backward" in found[0].spectra else "."
        )
    for column, symbol in enumerate(species, start=1):
        figure.update_xaxes(title={"text": f"{symbol} moves: barrier (eV)"}, matches="x", row=1, col=column)
    figure.update_yaxes(title={"text": "hops per eV"}, col=1)
    figure.update_yaxes(rangemode="tozero")
    return Section("Spectra", plot(figure, name="spectra", height=420) + _note(note))


def _add_sample(
    figure: go.Figure,
    sample: SampleSpectra,
    species: Sequence[str],
    colour: str,
    *,
    is_filled: bool = False,
    is_visible: bool = True,
) -> None:
    """The traces of a sample: two for each species that moves, of which the second may be empty."""
    for column, symbol in enumerate(species, start=1):
        for direction in ("forward", "backward"):
            spectrum = sample.spectra.get(direction, {}).get(symbol)
            x, y = step_outline(spectrum) if spectrum is not None else (np.zeros(0), np.zeros(0))
            is_forward = direction == "forward"
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    name=_label(sample),
                    legendgroup=sample.name,
                    showlegend=is_forward and column == 1,
                    visible=is_visible,
                    line={
                        "color": colour,
                        "width": 1.8 if is_forward else 1.2,
                        "dash": "solid" if is_forward else "dot",
                    },
                    fill="tozeroy" if is_filled and is_forward else None,
                    fillcolor=translucent(colour, 0.15),
                    hovertemplate=f"{html.escape(_label(sample))}, {direction}: %{{x:.3f}} eV<extra></extra>",
                ),
                row=1,
                col=column,
            )


def _add_choice(figure: go.Figure, found: Sequence[SampleSpectra], species: Sequence[str]) -> None:
    """All samples together in grey, and a list to choose one from."""
    for column, symbol in enumerate(species, start=1):
        x, y = step_outline(pooled([s.spectra["forward"][symbol] for s in found if symbol in s.spectra["forward"]]))
        line = {"color": MUTED, "width": 1.0}
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                line=line,
                fill="tozeroy",
                fillcolor=translucent(MUTED, 0.18),
                name="all together",
                showlegend=column == 1,
                hoverinfo="skip",
            ),
            row=1,
            col=column,
        )
    n_each = 2 * len(species)
    most_mixed = int(np.argmin([sum(x**2 for x in sample.fractions.values()) for sample in found]))
    for k, sample in enumerate(found):
        _add_sample(figure, sample, species, SERIES[0], is_visible=k == most_mixed)
    buttons = []
    for k, sample in enumerate(found):
        is_shown = [True] * len(species) + [False] * (n_each * len(found))
        is_shown[len(species) + k * n_each : len(species) + (k + 1) * n_each] = [True] * n_each
        buttons.append({"label": _label(sample), "method": "restyle", "args": [{"visible": is_shown}]})
    place = {"x": 0.0, "xanchor": "left", "y": 1.14, "yanchor": "bottom"}
    figure.update_layout(updatemenus=[{"buttons": buttons, "active": most_mixed, "bgcolor": "white", **place}])


def _label(sample: SampleSpectra) -> str:
    return sample.composition if sample.md_step is None else f"step {sample.md_step:,}"


def _figures(found: Sequence[SampleSpectra]) -> Section:
    rows = [
        [
            html.escape(sample.name),
            html.escape(_label(sample)),
            html.escape(species),
            f"{spectrum.n_hops:,}",
            *(
                f"{value:.3f}"
                for value in (
                    spectrum.mean_ev,
                    spectrum.std_ev,
                    *(spectrum.quantile_ev(q) for q in (0.05, 0.5, 0.95)),
                    spectrum.error_ev,
                )
            ),
        ]
        for sample in found
        for species, spectrum in sample.spectra["forward"].items()
    ]
    header = ["structure", "", "moves", "hops", "mean (eV)", "spread (eV)", "5 %", "median", "95 %", "error (eV)"]
    more = f"The first {_MAX_TABLE_ROWS} of {len(rows)} rows. " if len(rows) > _MAX_TABLE_ROWS else ""
    body = table(header, rows[:_MAX_TABLE_ROWS], numeric=range(3, len(header)))
    note = paragraph(f"{more}Forward hops; spectra.csv beside this page has all figures, histograms.csv the spectra.")
    return Section("Figures", f"{note}<details><summary>Table</summary>{body}</details>")


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>' if text else ""
