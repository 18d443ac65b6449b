"""Which generator proposed what, and what came of it, as the campaign went on."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...generators.base import History
from ...generators.portfolio import PortfolioSettings, credit
from ...generators.seen import HistoryIndex
from ...structures.settings import SystemSettings
from ..texts import number_text, value_text
from .page import Section, paragraph, plot, table
from .record import CampaignRecord
from .style import SERIES

_N_BINS = 20
_LEAST_IN_BIN = 10


@dataclass(frozen=True)
class _Work:
    """What one generator did.

    Attributes:
        name: of the generator.
        positions: of its evaluations among all, int ``[n]``.
        yields: of each of them, see :func:`~alloysmith.generators.portfolio.credit`.
        n_new_best: how many were better than all before.
    """

    name: str
    positions: np.ndarray
    yields: np.ndarray
    n_new_best: int


def generators(record: CampaignRecord) -> Section | None:
    """Shares and yields of generators over the evaluations, and a table; nothing where there is only one."""
    names = list(dict.fromkeys(e.candidate.lineage.generator for e in record.evaluations))
    if len(names) < 2:
        return None
    n_best = _n_best(record)
    works = _works(record, names, n_best)
    intro = (
        "An evaluation yields 1 as the best structure so far, evenly less down to 0 behind the best tenth of the "
        f"different structures so far, or the best {n_best}; as a failure or a repetition it yields nothing."
    )
    body = paragraph(intro) + plot(_figure(works, len(record.evaluations)), name="generators", height=520)
    return Section("Generators", body + _table(record, works))


def _n_best(record: CampaignRecord) -> int:
    """How many structures count: what the campaign's portfolio goes by, if it has one."""
    for settings in record.config.get("generators", {}).values():
        if settings.get("kind") == "portfolio":
            return int(settings["n_best"])
    return int(PortfolioSettings.model_fields["n_best"].default)


def _works(record: CampaignRecord, names: list[str], n_best: int) -> list[_Work]:
    """The work of each generator."""
    space = SystemSettings.model_validate(record.config["system"]).space()
    index = HistoryIndex(space, record.objective)
    index.read_on(History(record.objective, record.evaluations))
    works = []
    for name in names:
        arrivals = index.arrivals(name)
        yields = np.array([credit(arrival, n_best) for arrival in arrivals])
        n_new_best = sum(arrival.rank == 0 for arrival in arrivals)
        works.append(_Work(name, np.array([arrival.position for arrival in arrivals]), yields, n_new_best))
    return works


def _figure(works: list[_Work], n: int) -> go.Figure:
    width = max(_LEAST_IN_BIN, -(-n // _N_BINS))
    edges = np.unique(np.arange(0, n + width, width).clip(max=n))
    middle, size = (edges[:-1] + edges[1:]) / 2.0, np.diff(edges)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for number, work in enumerate(works):
        colour = SERIES[number % len(SERIES)]
        name = html.escape(work.name)
        count, _ = np.histogram(work.positions, edges)
        total, _ = np.histogram(work.positions, edges, weights=work.yields)
        figure.add_trace(
            go.Bar(
                x=middle,
                y=count / size,
                width=size,
                name=name,
                legendgroup=name,
                marker={"color": colour, "line": {"width": 1, "color": "white"}},
                customdata=np.stack([count, edges[:-1] + 1, edges[1:]], axis=1),
                hovertemplate="%{customdata[0]} of evaluations %{customdata[1]} to %{customdata[2]}",
            ),
            row=1,
            col=1,
        )
        mean = np.divide(total, count, out=np.full(len(size), np.nan), where=count > 0)
        figure.add_trace(
            go.Scatter(
                x=middle,
                y=mean,
                mode="lines+markers",
                connectgaps=True,
                name=name,
                legendgroup=name,
                showlegend=False,
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate="%{y:.3f} per evaluation",
            ),
            row=2,
            col=1,
        )
    figure.update_layout(barmode="stack", bargap=0.0, hovermode="closest")
    figure.update_yaxes(title={"text": "share"}, tickformat=".0%", range=[0.0, 1.0], row=1, col=1)
    figure.update_yaxes(title={"text": "yield per evaluation"}, rangemode="tozero", row=2, col=1)
    figure.update_xaxes(range=[0.0, float(n)])
    figure.update_xaxes(title={"text": "evaluations, failures included"}, row=2, col=1)
    return figure


def _table(record: CampaignRecord, works: list[_Work]) -> str:
    n = len(record.evaluations)
    values = record.values()
    pick = np.nanmax if record.objective.direction == "maximize" else np.nanmin
    n_last = max(1, n // 4)
    rows = []
    for work in sorted(works, key=lambda w: -len(w.positions)):
        mine = values[work.positions]
        has_label = np.isfinite(mine)
        rows.append(
            [
                html.escape(work.name),
                number_text(len(mine)),
                f"{len(mine) / n:.0%}",
                f"{int((work.positions >= n - n_last).sum()) / n_last:.0%}",
                number_text(int((~has_label).sum())),
                number_text(work.n_new_best),
                f"{work.yields.mean():.3f}",
                value_text(float(pick(mine))) if has_label.any() else "–",
            ]
        )
    header = ["generator", "evaluations", "share", "of the last quarter", "failed", "new best", "mean yield", "best"]
    return table(header, rows, numeric=range(1, len(header)))
