"""The objective over composition: a line, a triangle, or pairs of elements."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from ...generators.base import Evaluation
from .page import Section, paragraph, plot
from .record import CampaignRecord
from .style import PHASE_SYMBOLS, SCALE, SERIES

_MAX_POINTS = 4000
"""Points drawn: the best ones and an even sample of the others."""


def composition(record: CampaignRecord) -> Section | None:
    """Every labelled evaluation over its composition, good ones on top; nothing for a pure element."""
    shown = _shown(record)
    if not shown or len(record.elements) < 2:
        return None
    fractions = np.array([_fractions(e, record.elements) for e in shown])
    values = np.array([record.value(e) for e in shown])
    if len(record.elements) == 2:
        body = plot(_line(record, shown, fractions, values), name="composition")
    elif len(record.elements) == 3:
        body = plot(_triangle(record, shown, fractions, values), name="composition", height=620)
    else:
        intro = "Each panel shows the fractions of two elements, coloured by the objective; good ones lie on top."
        figure = _pairs(record, shown, fractions, values)
        body = paragraph(intro) + plot(figure, name="composition", height=180 + 140 * len(record.elements))
    return Section("Composition", body)


def _shown(record: CampaignRecord) -> list[Evaluation]:
    """Worst first, so that good points are drawn over poor ones."""
    ranked = record.best(len(record.evaluations))
    if len(ranked) > _MAX_POINTS:
        n_best = _MAX_POINTS // 4
        rest = ranked[n_best:]
        sample = np.linspace(0, len(rest) - 1, _MAX_POINTS - n_best).astype(int)
        ranked = ranked[:n_best] + [rest[i] for i in sample]
    return ranked[::-1]


def _fractions(evaluation: Evaluation, elements: tuple[str, ...]) -> list[float]:
    atoms = evaluation.candidate.atoms
    counts = atoms.symbols.formula.count()
    return [counts.get(element, 0) / len(atoms) for element in elements]


def _texts(record: CampaignRecord, shown: list[Evaluation], fractions: np.ndarray, values: np.ndarray) -> list[str]:
    lines = []
    for evaluation, x, value in zip(shown, fractions, values, strict=True):
        parts = ", ".join(f"{e} {100 * f:.1f} %" for e, f in zip(record.elements, x, strict=True))
        phase, move = evaluation.candidate.phase, evaluation.candidate.lineage.move
        lines.append(f"<b>{value:.6g}</b> {record.unit}<br>{phase}, {parts}<br>{evaluation.request_id}, {move}")
    return lines


def _colour_range(record: CampaignRecord, values: np.ndarray) -> tuple[float, float]:
    """The better 95 % of the values: a few very poor ones would take all the colours."""
    if record.objective.direction == "maximize":
        return float(np.quantile(values, 0.05)), float(values.max())
    return float(values.min()), float(np.quantile(values, 0.95))


def _marker(record: CampaignRecord, values: np.ndarray, *, bar: bool) -> dict[str, object]:
    low, high = _colour_range(record, values)
    colour_bar = {"title": {"text": record.property_label, "side": "right"}, "thickness": 14, "outlinewidth": 0}
    return {
        "color": values,
        "colorscale": SCALE,
        "reversescale": record.objective.direction == "minimize",
        "cmin": low,
        "cmax": high,
        "showscale": bar,
        **({"colorbar": colour_bar} if bar else {}),
    }


def _phases(shown: list[Evaluation]) -> dict[str, np.ndarray]:
    phases = np.array([e.candidate.phase for e in shown])
    return {str(phase): np.flatnonzero(phases == phase) for phase in sorted(set(phases), reverse=True)}


def _line(record: CampaignRecord, shown: list[Evaluation], fractions: np.ndarray, values: np.ndarray) -> go.Figure:
    figure = go.Figure()
    texts = np.array(_texts(record, shown, fractions, values))
    for index, (phase, members) in enumerate(_phases(shown).items()):
        figure.add_trace(
            go.Scatter(
                x=fractions[members, 1],
                y=values[members],
                mode="markers",
                name=phase.upper(),
                marker={"symbol": PHASE_SYMBOLS.get(phase, "circle"), "size": 7, "color": SERIES[index]},
                hovertext=texts[members],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(title={"text": f"fraction of {record.elements[1]}"})
    figure.update_yaxes(title={"text": record.property_label})
    return figure


def _triangle(record: CampaignRecord, shown: list[Evaluation], fractions: np.ndarray, values: np.ndarray) -> go.Figure:
    figure = go.Figure()
    texts = np.array(_texts(record, shown, fractions, values))
    for index, (phase, members) in enumerate(_phases(shown).items()):
        marker = _marker(record, values, bar=index == 0) | {"color": values[members]}
        figure.add_trace(
            go.Scatterternary(
                a=fractions[members, 0],
                b=fractions[members, 1],
                c=fractions[members, 2],
                mode="markers",
                cliponaxis=False,
                name=phase.upper(),
                marker=marker
                | {
                    "symbol": PHASE_SYMBOLS.get(phase, "circle"),
                    "size": 9,
                    "opacity": 0.9,
                    "line": {"width": 0.5, "color": "white"},
                },
                hovertext=texts[members],
                hoverinfo="text",
            )
        )
    common = {"tickformat": ".0%", "gridcolor": "#dfe5eb", "ticks": "", "tickvals": [0.2, 0.4, 0.6, 0.8]}
    axes = {
        f"{axis}axis": {"title": {"text": f"<b>{element}</b>"}, **common}
        for axis, element in zip("abc", record.elements, strict=True)
    }
    figure.update_layout(ternary={"sum": 1, "bgcolor": "rgba(0,0,0,0)", **axes})
    return figure


def _pairs(record: CampaignRecord, shown: list[Evaluation], fractions: np.ndarray, values: np.ndarray) -> go.Figure:
    columns = [
        {"label": element, "values": fractions[:, index], "axis": {"matches": False}}
        for index, element in enumerate(record.elements)
    ]
    marker = _marker(record, values, bar=True) | {
        "size": 5,
        "symbol": [PHASE_SYMBOLS.get(e.candidate.phase, "circle") for e in shown],
    }
    return go.Figure(
        go.Splom(
            dimensions=columns,
            marker=marker,
            diagonal={"visible": False},
            showupperhalf=False,
            text=_texts(record, shown, fractions, values),
            hoverinfo="text",
        )
    )
