"""Barriers over the composition triangle, along a line of compositions, and along a run towards chemical order."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError

from ...surrogates.barriers.spectra import Direction, Spectrum
from ..barrier_spectra import SampleSpectra
from .page import Section, plot
from .style import SCALE, SERIES

_OFF_LINE = 0.01  # atomic fraction; cells hold whole atoms
_N_SHADES = 54
"""Points along an edge of the triangle that colours are interpolated on."""
_N_CURVES = 6
_LIGHT_SCALE = "Blues"
_BACK_NOTE = "Forward hops; dotted: means of the hops back."


def is_run(found: Sequence[SampleSpectra]) -> bool:
    """Whether the samples are snapshots of one run."""
    steps = {sample.md_step for sample in found}
    return None not in steps and len(steps) > 1 and len({sample.composition for sample in found}) == 1


def line_element(found: Sequence[SampleSpectra], elements: Sequence[str]) -> str | None:
    """The element whose fraction varies most, if the compositions lie on a line; else nothing."""
    points = fractions_of(found, elements)
    if len(np.unique(points.round(6), axis=0)) < 3:
        return None
    centred = points - points.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    off = np.linalg.norm(centred - np.outer(centred @ direction, direction), axis=1)
    if off.max() > _OFF_LINE:
        return None
    return elements[int(np.ptp(points, axis=0).argmax())]


def moving_species(found: Sequence[SampleSpectra]) -> list[str]:
    """The elements that move, alphabetically."""
    return sorted({symbol for sample in found for symbol in sample.spectra["forward"]})


def fractions_of(found: Sequence[SampleSpectra], elements: Sequence[str]) -> np.ndarray:
    """Atomic fractions ``[n_samples, n_elements]``."""
    return np.array([[sample.fractions.get(element, 0.0) for element in elements] for sample in found])


def triangle_section(found: Sequence[SampleSpectra], elements: Sequence[str]) -> Section | None:
    """Mean and spread of each moving species over the triangle; nothing if there are other than three elements."""
    points = fractions_of(found, elements)
    if len(elements) != 3 or len(np.unique(points.round(6), axis=0)) < 4:
        return None
    figure = make_subplots(
        rows=2,
        cols=3,
        specs=[[{"type": "ternary"}] * 3] * 2,
        subplot_titles=[f"{s} moves: {what} (eV)" for what in ("mean", "spread") for s in elements],
        horizontal_spacing=0.08,
        vertical_spacing=0.14,
    )
    for row, what in enumerate(("mean_ev", "std_ev"), start=1):
        for column, species in enumerate(elements, start=1):
            has_it = [k for k, sample in enumerate(found) if species in sample.spectra["forward"]]
            values = np.array([getattr(found[k].spectra["forward"][species], what) for k in has_it])
            texts = [f"{found[k].composition}: {v:.3f} eV" for k, v in zip(has_it, values, strict=True)]
            _add_triangle(figure, points[has_it], values, texts, row, column)
    _style_triangles(figure, elements)
    note = (
        '<p class="note">Points are the samples; colours between them are interpolated. The spread is the standard '
        "deviation of the barriers of one sample.</p>"
    )
    return Section("Over the composition triangle", plot(figure, name="triangle", height=760) + note)


def line_section(found: Sequence[SampleSpectra], elements: Sequence[str]) -> Section:
    """Mean, spread and spectra along a line of compositions."""
    element = line_element(found, elements)
    ordered = sorted(found, key=lambda sample: sample.fractions.get(element or "", 0.0))
    x = [100.0 * sample.fractions.get(element or "", 0.0) for sample in ordered]
    title = f"{element} (at.%)"
    body = plot(_means_and_spreads(ordered, x, title), name="line", height=380)
    body += plot(_heat_maps(ordered, x, title), name="line-spectra", height=400)
    ends = f"From {ordered[0].composition} to {ordered[-1].composition}."
    note = f'<p class="note">{html.escape(f"{ends} {_BACK_NOTE} Below, each column of colours is a spectrum.")}</p>'
    return Section("Along the line of compositions", body + note)


def run_section(found: Sequence[SampleSpectra]) -> Section:
    """Mean and spread along a run beside its order and energy, and the spectra of some steps."""
    ordered = sorted(found, key=lambda sample: sample.md_step or 0)
    x = [float(sample.md_step or 0) for sample in ordered]
    figure = make_subplots(rows=2, cols=2, horizontal_spacing=0.1, vertical_spacing=0.24)
    _add_means_and_spreads(figure, ordered, x)
    for k, pair in enumerate(pair for pair in ordered[0].delta if pair.endswith(" 1")):
        line = {"color": SERIES[(k + 3) % len(SERIES)], "width": 1.6}
        name = pair.removesuffix(" 1").replace("-", "–")
        y = [sample.delta[pair] for sample in ordered]
        trace = go.Scatter(x=x, y=y, mode="lines+markers", name=name, line=line, legend="legend2")
        figure.add_trace(trace, row=2, col=1)
    figure.update_yaxes(title={"text": "pairs beyond random"}, row=2, col=1)
    if np.isfinite([sample.energy_ev_per_atom for sample in ordered]).any():
        y = [sample.energy_ev_per_atom for sample in ordered]
        line = {"color": SERIES[0], "width": 1.6}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines+markers", line=line, showlegend=False), row=2, col=2)
        figure.update_yaxes(title={"text": "inherent energy (eV/atom)"}, row=2, col=2)
    figure.update_traces(marker={"size": 5})
    figure.update_xaxes(title={"text": "step"}, row=2)
    figure.update_layout(legend2={"orientation": "h", "x": 0.0, "y": 0.39, "yanchor": "bottom"})
    body = plot(figure, name="run", height=640) + plot(_overlaid(ordered), name="run-spectra", height=380)
    note = (
        f"{_BACK_NOTE} Pairs beyond random: of first neighbours, by the number of atoms, counted on the lattice "
        "whatever the displacements."
    )
    return Section("Along the run", f'{body}<p class="note">{html.escape(note)}</p>')


def _add_triangle(
    figure: go.Figure, points: np.ndarray, values: np.ndarray, texts: Sequence[str], row: int, column: int
) -> None:
    """Interpolated colours, and the samples as points."""
    place = {"row": row, "col": column}
    # the panels have fixed places: see _style_triangles
    bar = {
        "orientation": "h",
        "len": 0.22,
        "thickness": 10,
        "x": (column - 0.5) / 3.0,
        "xanchor": "center",
        "y": 0.53 if row == 1 else -0.07,
        "yanchor": "top",
        "outlinewidth": 0,
        "nticks": 5,
    }
    shades, colours = _interpolated(points, values)
    common = {"cmin": float(values.min()), "cmax": float(values.max()), "colorscale": SCALE}
    if len(shades):
        marker = {"color": colours, "size": 7, "symbol": "hexagon", "line": {"width": 0}, **common}
        figure.add_trace(
            go.Scatterternary(
                a=shades[:, 0],
                b=shades[:, 1],
                c=shades[:, 2],
                mode="markers",
                marker=marker,
                hoverinfo="skip",
                showlegend=False,
                cliponaxis=False,
            ),
            **place,
        )
    marker = {"color": values, "size": 6, "line": {"width": 0.8, "color": "white"}, "colorbar": bar, **common}
    figure.add_trace(
        go.Scatterternary(
            a=points[:, 0],
            b=points[:, 1],
            c=points[:, 2],
            mode="markers",
            marker=marker,
            hovertext=list(texts),
            hoverinfo="text",
            showlegend=False,
            cliponaxis=False,
        ),
        **place,
    )


def _interpolated(points: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions ``[n, 3]`` on a fine grid between the points, and the values there."""
    n = _N_SHADES
    a, b = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    grid = np.stack([a, b, n - a - b], axis=-1)[a + b <= n] / n
    try:
        found = LinearNDInterpolator(points[:, :2], values)(grid[:, :2])
    except (QhullError, ValueError):  # too few points, or all of them on a line
        return np.zeros((0, 3)), np.zeros(0)
    is_known = np.isfinite(found)
    return grid[is_known], found[is_known]


