"""Best value so far against evaluations, for the campaign and the runs it is compared with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..texts import number_text, value_text
from .page import Section, paragraph, plot, table
from .record import CampaignRecord
from .style import MUTED, SERIES, translucent

_MAX_POINTS = 5000
"""Single evaluations drawn; beyond it an even sample, so that the page stays light."""


def progress(record: CampaignRecord, baselines: Sequence[CampaignRecord]) -> Section:
    """Single evaluations, best-so-far curves, and a table of them."""
    groups = _grouped([record, *baselines])
    figure = go.Figure()
    _draw_evaluations(figure, record)
    for index, (name, members) in enumerate(groups.items()):
        _draw_group(figure, name, members, SERIES[index % len(SERIES)])
    figure.update_layout(
        xaxis={"title": {"text": "evaluations, failures included"}, "rangemode": "tozero"},
        yaxis={"title": {"text": record.property_label}, "range": _interesting_range(record, baselines)},
        hovermode="closest",
    )
    body = plot(figure, name="progress", height=460)
    if len(groups) > 1 or any(len(members) > 1 for members in groups.values()):
        body = (
            paragraph(
                "Runs that differ in their seed are drawn together: the median as a line, lowest to highest as a band."
            )
            + body
            + _comparison(record, groups)
        )
    return Section("Progress", body)


def _grouped(records: Sequence[CampaignRecord]) -> dict[str, list[CampaignRecord]]:
    """Runs that differ in nothing but seed, budget and machine, under their name; with the method where names clash."""
    groups: dict[tuple[str, str], list[CampaignRecord]] = {}
    for record in records:
        deciding = {k: v for k, v in record.config.items() if k not in ("name", "seed", "budget", "execution")}
        groups.setdefault((record.name, json.dumps(deciding, sort_keys=True, default=str)), []).append(record)
    n_of_name = Counter(name for name, _ in groups)
    labelled: dict[str, list[CampaignRecord]] = {}
    for (name, _), members in groups.items():
        label = name if n_of_name[name] == 1 else f"{name}: {_method(members[0])}"
        while label in labelled:
            label += "\u2032"
        labelled[label] = members
    return labelled


def _method(record: CampaignRecord) -> str:
    """What searches: the kind of agent, or of the generator that has the budget to itself."""
    agent = record.config.get("agent", {})
    if agent.get("kind") != "direct":
        return str(agent.get("kind", "campaign"))
    return str(record.config.get("generators", {}).get(agent.get("generator"), {}).get("kind", "direct"))


def _draw_evaluations(figure: go.Figure, record: CampaignRecord) -> None:
    values = record.values()
    index = np.flatnonzero(np.isfinite(values))
    if len(index) > _MAX_POINTS:
        index = index[np.linspace(0, len(index) - 1, _MAX_POINTS).astype(int)]
    figure.add_trace(
        go.Scattergl(
            x=index + 1,
            y=values[index],
            mode="markers",
            marker={"size": 5, "color": translucent(MUTED, 0.45)},
            name="single evaluations",
            text=[record.evaluations[i].candidate.lineage.move for i in index.tolist()],
            hovertemplate="evaluation %{x}<br>%{y:.6g}<br>%{text}<extra></extra>",
        )
    )


def _draw_group(figure: go.Figure, name: str, members: Sequence[CampaignRecord], colour: str) -> None:
    """A step line for one run; median and range for several, up to the length of the shortest."""
    curves = [member.best_so_far() for member in members]
    if len(curves) == 1:
        x, median = _steps(curves[0])
    else:
        n = min(len(curve) for curve in curves)
        stack = np.array([curve[:n] for curve in curves])
        kept = np.flatnonzero(np.isfinite(stack).all(axis=0))
        kept = kept[_even_sample(len(kept))]
        low, median, high = stack[:, kept].min(axis=0), np.median(stack[:, kept], axis=0), stack[:, kept].max(axis=0)
        x = kept + 1
        figure.add_trace(
            go.Scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                fillcolor=translucent(colour, 0.15),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    label = name if len(members) == 1 else f"{name}, median of {len(members)}"
    figure.add_trace(
        go.Scatter(
            x=x,
            y=median,
            mode="lines",
            line={"color": colour, "width": 2.5, "shape": "hv"},
            name=label,
            hovertemplate="best of %{x}: %{y:.6g}<extra></extra>",
        )
    )


def _steps(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a step curve: where it changes, and its end."""
    finite = np.flatnonzero(np.isfinite(curve))
    if len(finite) == 0:
        return np.array([]), np.array([])
    changes = finite[np.concatenate([[True], np.diff(curve[finite]) != 0.0])]
    kept = np.unique(np.append(changes, len(curve) - 1))
    return kept + 1, curve[kept]


def _even_sample(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, _MAX_POINTS)).astype(int)) if n else np.array([], dtype=int)


def _interesting_range(record: CampaignRecord, baselines: Sequence[CampaignRecord]) -> list[float] | None:
    """From the poorer tenth of the labels to the best value; the rest is a double click away."""
    values = np.concatenate([r.values() for r in (record, *baselines)])
    values = values[np.isfinite(values)]
    if len(values) == 0 or values.min() == values.max():
        return None
    if record.objective.direction == "maximize":
        low, high = float(np.quantile(values, 0.1)), float(values.max())
    else:
        low, high = float(values.min()), float(np.quantile(values, 0.9))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return [low - margin, high + margin]


def _comparison(record: CampaignRecord, groups: dict[str, list[CampaignRecord]]) -> str:
    """Best values at equal numbers of evaluations."""
    shortest = min(len(member.evaluations) for members in groups.values() for member in members)
    stops = sorted({n for n in (50, 100, 200, 400, 1000, 2000, 5000) if n < shortest} | ({shortest} - {0}))
    rows = []
    for name, members in groups.items():
        cells = [f"{name} ({len(members)} run{'s' if len(members) > 1 else ''})"]
        for n in stops:
            at_n = np.array([member.best_so_far()[n - 1] for member in members])
            spread = f" ({value_text(at_n.min())} – {value_text(at_n.max())})" if len(at_n) > 1 else ""
            cells.append(value_text(float(np.median(at_n))) + spread)
        rows.append(cells)
    header = ["", *(f"after {number_text(n)}" for n in stops)]
    return f"<h3>Best {record.property_label}</h3>" + table(header, rows, numeric=range(1, len(header)))
