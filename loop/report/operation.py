"""How the machine was used: failures by kind, and what each worker did when."""

from __future__ import annotations

import html
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ...generators.base import Failure
from ..texts import number_text
from .page import Section, paragraph, plot, table
from .record import CampaignRecord, WorkSpan
from .style import ACCENT, OUTCOME_COLOURS

_MAX_BARS = 4000
"""Attempts drawn as bars; beyond it the timeline shows shares of time."""
_N_BINS = 160


def failures(record: CampaignRecord) -> Section:
    """Failures by kind, by generator, with the latest message of each kind."""
    kinds: Counter[str] = Counter()
    latest: dict[str, str] = {}
    by_generator: dict[str, Counter[str]] = defaultdict(Counter)
    for evaluation in record.evaluations:
        if isinstance(evaluation.result, Failure):
            kind = str(evaluation.result.kind)
            kinds[kind] += 1
            latest[kind] = evaluation.result.message
            by_generator[evaluation.candidate.lineage.generator][kind] += 1
    n_repeated = sum(span.outcome != "label" for span in record.spans) - sum(kinds.values())
    repeated = f" {number_text(n_repeated)} failed attempts were repeated." if n_repeated > 0 else ""
    n = len(record.evaluations)
    if not kinds:
        return Section("Failures", paragraph(f"None in {number_text(n)} evaluations.{repeated}"))
    figure = go.Figure()
    order = [kind for kind, _ in kinds.most_common()]
    for generator, counts in by_generator.items():
        figure.add_trace(go.Bar(y=order, x=[counts[kind] for kind in order], name=generator, orientation="h"))
    figure.update_layout(barmode="stack", bargap=0.35, showlegend=len(by_generator) > 1)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title={"text": "evaluations"}, dtick=1 if max(kinds.values()) <= 10 else None)
    rows = [
        [kind, number_text(count), f"{100.0 * count / n:.1f} %", html.escape(_shortened(latest[kind]))]
        for kind, count in kinds.most_common()
    ]
    body = plot(figure, name="failures", height=130 + 34 * len(order))
    body += table(["kind", "n", "share", "latest message"], rows, numeric=(1, 2))
    return Section("Failures", body + (paragraph(repeated.strip()) if repeated else ""))


def utilization(record: CampaignRecord) -> Section | None:
    """What each worker did over time; gaps between sessions are cut out. Nothing before the first attempt ended."""
    if not record.spans:
        return None
    spans, n_cuts = _without_long_gaps(sorted(record.spans, key=lambda s: s.started_at))
    total_s = max(s.ended_at for s in spans)
    busy: Counter[str] = Counter()
    n_done: Counter[str] = Counter()
    for span in spans:
        busy[span.worker] += span.ended_at - span.started_at  # type: ignore[assignment]
        n_done[span.worker] += 1
    unit_s, unit = (3600.0, "h") if total_s > 7200.0 else (60.0, "min") if total_s > 180.0 else (1.0, "s")
    workers = sorted(busy)
    if len(spans) <= _MAX_BARS:
        figure = _bars(spans, workers, unit_s)
    else:
        figure = _shares(spans, workers, total_s, unit_s)
    figure.update_xaxes(title={"text": f"time since the first evaluation began ({unit})"})
    figure.update_yaxes(autorange="reversed", showgrid=False)
    body = plot(figure, name="utilization", height=150 + 30 * min(len(workers), 40))
    cut = f" {n_cuts} pause{'s' if n_cuts > 1 else ''} between sessions left out." if n_cuts else ""
    body = paragraph(f"Each bar is one attempt at an evaluation.{cut}") + body
    rows = [[html.escape(w), number_text(n_done[w]), f"{100.0 * busy[w] / total_s:.1f} %"] for w in workers]
    return Section("Workers", body + table(["worker", "attempts", "busy"], rows, numeric=(1, 2)))


def _without_long_gaps(spans: Sequence[WorkSpan]) -> tuple[list[WorkSpan], int]:
    """The spans counted from the first start, with pauses in which nobody worked cut out if they are long.

    Long means longer than a minute and than a twentieth of the work: a campaign that was stopped overnight would
    otherwise be drawn as two hairlines.
    """
    origin = spans[0].started_at
    busy_s = sum(s.ended_at - s.started_at for s in spans)
    longest_kept_s = max(60.0, busy_s / 20.0)
    shifted: list[WorkSpan] = []
    n_cuts = 0
    cut_s = 0.0
    frontier = origin
    for span in spans:
        gap_s = span.started_at - frontier
        if gap_s > longest_kept_s:
            cut_s += gap_s
            n_cuts += 1
        frontier = max(frontier, span.ended_at)
        start, end = span.started_at - origin - cut_s, span.ended_at - origin - cut_s
        shifted.append(WorkSpan(span.worker, span.request_id, start, end, span.outcome))
    return shifted, n_cuts


def _bars(spans: Sequence[WorkSpan], workers: Sequence[str], unit_s: float) -> go.Figure:
    figure = go.Figure()
    by_outcome: dict[str, list[WorkSpan]] = defaultdict(list)
    for span in spans:
        by_outcome[span.outcome].append(span)
    for outcome, members in sorted(by_outcome.items(), key=lambda item: item[0] != "label"):
        figure.add_trace(
            go.Bar(
                y=[s.worker for s in members],
                x=[(s.ended_at - s.started_at) / unit_s for s in members],
                base=[s.started_at / unit_s for s in members],
                orientation="h",
                name=outcome,
                marker={"color": OUTCOME_COLOURS.get(outcome, ACCENT), "line": {"width": 0.5, "color": "white"}},
                customdata=[[s.request_id, s.ended_at - s.started_at] for s in members],
                hovertemplate="%{customdata[0]}: %{customdata[1]:.3g} s<extra>" + outcome + "</extra>",
            )
        )
    figure.update_layout(barmode="overlay", bargap=0.3, showlegend=True)
    figure.update_yaxes(categoryorder="array", categoryarray=list(workers))
    return figure


def _shares(spans: Sequence[WorkSpan], workers: Sequence[str], total_s: float, unit_s: float) -> go.Figure:
    """Share of each slice of time that each worker was busy."""
    row = {worker: index for index, worker in enumerate(workers)}
    width_s = total_s / _N_BINS
    edges = np.linspace(0.0, total_s, _N_BINS + 1)
    busy = np.zeros((len(workers), _N_BINS))
    for worker, index in row.items():
        starts = np.array([s.started_at for s in spans if s.worker == worker])
        ends = np.array([s.ended_at for s in spans if s.worker == worker])
        done = _busy_until(edges, starts, ends)
        busy[index] = np.diff(done) / width_s
    return go.Figure(
        go.Heatmap(
            z=busy.clip(0.0, 1.0),
            x=(edges[:-1] + 0.5 * width_s) / unit_s,
            y=list(workers),
            zmin=0.0,
            zmax=1.0,
            colorscale=[[0.0, "#ffffff"], [1.0, ACCENT]],
            ygap=3,
            colorbar={"title": {"text": "busy", "side": "right"}, "tickformat": ".0%", "thickness": 12},
            hovertemplate="%{y}: %{z:.0%}<extra></extra>",
        )
    )


def _busy_until(edges: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Seconds of work done before each edge, by one worker whose spans follow one another."""
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    begun = np.searchsorted(starts, edges, side="right")
    overhang = np.where(begun > 0, np.maximum(0.0, ends[np.maximum(begun - 1, 0)] - edges), 0.0)
    return before[begun] - overhang


def _shortened(message: str, length: int = 110) -> str:
    line = message.splitlines()[0] if message else ""
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
