"""The card of a model of forces: known and predicted forces of held-out atoms, as in the paper's Fig. 5."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ... import __version__
from ...surrogates.voxels.model import ForcePairs, VoxelForceModel
from .page import Section, page, paragraph, plot, table
from .style import INK, MUTED, SERIES

_AXES = ("x", "y", "z")
_PARTS = ("test", "validation", "training")
_MAX_POINTS = 2000
_N_BINS = 60


def force_card(model: VoxelForceModel, name: str) -> str:
    """The HTML document. Sections that the model holds nothing for are left out."""
    grid = model.settings.grid
    lead = (
        f"Forces of {html.escape(', '.join(model.spec.elements))} by a {html.escape(model.spec.kind)} network on "
        f"{grid.n_voxels}³ voxels of the {grid.box} box within {grid.cutoff_ang:g} Å, fitted to "
        f"{model.spec.n_train:,} atoms."
    )
    sections = [_errors(model.spec.facts.get("errors", {}))]
    if model.held_out is not None:
        sections += [_parity(model.held_out), _distributions(model.held_out)]
    shown = [section for section in sections if section is not None]
    return page(name, lead, shown, f"Alloysmith {html.escape(__version__)}", kicker="Alloysmith card of a force model")


def _errors(errors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Section | None:
    if not errors:
        return None
    rows = []
    for part in sorted(errors, key=_PARTS.index):
        for name, row in sorted(errors[part].items(), key=lambda item: _place(item[0])):
            label = f"<strong>{html.escape(part)}</strong>" if name == "all" else ""
            figures = (row["rms_force"], row["mae"], row["rmse"], row["r"], *row["r_xyz"])
            cells = ["–" if value is None else f"{value:.4f}" for value in figures]  # r of forces that do not vary
            rows.append([label, html.escape(name), f"{row['n_atoms']:,}", *cells])
    header = ["atoms", "of", "n", "force (eV/Å)", "MAE", "RMSE", "Pearson r", "x", "y", "z"]
    note = paragraph("Test snapshots were never learnt from; validation snapshots chose the weights.")
    return Section("Errors", note + table(header, rows, numeric=range(2, len(header))))


def _parity(pairs: ForcePairs) -> Section:
    titles = [f"F<sub>{axis}</sub>, r = {_correlation(pairs, k):.3f}" for k, axis in enumerate(_AXES)]
    figure = make_subplots(rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.08)
    step = max(1, len(pairs.known) // _MAX_POINTS)
    reach = float(max(np.abs(pairs.known).max(), np.abs(pairs.predicted).max()))
    for k in range(3):
        points = go.Scattergl(
            x=pairs.known[::step, k],
            y=pairs.predicted[::step, k],
            mode="markers",
            marker={"size": 3, "color": SERIES[0], "opacity": 0.5},
            showlegend=False,
        )
        diagonal = go.Scatter(
            x=[-reach, reach], y=[-reach, reach], mode="lines", line={"color": MUTED, "dash": "dot"}, showlegend=False
        )
        figure.add_trace(points, row=1, col=k + 1)
        figure.add_trace(diagonal, row=1, col=k + 1)
        figure.update_xaxes(title_text="known (eV/Å)", row=1, col=k + 1)
    figure.update_yaxes(title_text="predicted (eV/Å)", row=1, col=1)
    shown = f"{len(pairs.known[::step]):,} of {len(pairs.known):,}" if step > 1 else f"{len(pairs.known):,}"
    note = paragraph(f"{shown} held-out atoms; r is of {len(pairs.known):,}.")
    return Section("Known and predicted forces", note + plot(figure, name="parity", height=400))


def _distributions(pairs: ForcePairs) -> Section:
    figure = make_subplots(rows=2, cols=3, horizontal_spacing=0.08, vertical_spacing=0.14)
    for k, axis in enumerate(_AXES):
        figure.update_xaxes(title_text=f"F<sub>{axis}</sub> (eV/Å)", row=1, col=k + 1)
        for name, values, colour in (
            ("known", pairs.known[:, k], SERIES[0]),
            ("predicted", pairs.predicted[:, k], SERIES[1]),
        ):
            counts, edges = np.histogram(values, bins=_N_BINS, density=True)
            middles = 0.5 * (edges[1:] + edges[:-1])
            line = {"color": colour, "shape": "hvh"}
            first = k == 0
            curve = go.Scatter(
                x=middles, y=counts, name=name, mode="lines", line=line, legendgroup=name, showlegend=first
            )
            figure.add_trace(curve, row=1, col=k + 1)
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            ends = np.quantile(values, [0.01, 0.99])
            box = go.Box(
                x=[name],
                q1=[low],
                median=[middle],
                q3=[high],
                lowerfence=[ends[0]],
                upperfence=[ends[1]],
                fillcolor=colour,
                line={"color": INK},
                showlegend=False,
            )
            figure.add_trace(box, row=2, col=k + 1)
    figure.update_yaxes(title_text="density", row=1, col=1)
    figure.update_yaxes(title_text="force (eV/Å)", row=2, col=1)
    note = paragraph("Boxes: median and quartiles; whiskers: 1 and 99 % of the atoms.")
    return Section("Distributions", note + plot(figure, name="distributions", height=640))


def _place(name: str) -> tuple[int, float, str]:
    """All atoms first, then species, then temperatures in their order."""
    if name == "all":
        return 0, 0.0, name
    try:
        return 2, float(name), name
    except ValueError:
        return 1, 0.0, name


def _correlation(pairs: ForcePairs, axis: int) -> float:
    known, predicted = pairs.known[:, axis].astype(float), pairs.predicted[:, axis].astype(float)
    a, b = known - known.mean(), predicted - predicted.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0.0 else float("nan")