def _style_triangles(figure: go.Figure, elements: Sequence[str]) -> None:
    axis = {"showticklabels": False, "ticks": "", "showgrid": False, "linecolor": "#b8c4cf", "min": 0.0}
    for row in (1, 2):
        for column in (1, 2, 3):
            domain = {
                "x": [(column - 1) / 3.0 + 0.03, column / 3.0 - 0.03],
                "y": [0.58, 0.94] if row == 1 else [0.0, 0.36],
            }
            titles = {
                f"{letter}axis": {**axis, "title": {"text": element, "font": {"size": 13}}}
                for letter, element in zip("abc", elements, strict=True)
            }
            figure.update_ternaries(sum=1, bgcolor="rgba(0,0,0,0)", domain=domain, row=row, col=column, **titles)
    for k, annotation in enumerate(figure.layout.annotations):
        annotation.update(x=(k % 3 + 0.5) / 3.0, y=1.0 if k < 3 else 0.42, yanchor="bottom", font={"size": 14})
    figure.update_layout(margin={"t": 40, "b": 70, "l": 10, "r": 10})


def _means_and_spreads(found: Sequence[SampleSpectra], x: Sequence[float], title: str) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    _add_means_and_spreads(figure, found, x)
    figure.update_xaxes(title={"text": title})
    figure.update_traces(marker={"size": 5})
    return figure


