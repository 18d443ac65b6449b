"""The report of a study: how it went, what it found, which settings matter."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import yaml

from ... import __version__
from ...agents.optuna_study import TrialRecord, importances
from ...agents.study_settings import ParameterRange
from ..errors import RunDirectoryError
from ..studies.config import StudyConfig
from ..studies.results import best_trials, compromise
from ..studies.study import JOURNAL_NAME, n_done
from .page import Section, page, paragraph, plot, table
from .style import MUTED, SCALE, SERIES

_N_ROWS = 25


def study_report(config: StudyConfig, trials: Sequence[TrialRecord], folder: Path) -> str:
    """The HTML document; also while the study runs.

    Raises:
        RunDirectoryError: no trial has finished yet.
        StudyError: the journal is missing or damaged.
    """
    finished = [trial for trial in trials if trial.condition == "finished"]
    if not finished:
        raise RunDirectoryError(f"no trial of {folder} has finished yet; there is nothing to report")
    front = best_trials(config, trials)
    chosen = compromise(config, front)
    shares = [importances(folder / JOURNAL_NAME, k) for k in range(len(config.objectives))]
    drafts = [
        _history(config, finished),
        _front(config, finished, front, chosen),
        _importances(config, shares),
        _parallel(config, finished),
        _curves(config, trials),
        _best_table(config, finished, front, chosen),
        _failures(trials),
        _configuration(config),
    ]
    values = ", ".join(
        f"{html.escape(objective.metric)} {value:.5g}"
        for objective, value in zip(config.objectives, chosen.values, strict=True)
    )
    n_pruned = sum(trial.condition == "pruned" for trial in trials)
    n_failed = sum(trial.condition == "failed" for trial in trials)
    lead = (
        f"{n_done(trials)} of {config.n_trials} trials done, {n_pruned} pruned, {n_failed} failed. "
        f"Chosen: trial {chosen.number}, {values}."
    )
    sections = [section for section in drafts if section is not None]
    footer = f"Alloysmith {html.escape(__version__)} · study {html.escape(str(folder))}"
    return page(config.name, lead, sections, footer, kicker="Alloysmith study report")


def _history(config: StudyConfig, finished: Sequence[TrialRecord]) -> Section:
    body = ""
    numbers = [trial.number for trial in finished]
    for k, objective in enumerate(config.objectives):
        values = np.array([trial.values[k] for trial in finished])
        running = np.minimum.accumulate if objective.direction == "minimize" else np.maximum.accumulate
        figure = go.Figure()
        hover = [_parameter_text(trial) for trial in finished]
        points = {"mode": "markers", "marker": {"color": SERIES[0], "size": 6}, "text": hover}
        figure.add_trace(go.Scatter(x=numbers, y=values, name="trial", **points))
        line = {"color": SERIES[1], "shape": "hv"}
        figure.add_trace(go.Scatter(x=numbers, y=running(values), name="best so far", mode="lines", line=line))
        figure.update_xaxes(title_text="trial")
        figure.update_yaxes(title_text=objective.metric, type=_axis_type(values))
        body += plot(figure, name=f"history-{k}", height=340)
    return Section("History", body)


def _front(
    config: StudyConfig, finished: Sequence[TrialRecord], front: Sequence[TrialRecord], chosen: TrialRecord
) -> Section | None:
    if len(config.objectives) < 2:
        return None
    on_front = {trial.number for trial in front}
    body = ""
    for k in range(1, len(config.objectives)):
        figure = go.Figure()
        groups = {
            "beaten": ([t for t in finished if t.number not in on_front], MUTED, 6),
            "Pareto front": ([t for t in front if t.number != chosen.number], SERIES[0], 9),
            "chosen": ([chosen], SERIES[1], 13),
        }
        for name, (members, colour, size) in groups.items():
            figure.add_trace(
                go.Scatter(
                    x=[trial.values[0] for trial in members],
                    y=[trial.values[k] for trial in members],
                    text=[_parameter_text(trial) for trial in members],
                    name=name,
                    mode="markers",
                    marker={"color": colour, "size": size},
                )
            )
        for update, column in ((figure.update_xaxes, 0), (figure.update_yaxes, k)):
            values = np.array([trial.values[column] for trial in finished])
            update(title_text=config.objectives[column].metric, type=_axis_type(values))
        body += plot(figure, name=f"front-{k}")
    note = paragraph(
        "No other trial is as good as one of the front in every objective and better in one. The chosen one is the "
        "nearest to the best of all objectives, each scaled to its range on the front."
    )
    return Section("Pareto front", note + body)


def _importances(config: StudyConfig, shares: Sequence[Mapping[str, float]]) -> Section | None:
    if not any(shares):
        return None
    figure = go.Figure()
    for k, (objective, share) in enumerate(zip(config.objectives, shares, strict=True)):
        keys = [key for key in reversed(config.space) if key in share]
        marker = {"color": SERIES[k % len(SERIES)]}
        values = [share[key] for key in keys]
        figure.add_trace(go.Bar(x=values, y=keys, name=objective.metric, orientation="h", marker=marker))
    figure.update_xaxes(title_text="share of importance")
    figure.update_yaxes(automargin=True)
    note = paragraph("What tells good trials from others (PED-ANOVA); with few trials it is a hint, no more.")
    return Section("Importance of the settings", note + plot(figure, name="importances", height=300))


def _parallel(config: StudyConfig, finished: Sequence[TrialRecord]) -> Section | None:
    if len(finished) < 2:
        return None
    dimensions = [_dimension(key, value, finished) for key, value in config.space.items()]
    for k, objective in enumerate(config.objectives):
        values = np.array([trial.values[k] for trial in finished])
        dimensions.append(_number_axis(objective.metric, values, is_log=_axis_type(values) == "log"))
    first = dimensions[len(config.space)]
    minimizes = config.objectives[0].direction == "minimize"
    line = {"color": first["values"], "colorscale": SCALE, "reversescale": minimizes}
    room = {"x": [0.04, 0.93], "y": [0.0, 0.83]}  # for the names of the axes, which are turned
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=-25, domain=room))
    return Section("All settings", plot(figure, name="parallel", height=520))


def _dimension(key: str, parameter: ParameterRange, finished: Sequence[TrialRecord]) -> dict[str, Any]:
    values = [trial.parameters.get(key) for trial in finished]
    name = key.rpartition(".")[2]
    if parameter.categorical is None:
        return _number_axis(name, np.array(values, dtype=float), is_log=parameter.log)
    texts = [str(choice) for choice in parameter.categorical]
    places = [texts.index(str(value)) for value in values]
    return {"label": name, "values": places, "tickvals": list(range(len(texts))), "ticktext": texts}


def _number_axis(name: str, values: np.ndarray, *, is_log: bool) -> dict[str, Any]:
    if not is_log:
        return {"label": name, "values": values.tolist()}
    logs = np.log10(values)
    ticks = np.linspace(logs.min(), logs.max(), 5)
    texts = [f"{10**tick:.3g}" for tick in ticks]
    return {"label": name, "values": logs.tolist(), "tickvals": ticks.tolist(), "ticktext": texts}


def _curves(config: StudyConfig, trials: Sequence[TrialRecord]) -> Section | None:
    drawn = [trial for trial in trials if len(trial.steps) > 1 and trial.condition in ("finished", "pruned", "running")]
    if not drawn:
        return None
    colours = {"finished": SERIES[0], "pruned": SERIES[1], "running": SERIES[2]}
    figure = go.Figure()
    seen: set[str] = set()
    for trial in drawn:
        steps = sorted(trial.steps)
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=[trial.steps[step] for step in steps],
                mode="lines",
                name=trial.condition,
                legendgroup=trial.condition,
                showlegend=trial.condition not in seen,
                line={"color": colours[trial.condition], "width": 1},
                hovertemplate=f"trial {trial.number}: %{{y:.5g}}<extra></extra>",
            )
        )
        seen.add(trial.condition)
    everything = np.array([value for trial in drawn for value in trial.steps.values()])
    figure.update_xaxes(title_text="validation")
    figure.update_yaxes(title_text=config.objectives[0].metric, type=_axis_type(everything))
    return Section("Running trials", plot(figure, name="curves"))


def _best_table(
    config: StudyConfig, finished: Sequence[TrialRecord], front: Sequence[TrialRecord], chosen: TrialRecord
) -> Section:
    shown = list(front)
    if len(config.objectives) == 1:
        sign = 1.0 if config.objectives[0].direction == "minimize" else -1.0
        shown = sorted(finished, key=lambda trial: sign * trial.values[0])[:_N_ROWS]
    others = ("validation_energy_mae_mev", "validation_force_mae", "test_energy_mae_mev", "test_force_mae", "cpu_s")
    metrics = [objective.metric for objective in config.objectives]
    metrics += [name for name in others if name not in metrics and any(name in trial.figures for trial in shown)]
    header = ["trial", *metrics, *(key.rpartition(".")[2] for key in config.space)]
    rows = [
        [
            f"<strong>{trial.number}</strong>" if trial.number == chosen.number else str(trial.number),
            *(f"{trial.figures[name]:.5g}" if name in trial.figures else "–" for name in metrics),
            *(html.escape(_text(trial.parameters.get(key))) for key in config.space),
        ]
        for trial in shown
    ]
    return Section("Best trials", table([html.escape(name) for name in header], rows, numeric=range(len(header))))


def _failures(trials: Sequence[TrialRecord]) -> Section | None:
    failed = [trial for trial in trials if trial.condition == "failed"]
    if not failed:
        return None
    rows = [
        [str(t.number), html.escape(t.message.splitlines()[0] if t.message else ""), html.escape(_parameter_text(t))]
        for t in failed[-_N_ROWS:]
    ]
    return Section("Failed trials", table(["trial", "reason", "settings"], rows, numeric=(0,)))


def _configuration(config: StudyConfig) -> Section:
    text = yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return Section("Configuration", f"<pre>{html.escape(text)}</pre>")


def _axis_type(values: np.ndarray) -> str:
    """Logarithmic where values are positive and span more than a factor of ten."""
    return "log" if (values > 0.0).all() and values.max() > 10.0 * values.min() else "linear"


def _parameter_text(trial: TrialRecord) -> str:
    settings = ", ".join(f"{key.rpartition('.')[2]} {_text(value)}" for key, value in trial.parameters.items())
    return f"trial {trial.number}: {settings}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
