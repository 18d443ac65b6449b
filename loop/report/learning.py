"""The report of a learning: errors against labels, what exploration met, how well the committee knows itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import yaml

from ... import __version__
from ..errors import RunDirectoryError
from ..learning.config import LearningConfig
from ..learning.rounds import RoundRecord, read_records
from ..rounds.files import CONFIG_NAME, ROUNDS_FOLDER, read_config
from .page import Section, page, paragraph, plot, table
from .style import MUTED, SERIES

_STAGES = ("tuning", "training", "exploring", "choosing", "labelling")
_ERRORS = (
    ("test_errors", "test structures"),
    ("new_errors", "new labels, before they were learnt"),
    ("train_errors", "what was learnt from"),
)


def is_learning(run_dir: Path) -> bool:
    """Whether a folder holds a learning, rather than a campaign."""
    return (run_dir / CONFIG_NAME).is_file() and (run_dir / ROUNDS_FOLDER).is_dir()


def learning_report(run_dir: Path) -> str:
    """The HTML document; also while the learning runs.

    Raises:
        RunDirectoryError: no round is done yet, or files are damaged.
    """
    records = read_records(run_dir)
    if not records:
        raise RunDirectoryError(f"no round of {run_dir} is done yet; there is nothing to report")
    config = read_config(run_dir, LearningConfig)
    by_deviation = config.selection.kind == "deviation"
    drafts = [_errors(records), _bands(records), _calibration(records, by_deviation), _times(records)]
    drafts += [_searches(records), _failures(records), _rounds(records), _configuration(config)]
    last = records[-1]
    errors = last.test_errors or last.new_errors
    known = f", force error {errors['force_mae_ev_ang']:.3f} eV/Å before the last labels" if errors else ""
    symbols = html.escape(", ".join(config.system.elements))
    lead = (
        f"A potential of kind {html.escape(config.potential.kind)} for {symbols}: "
        f"{last.n_labels:,} labels in {len(records)} rounds{known}."
    )
    sections = [section for section in drafts if section is not None]
    footer = f"Alloysmith {html.escape(__version__)} · run directory {html.escape(str(run_dir))}"
    return page(config.name, lead, sections, footer, kicker="Alloysmith learning report")


def _explored(records: Sequence[RoundRecord]) -> list[RoundRecord]:
    return [record for record in records if record.n_visited]


def _errors(records: Sequence[RoundRecord]) -> Section | None:
    rounds = _explored(records)
    if not rounds:
        return None
    before = [records[record.index - 1].n_labels for record in rounds]
    body = ""
    for key, title, unit in (
        ("force_mae_ev_ang", "force MAE (eV/Å)", "forces"),
        ("energy_mae_mev", "energy MAE (meV/atom)", "energies"),
    ):
        figure = go.Figure()
        drawn: list[float] = []
        for k, (attribute, name) in enumerate(_ERRORS):
            values = [getattr(record, attribute).get(key) for record in rounds]
            drawn += [value for value in values if value]
            if any(value is not None for value in values):
                colour = {"color": SERIES[k]}
                figure.add_trace(go.Scatter(x=before, y=values, name=name, mode="lines+markers", line=colour))
        figure.update_xaxes(title_text="labels learnt from")
        is_wide = bool(drawn) and max(drawn) > 5.0 * min(drawn)  # 8, 9 and 10 would lie on top of each other
        figure.update_yaxes(title_text=title, type="log", tickformat=".3~g", dtick="D2" if is_wide else None)
        body += plot(figure, name=f"errors-{unit}", height=340)
    note = paragraph(
        "Where errors on what was learnt from are no smaller than those on test structures, the potential is at its "
        "limit: more labels will not help, one with more freedom may."
    )
    return Section("Errors", note + f'<div class="columns">{body}</div>')


def _bands(records: Sequence[RoundRecord]) -> Section | None:
    rounds = _explored(records)
    if not rounds:
        return None
    figure = go.Figure()
    colours = {"accurate": SERIES[2], "candidate": SERIES[1], "failed": SERIES[4]}
    for band, colour in colours.items():
        shares = [100.0 * record.shares[band] for record in rounds]
        figure.add_trace(go.Bar(x=[r.index for r in rounds], y=shares, name=band, marker={"color": colour}))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="round", dtick=1)
    figure.update_yaxes(title_text="share of visited structures (%)", range=[0, 100])
    n_exploded = sum(record.n_explosions for record in rounds)
    exploded = f"{n_exploded:,} runs exploded and were ended at that step" if n_exploded else "no run exploded"
    text = (
        f"{sum(r.n_visited for r in rounds):,} structures visited in {sum(r.n_md_steps for r in rounds):,} steps of "
        f"molecular dynamics; {exploded}."
    )
    return Section("Exploration", paragraph(text) + plot(figure, name="bands", height=340))


def _calibration(records: Sequence[RoundRecord], by_deviation: bool) -> Section | None:
    points = [(r.index, *pair) for r in _explored(records) for pair in r.calibration]
    if not points:
        return None
    rounds, deviations, errors = np.array(points).T
    figure = go.Figure(
        go.Scatter(
            x=deviations,
            y=errors,
            mode="markers",
            name="labelled structures",
            marker={"color": rounds, "colorscale": "Viridis", "size": 6, "colorbar": {"title": "round", "dtick": 1}},
        )
    )
    ends = [float(deviations.min()), float(deviations.max())]
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": MUTED, "dash": "dot"}))
    ticks = {"type": "log", "dtick": "D2", "tickformat": ".2~g"}
    figure.update_xaxes(title_text="committee's maximum force deviation (eV/Å)", **ticks)
    figure.update_yaxes(title_text="largest force error (eV/Å)", **ticks)
    use = "the bounds of the selection are divided by the median ratio of the latest rounds and of the test structures."
    note = paragraph(
        "Each point is a structure before it was learnt. Points above the line: the committee is surer than it may be"
        + (f"; {use}" if by_deviation else ". The selection was random and made no use of it.")
    )
    return Section("Calibration of the committee", note + plot(figure, name="calibration"))


def _times(records: Sequence[RoundRecord]) -> Section | None:
    stages = sorted({stage for record in records for stage in record.seconds}, key=_STAGES.index)
    if not stages:
        return None
    figure = go.Figure()
    for stage in stages:
        seconds = [record.seconds.get(stage, 0.0) for record in records]
        colour = {"color": SERIES[_STAGES.index(stage)]}
        figure.add_trace(go.Bar(x=[record.index for record in records], y=seconds, name=stage, marker=colour))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title_text="round", dtick=1)
    figure.update_yaxes(title_text="wall time (s)")
    return Section("Time", plot(figure, name="times", height=300))


def _searches(records: Sequence[RoundRecord]) -> Section | None:
    """Of each search of settings, what was tried and what is used from then on."""
    body = ""
    for record in records:
        search = record.search
        if search is None:
            continue
        keys = list(search.trials[0].parameters)
        tried = [search.in_use, *search.trials]
        is_chosen = [one.error is not None and one.parameters == search.parameters for one in tried]
        chosen = is_chosen.index(True) if any(is_chosen) else -1
        rows = []
        for k, one in enumerate(tried):
            name = (str(k) if k else "in use") + (", used from here on" if k == chosen else "")
            values = [str(one.parameters.get(key, "as configured")) for key in keys]
            error = f"failed: {one.message}" if one.error is None else f"{one.error:.5g}"
            rows.append([html.escape(cell) for cell in (name, *values, error)])
        text = (
            f"Round {record.index}: {search.n_labels} labels, of which {search.n_validation} judged the trials. "
            f"The error is {search.metric}."
        )
        body += paragraph(text) + table(["trial", *map(html.escape, keys), "error"], rows)
    return Section("Searches of settings", body) if body else None


def _failures(records: Sequence[RoundRecord]) -> Section | None:
    rows = [[str(record.index), html.escape(text)] for record in records for text in record.failures]
    if not rows:
        return None
    note = paragraph("A run that failed is left out; a member that failed is the one of the round before.")
    return Section("Trainings and runs that failed", note + table(["round", "what"], rows, numeric=[0]))


def _rounds(records: Sequence[RoundRecord]) -> Section:
    header = ["round", "labels", "chosen", "failed", "visited", "err/dev"]
    header += ["train F MAE", "new F MAE", "test F MAE", "test E MAE", "time (s)"]
    rows = [
        [
            str(record.index),
            str(record.n_labels),
            str(record.n_chosen),
            str(record.n_failed),
            str(record.n_visited),
            f"{record.scale:.2f}",
            _number(record.train_errors.get("force_mae_ev_ang"), 4),
            _number(record.new_errors.get("force_mae_ev_ang"), 4),
            _number(record.test_errors.get("force_mae_ev_ang"), 4),
            _number(record.test_errors.get("energy_mae_mev"), 2),
            f"{sum(record.seconds.values()):.0f}",
        ]
        for record in records
    ]
    note = '<p class="note">Forces in eV/Å, energies in meV per atom; errors are those before the round\'s labels.</p>'
    return Section("Rounds", table(header, rows, numeric=range(len(header))) + note)


def _configuration(config: LearningConfig) -> Section:
    plain = config.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return Section("Configuration", f"<pre>{html.escape(text)}</pre>")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