def _add_means_and_spreads(figure: go.Figure, found: Sequence[SampleSpectra], x: Sequence[float]) -> None:
    """Two panels, with a curve for each moving species; means of the hops back are dotted."""
    panels: tuple[tuple[str, int, Direction], ...]
    panels = (("mean_ev", 1, "forward"), ("mean_ev", 1, "backward"), ("std_ev", 2, "forward"))
    for what, column, direction in panels:
        for k, symbol in enumerate(moving_species(found)):
            spectra = [sample.spectra.get(direction, {}).get(symbol) for sample in found]
            of_it = [(at, spectrum) for at, spectrum in zip(x, spectra, strict=True) if spectrum is not None]
            is_first = (what, direction) == ("mean_ev", "forward")
            dash, width = ("solid", 1.8) if direction == "forward" else ("dot", 1.2)
            figure.add_trace(
                go.Scatter(
                    x=[at for at, _ in of_it],
                    y=[getattr(spectrum, what) for _, spectrum in of_it],
                    mode="lines+markers" if direction == "forward" else "lines",
                    name=f"{symbol} moves",
                    legendgroup=symbol,
                    showlegend=is_first,
                    line={"color": SERIES[k % len(SERIES)], "width": width, "dash": dash},
                ),
                row=1,
                col=column,
            )
    for column, text in ((1, "mean barrier (eV)"), (2, "spread (eV)")):
        figure.update_yaxes(title={"text": text}, row=1, col=column)


def _heat_maps(found: Sequence[SampleSpectra], x: Sequence[float], title: str) -> go.Figure:
    """The spectra of each moving species as columns of colour, each by its own highest bin."""
    species = moving_species(found)
    figure = make_subplots(rows=1, cols=len(species), shared_yaxes=True, horizontal_spacing=0.03)
    for column, symbol in enumerate(species, start=1):
        centres, density = _on_common_bins([sample.spectra["forward"].get(symbol) for sample in found])
        figure.add_trace(
            go.Heatmap(
                x=list(x),
                y=centres,
                z=density / density.max(axis=0),
                customdata=density,
                coloraxis="coloraxis",
                hovertemplate="%{x:.1f} at.%, %{y:.2f} eV: %{customdata:.2f} hops per eV<extra></extra>",
            ),
            row=1,
            col=column,
        )
        figure.update_xaxes(title={"text": f"{symbol} moves; {title}"}, row=1, col=column)
    figure.update_yaxes(title={"text": "barrier (eV)"}, col=1)
    bar = {"thickness": 12, "outlinewidth": 0, "title": {"text": "share of the highest", "side": "right"}}
    figure.update_layout(coloraxis={"colorscale": _LIGHT_SCALE, "colorbar": bar, "cmin": 0.0})
    return figure


def _on_common_bins(spectra: Sequence[Spectrum | None]) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the bins that hold any, ``[n_bins]``, and densities ``[n_bins, n_spectra]``; NaN without hops."""
    known = [s for s in spectra if s is not None]
    first = min(s.first_bin for s in known)
    n_bins = max(s.first_bin + len(s.counts) for s in known) - first
    density = np.zeros((n_bins, len(spectra)))
    for k, spectrum in enumerate(spectra):
        if spectrum is None:
            density[:, k] = np.nan
        else:
            start = spectrum.first_bin - first
            density[start : start + len(spectrum.counts), k] = spectrum.density_per_ev
    return (first + 0.5 + np.arange(n_bins)) * known[0].bin_ev, density


def _overlaid(found: Sequence[SampleSpectra]) -> go.Figure:
    """The spectra of some of the samples, from dark to light."""
    species = moving_species(found)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(_N_CURVES, len(found))).round().astype(int)).tolist()
    colours = sample_colorscale(SCALE, np.linspace(0.0, 0.9, len(chosen)).tolist())
    figure = make_subplots(rows=1, cols=len(species), horizontal_spacing=0.07)
    for k, colour in zip(chosen, colours, strict=True):
        for column, symbol in enumerate(species, start=1):
            spectrum = found[k].spectra["forward"][symbol].smooth_enough()
            figure.add_trace(
                go.Scatter(
                    x=0.5 * (spectrum.edges_ev[1:] + spectrum.edges_ev[:-1]),
                    y=spectrum.density_per_ev,
                    mode="lines",
                    name=f"step {found[k].md_step or 0:,}",
                    legendgroup=str(k),
                    showlegend=column == 1,
                    line={"color": colour, "width": 1.8},
                ),
                row=1,
                col=column,
            )
    for column, symbol in enumerate(species, start=1):
        figure.update_xaxes(title={"text": f"{symbol} moves: barrier (eV)"}, row=1, col=column)
    figure.update_yaxes(title={"text": "hops per eV"}, col=1)
    figure.update_yaxes(rangemode="tozero")
    return figure
