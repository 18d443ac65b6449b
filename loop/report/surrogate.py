"""How well the surrogate knew what was coming: parity and calibration of forecasts made before the labels."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from scipy.special import erf

from ...surrogates.metrics import calibration
from ..texts import value_text
from .page import Section, paragraph, plot, table
from .record import CampaignRecord, Forecast
from .style import ACCENT, MUTED


def surrogate(record: CampaignRecord, forecasts: Sequence[Forecast]) -> Section | None:
    """Parity, calibration and their figures; nothing when no forecast was followed by a label."""
    value_of = {e.request_id: record.value(e) for e in record.labelled}
    known = [f for f in forecasts if f.request_id in value_of]
    if len(known) < 2:
        return None
    mean = np.array([f.mean for f in known])
    std = np.array([f.std for f in known])
    actual = np.array([value_of[f.request_id] for f in known])
    parity = _parity(record, [f.request_id for f in known], mean, std, actual)
    panels = "".join(
        [
            plot(parity, name="parity", height=430),
            plot(_calibration(mean, std, actual), name="calibration", height=430),
        ]
    )
    intro = (
        f"{len(known)} forecasts, each made by the surrogate that was in force when the evaluation was requested, "
        "before its label was known. They are harder than a random split: candidates are chosen where the surrogate "
        "is hopeful or unsure."
    )
    body = paragraph(intro) + f'<div class="columns">{panels}</div>' + _figures(mean, std, actual)
    return Section("Surrogate", body + _tunings(record))


def _parity(
    record: CampaignRecord, names: Sequence[str], mean: np.ndarray, std: np.ndarray, actual: np.ndarray
) -> go.Figure:
    figure = go.Figure()
    low, high = float(min(mean.min(), actual.min())), float(max(mean.max(), actual.max()))
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": MUTED, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Scatter(
            x=actual,
            y=mean,
            mode="markers",
            error_y={"array": std, "thickness": 0.7, "width": 0, "color": "rgba(102,119,138,.45)"},
            marker={
                "size": 6,
                "color": np.arange(len(actual)),
                "colorscale": "Blues",
                "cmin": -0.4 * len(actual),
                "line": {"width": 0.4, "color": "white"},
            },
            text=[f"{name}: ± {value_text(s)}" for name, s in zip(names, std, strict=True)],
            hovertemplate="forecast %{y:.6g}, label %{x:.6g}<br>%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(title={"text": f"label: {record.property_label}"})
    figure.update_yaxes(title={"text": "forecast (later ones darker)"})
    return figure


def _calibration(mean: np.ndarray, std: np.ndarray, actual: np.ndarray) -> go.Figure:
    """Share of labels within a central interval against the probability that the surrogate gave it."""
    stated = np.linspace(0.0, 1.0, 101)
    probability = erf(np.abs(actual - mean) / np.maximum(std, 1e-12) / np.sqrt(2.0))
    observed = (probability[:, None] <= stated[None, :]).mean(axis=0)
    spread = 1.96 * np.sqrt(stated * (1.0 - stated) / len(actual))
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([stated, stated[::-1]]),
            y=np.concatenate([stated + spread, (stated - spread)[::-1]]).clip(0.0, 1.0),
            fill="toself",
            fillcolor="rgba(102,119,138,.15)",
            line={"width": 0},
            hoverinfo="skip",
            name="95 % of calibrated surrogates",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=stated,
            y=observed,
            mode="lines",
            line={"color": ACCENT, "width": 2.5},
            name="this one",
            hovertemplate="stated %{x:.0%}: %{y:.0%} of the labels<extra></extra>",
        )
    )
    figure.update_xaxes(title={"text": "probability stated for the interval"}, tickformat=".0%", range=[0, 1])
    figure.update_yaxes(title={"text": "share of labels inside"}, tickformat=".0%", range=[0, 1.02])
    return figure


def _figures(mean: np.ndarray, std: np.ndarray, actual: np.ndarray) -> str:
    """One row for all forecasts, and one for the later half."""
    rows = []
    for name, part in (("all", slice(None)), ("later half", slice(len(actual) // 2, None))):
        figures = calibration(mean[part], std[part], actual[part])
        plain = float(np.sqrt(np.mean((actual[part] - actual[part].mean()) ** 2)))
        rows.append(
            [
                name,
                str(len(actual[part])),
                f"{figures['mae']:.3g}",
                f"{figures['rmse']:.3g}",
                f"{plain:.3g}",
                f"{figures['r2']:.3f}",
                f"{100 * figures['coverage_68']:.0f} %",
                f"{100 * figures['coverage_95']:.0f} %",
            ]
        )
    header = ["forecasts", "n", "MAE", "RMSE", "RMSE of their mean", "R²", "within 1 σ (68 %)", "within 1.96 σ (95 %)"]
    return table(header, rows, numeric=range(1, len(header)))


def _tunings(record: CampaignRecord) -> str:
    """What each search of the surrogate's settings found."""
    if not record.tunings:
        return ""
    rows = []
    for event in record.tunings:
        settings = ", ".join(f"{name} {value}" for name, value in event.settings.items())
        errors = ["not finite" if e is None else f"{e:.4g}" for e in (event.error_before, event.error)]
        rows.append([str(event.n_labels), str(event.n_trials), *errors, html.escape(settings), f"{event.wall_s:.1f}"])
    error = str(record.config["agent"]["retuning"]["error"]).upper()
    head = ["labels", "settings tried", f"{error} before", f"{error} after", "settings from then on", "seconds"]
    note = paragraph("Its settings were searched on the labels so far, judged by cross-validation:")
    return note + table(head, rows, numeric=(0, 1, 2, 3, 5))
