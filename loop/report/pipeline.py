"""The report of a pipeline: what was drawn at each step of the optimizations, beside the data it was learnt from."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import plotly.graph_objects as go
import yaml
from ase import Atoms

from ... import __version__
from ...generators.screening import FAULT
from ..errors import RunDirectoryError
from ..pipeline.config import ModelName, PipelineConfig
from ..pipeline.data import VALUES
from ..pipeline.generation import MODEL, OPTIMIZATION, STEP
from ..pipeline.results import PERCENTILES, Findings, read_findings, table_3_cells
from ..pipeline.site import SPLIT, PipelineFiles
from ..rounds.files import read_config
from ..texts import axis_label, composition_text, number_text, unit_of, value_text
from .page import Section, page, paragraph, plot, table
from .style import MUTED, RULE, SCALE, SERIES

_NAMES = {"random": "random orderings", "local_search": "with local search", "drafts": "drawn"}
_STAGES = {
    "random": "for random orderings",
    "local_search": "in local searches",
    "drafts": "of drawn structures",
    "shuffled": "of these with atoms in random order",
}
_DASHES = ("solid", "dot", "dash", "dashdot")


def is_pipeline(run_dir: Path) -> bool:
    """Whether a folder holds a pipeline."""
    return PipelineFiles(run_dir).random.is_file()


def read_pipeline(run_dir: Path) -> Findings:
    """What a finished pipeline found.

    Raises:
        RunDirectoryError: it is not finished, or files are damaged.
        StructureError: files of structures are damaged.
    """
    files = PipelineFiles(run_dir)
    if not files.labelled_drafts.is_file():
        raise RunDirectoryError(f"the pipeline of {run_dir} is not finished; its command goes on with it")
    return read_findings(files, read_config(run_dir, PipelineConfig))


def pipeline_report(findings: Findings, run_dir: Path) -> str:
    """The HTML document.

    Raises:
        RunDirectoryError: what is known of a model is damaged.
    """
    config = findings.config
    name = config.objective.property
    label = axis_label(name, unit_of(name))
    facts = {model: _model_facts(PipelineFiles(run_dir), model) for model in config.models}
    sections = [
        _overview(findings),
        _table_3(findings, label),
        _table_a1(findings),
        _by_composition(findings, label),
        _distributions(findings, label),
        _search(findings, label),
        _models(facts, name),
        _faults(findings),
        _configuration(config),
    ]
    lead = (
        f"{number_text(len(findings.random))} random orderings of {html.escape(', '.join(config.system.elements))}, "
        f"{number_text(len(findings.searched))} improved by local search, {len(config.models)} crystal generators, and "
        f"{number_text(len(findings.drafts))} structures drawn while optimizing the test structures in latent space."
    )
    footer = f"Alloysmith {html.escape(__version__)} · run directory {html.escape(str(run_dir))}"
    return page(config.name, lead, sections, footer, kicker="Alloysmith pipeline report")


def _model_facts(files: PipelineFiles, model: ModelName) -> dict[str, Any]:
    path = files.model_facts(model)
    try:
        facts: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise RunDirectoryError(f"{path} is missing or damaged: {error}") from error
    return facts


def _overview(findings: Findings) -> Section:
    unit, elements = unit_of(findings.config.objective.property), findings.config.system.elements
    cells = []
    for k, (key, text) in enumerate(
        (("drafts", "best drawn"), ("local_search", "best of the local searches"), ("random", "best random ordering"))
    ):
        best = findings.best.get(key)
        value = "–" if best is None else f"{value_text(best.value)} {html.escape(unit)}"
        about = "" if best is None else composition_text(best.atoms, elements)
        about += f", {best.where}" if best is not None and best.where else ""
        first = ' class="first"' if k == 0 else ""
        cells.append(
            f"<div{first}><strong>{value}</strong><span>{text}</span><small>{html.escape(about)}</small></div>"
        )
    counting = sum(row.n_correct for row in findings.table_3[1:])
    drawn = number_text(len(findings.drafts))
    cells.append(f"<div><strong>{number_text(counting)}</strong><span>of {drawn} drawn structures count</span></div>")
    calls = {text: number_text(findings.calls[key]) for key, text in _STAGES.items()}
    about = ", ".join(f"{n} {text}" for text, n in calls.items())
    about += f"; and {number_text(findings.n_single_points)} energies without relaxation"
    total = number_text(sum(findings.calls.values()))
    cells.append(f"<div><strong>{total}</strong><span>labels</span><small>{about}</small></div>")
    return Section("Overview", f'<div class="figures">{"".join(cells)}</div>')


def _series(findings: Findings) -> list[tuple[ModelName, str, str, dict[str, object]]]:
    """Model, way of optimizing, name in legends, line."""
    found: list[tuple[ModelName, str, str, dict[str, object]]] = []
    for m, model in enumerate(findings.config.models):
        for f, form in enumerate(findings.config.optimizations):
            line: dict[str, object] = {"color": SERIES[m], "dash": _DASHES[f % len(_DASHES)]}
            found.append((model, form, f"{_NAMES[model]}, {form}", line))
    return found


def _table_3(findings: Findings, label: str) -> Section:
    initial = findings.table_3[0]
    body = ""
    for key, title in (("mean", "mean"), ("mean_top", "mean of the best ten"), ("best", "best"), ("n_correct", "")):
        figure = go.Figure()
        for model, form, name, line in _series(findings):
            steps = [row for row in findings.table_3 if (row.model, row.optimization) == (model, form)]
            y = [getattr(step, key) for step in steps]
            figure.add_trace(go.Scatter(x=[s.step for s in steps], y=y, name=name, mode="lines+markers", line=line))
        figure.add_hline(y=getattr(initial, key), line={"color": MUTED, "dash": "dash", "width": 1})
        figure.update_xaxes(title_text="step of the optimization")
        figure.update_yaxes(title_text=f"{title}: {label}" if title else "structures that count")
        if not title:
            figure.update_yaxes(rangemode="tozero")
        body += plot(figure, name=f"steps-{key}", height=380)
    note = paragraph(
        f"From the latent vectors of {initial.n_drawn} test structures, by model and way of optimizing. The dashed "
        "line is the test structures themselves. A structure counts if it passes the screening of energies and shares; "
        "it is in phase if, relaxed, it is in the one that its model said. In the last column the mean of the same "
        "atoms in random order: what is above it is due to the order, what changes of it to the composition."
    )
    cells = table_3_cells(findings)
    header = ["model", "optimization", "step", "drawn", "count", "in phase", "mean", "best ten", "best", "shuffled"]
    rows = [[html.escape(_NAMES.get(row[0], row[0])), *map(html.escape, row[1:])] for row in cells[1:]]
    return Section(
        "Steps of the optimization",
        f'{note}<div class="columns">{body}</div>' + table(header, rows, numeric=range(2, len(header))),
    )


def _table_a1(findings: Findings) -> Section:
    rows = findings.table_a1
    header = ["percentiles of", "model", "optimization", *(f"{p} %" if p < 100 else "the best" for p in PERCENTILES)]
    lines = []
    for reference, name in (("random", "random orderings"), ("local_search", "local searches")):
        of_it = [row for row in rows if row.reference == reference]
        thresholds = {row.percentile: row.threshold for row in of_it}
        if thresholds:
            lines.append([name, "", "", *(f"{thresholds[p]:.2f}" for p in PERCENTILES)])
        for model, form, _, _ in _series(findings):
            shares = {r.percentile: r.share for r in of_it if (r.model, r.optimization) == (model, form)}
            if shares:
                lines.append(["", _NAMES[model], html.escape(form), *(f"{shares[p]:.0%}" for p in PERCENTILES)])
    note = paragraph(
        "Share of the test structures from which something better than a percentile of the training data was drawn, at "
        "any step: of the random orderings, and of what the local searches ended with."
    )
    return Section("Starts above percentiles", note + table(header, lines, numeric=range(3, len(header))))


def _by_composition(findings: Findings, label: str) -> Section:
    """The best value of each composition among what was drawn, by model, as in Fig. 4 of the paper."""
    elements = findings.config.system.elements
    correct = [row for row in findings.drafts if FAULT not in row.info]
    panels = []
    shown = {
        model: _best_of_each([row for row in correct if row.info[MODEL] == model], findings)
        for model in findings.config.models
    }
    values = [findings.value(row) for rows in shown.values() for row in rows]
    for model, best in shown.items():
        figure = go.Figure()
        if best:
            figure.add_trace(_points(best, findings, elements, label, min(values), max(values)))
        if len(elements) == 3:
            common = {"tickformat": ".0%", "gridcolor": RULE, "ticks": "", "tickvals": [0.2, 0.4, 0.6, 0.8]}
            axes = {
                f"{name}axis": {"title": {"text": f"<b>{element}</b>"}, **common}
                for name, element in zip("abc", elements, strict=True)
            }
            figure.update_layout(ternary={"sum": 1, "bgcolor": "rgba(0,0,0,0)", "domain": {"x": [0.0, 0.82]}, **axes})
        else:
            figure.update_xaxes(title_text=f"share of {elements[0]}", tickformat=".0%")
            figure.update_yaxes(title_text=label)
        title = f"<h3>{_NAMES[model]}</h3>"
        panels.append(f"<div>{title}{plot(figure, name=f'composition-{model}', height=380)}</div>")
    note = paragraph("The best structure of each composition among those that were drawn and count, over all steps.")
    return Section("Best by composition", f'{note}<div class="columns">{"".join(panels)}</div>')


def _best_of_each(rows: Sequence[Atoms], findings: Findings) -> list[Atoms]:
    sign = 1.0 if findings.config.objective.direction == "maximize" else -1.0
    best: dict[str, Atoms] = {}
    for row in sorted(rows, key=lambda atoms: sign * findings.value(atoms)):
        best[composition_text(row, findings.config.system.elements)] = row
    return sorted(best.values(), key=lambda atoms: sign * findings.value(atoms))


def _points(
    rows: Sequence[Atoms], findings: Findings, elements: Sequence[str], label: str, low: float, high: float
) -> go.Scatter | go.Scatterternary:
    shares = [[float(np.mean([s == e for s in row.symbols])) for row in rows] for e in elements]
    values = [findings.value(row) for row in rows]
    texts = [
        f"<b>{value_text(value)}</b><br>{composition_text(row, elements)}<br>{row.info.get('phase', '')}, "
        f"{html.escape(str(row.info[OPTIMIZATION]))}, step {row.info[STEP]}"
        for row, value in zip(rows, values, strict=True)
    ]
    bar = {"title": {"text": label, "side": "right"}, "thickness": 12, "outlinewidth": 0, "x": 0.95}
    marker = {"color": values, "colorscale": SCALE, "cmin": low, "cmax": high, "size": 9, "colorbar": bar}
    shown = {"mode": "markers", "marker": marker, "hovertext": texts, "hoverinfo": "text", "showlegend": False}
    if len(elements) == 3:
        return go.Scatterternary(a=shares[0], b=shares[1], c=shares[2], cliponaxis=False, **shown)
    return go.Scatter(x=shares[0], y=values, **shown)


def _distributions(findings: Findings, label: str) -> Section:
    figure = go.Figure()
    correct = [row for row in findings.drafts if FAULT not in row.info]
    groups = {
        "random orderings, training": [row for row in findings.random if row.info.get(SPLIT) == "train"],
        "local searches, training": [row for row in findings.searched if row.info[SPLIT] == "train"],
        "random orderings, test": [row for row in findings.random if row.info.get(SPLIT) == "test"],
    }
    for model, form, name, _ in _series(findings):
        mine = [row for row in correct if (row.info[MODEL], row.info[OPTIMIZATION]) == (model, form)]
        groups[f"drawn: {name}"] = mine
    for k, (name, rows) in enumerate(groups.items()):
        colour = MUTED if k < 3 else SERIES[k - 3]
        values = [findings.value(row) for row in rows]
        figure.add_trace(go.Box(x=values, name=name, marker={"color": colour, "size": 3}, boxpoints="outliers"))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text=label)
    figure.update_yaxes(automargin=True, autorange="reversed")
    return Section("Distributions", plot(figure, name="distributions", height=90 + 48 * len(groups)))


def _search(findings: Findings, label: str) -> Section:
    values = np.array([np.asarray(row.info[VALUES], dtype=float).ravel() for row in findings.searched])
    steps = np.arange(values.shape[1])
    figure = go.Figure()
    for name, y, colour in (
        ("mean", values.mean(0), SERIES[0]),
        ("upper quartile", np.quantile(values, 0.75, axis=0), MUTED),
        ("lower quartile", np.quantile(values, 0.25, axis=0), MUTED),
    ):
        dash = "solid" if name == "mean" else "dot"
        figure.add_trace(go.Scatter(x=steps, y=y, name=name, mode="lines", line={"color": colour, "dash": dash}))
    figure.update_xaxes(title_text="step of the local searches")
    figure.update_yaxes(title_text=label)
    gains = values[:, -1] - values[:, 0]
    note = paragraph(
        f"{len(values)} searches; they changed the property by {gains.mean():.2f} on average, by {gains.max():.2f} at "
        f"most and by {gains.min():.2f} at least."
    )
    return Section("Local search", note + plot(figure, name="local-search", height=340))


def _models(facts: dict[ModelName, dict[str, Any]], name: str) -> Section:
    figure = go.Figure()
    for k, (model, known) in enumerate(facts.items()):
        history = known["history"]
        epochs = [row["epoch"] for row in history]
        for key, dash in (("training_loss", "dot"), ("held_out_loss", "solid")):
            text = f"{_NAMES[model]}, {'validation' if key == 'held_out_loss' else 'training'}"
            line = {"color": SERIES[k], "dash": dash}
            figure.add_trace(go.Scatter(x=epochs, y=[row[key] for row in history], name=text, mode="lines", line=line))
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="loss", type="log", tickformat=".3~g")
    header = ["model", "part", "structures", "lengths %", "shares %", "phases right", f"{name}", "of the mean"]
    rows = [
        [
            _NAMES[model],
            {"held out": "validation"}.get(part, part),
            str(e["n"]),
            f"{e['length_percent']:.2f}",
            f"{e['composition_percent']:.2f}",
            f"{e['phase']:.0%}",
            f"{e['value']:.3g}",
            f"{e['value_of_mean']:.3g}",
        ]
        for model, known in facts.items()
        for part, e in known["errors"].items()
    ]
    note = paragraph(
        "Mean absolute errors of what the heads say of structures' own latent vectors; in the last column the error of "
        "always answering with the mean. Weights are those of the best epoch on the validation part."
    )
    return Section(
        "Models", plot(figure, name="losses", height=340) + note + table(header, rows, numeric=range(2, len(header)))
    )


def _faults(findings: Findings) -> Section:
    rows = []
    for model, form, name, _ in _series(findings):
        mine = [row for row in findings.drafts if (row.info[MODEL], row.info[OPTIMIZATION]) == (model, form)]
        counts = Counter(_kind_of(str(row.info[FAULT])) for row in mine if FAULT in row.info)
        rows += [[html.escape(name), kind, f"{n:,}", f"{n / len(mine):.0%}"] for kind, n in counts.most_common()]
    if not rows:
        return Section("What does not count", paragraph("All that was drawn counts."))
    return Section("What does not count", table(["drawn by", "because", "structures", "share"], rows, numeric=[2, 3]))


def _kind_of(fault: str) -> str:
    for beginning, kind in (
        ("no energy as generated", "it has no energy: atoms on top of each other, or a cell without room"),
        ("no energy relaxed", "it has no label: not converged, or no longer a crystal"),
        ("relaxation takes", "relaxation takes too much energy off it"),
    ):
        if fault.startswith(beginning):
            return kind
    if "% of it is" in fault:
        return "an element has a larger share than in the data"
    if "when relaxed, more than" in fault:
        return "its energy as drawn is too high"
    return "its energy, relaxed, is above the highest of the data"


def _configuration(config: PipelineConfig) -> Section:
    plain = config.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return Section("Configuration", f"<pre>{html.escape(text)}</pre>")
