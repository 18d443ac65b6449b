"""The card of a potential: what it was made of, how wrong it is and where, its functions, its range. One HTML file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ... import __version__
from ...oracles.setfl import EamTables
from ...surrogates.eam.model import EamModel
from ...surrogates.eam.radial import type_pairs
from ...surrogates.eam.tables import tabulate
from ...surrogates.potentials.base import PotentialSpec
from ...surrogates.potentials.torch_potential import TorchPotential
from .page import Section, page, paragraph, plot, table
from .style import MUTED, SERIES

_SHORTEST_ANG = 1.5
_PARTS = ("test", "validation", "training")
_ERROR_COLUMNS = (
    ("energy_mae_mev", "E MAE (meV/atom)", 2),
    ("energy_rmse_mev", "E RMSE", 2),
    ("force_mae", "F MAE (eV/Å)", 4),
    ("force_rmse", "F RMSE", 4),
    ("stress_mae_gpa", "stress MAE (GPa)", 3),
)


def potential_card(potential: TorchPotential, name: str) -> str:
    """The HTML document. Sections that a potential's facts say nothing about are left out."""
    spec = potential.spec
    drafts = [
        _errors(spec.facts.get("errors", {})),
        _constraints(spec.facts.get("constraints", {})),
        _functions(potential),
        _range(spec),
        _data(spec),
        _training(spec.facts.get("training", {})),
    ]
    symbols = ", ".join(spec.elements)
    lead = (
        f"An interatomic potential of kind {html.escape(spec.kind)} for {html.escape(symbols)}, range "
        f"{spec.cutoff_ang:g} Å, fitted to {spec.n_train:,} structures."
        if spec.n_train
        else f"An interatomic potential of kind {html.escape(spec.kind)} for {html.escape(symbols)}, range "
        f"{spec.cutoff_ang:g} Å."
    )
    sections = [section for section in drafts if section is not None]
    return page(name, lead, sections, f"Alloysmith {html.escape(__version__)}", kicker="Alloysmith potential card")


def _errors(errors: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Section | None:
    if not errors:
        return None
    rows = []
    for part in sorted(errors, key=_PARTS.index):
        groups = errors[part]
        for group in sorted(groups, key=lambda name: (name != "all", name)):
            figures = groups[group]
            if group == "all" or len(groups) > 2:
                cells = [_number(figures.get(key), digits) for key, _, digits in _ERROR_COLUMNS]
                label = f"<strong>{html.escape(part)}</strong>" if group == "all" else ""
                n = f"{figures.get('n_frames', 0):.0f}"
                rows.append([label, html.escape(group), n, *cells])
    header = ["structures", "group", "n", *(title for _, title, _ in _ERROR_COLUMNS)]
    note = paragraph("Test structures were never learnt from; validation structures decided when to stop.")
    return Section("Errors", note + table(header, rows, numeric=range(2, len(header))))


def _constraints(constraints: Mapping[str, Mapping[str, Sequence[float]]]) -> Section | None:
    if not constraints:
        return None
    rows = [
        [html.escape(name), html.escape(figure), f"{got:.5g}", f"{wanted:.5g}", f"{got - wanted:+.3g}"]
        for name, figures in constraints.items()
        for figure, (got, wanted) in figures.items()
    ]
    header = ["constraint", "figure", "potential", "target", "difference"]
    return Section("Physical constraints", table(header, rows, numeric=range(2, 5)))


def _functions(potential: TorchPotential) -> Section | None:
    if not isinstance(potential.model, EamModel):
        return None
    tables = tabulate(potential.model)
    names = ["density ρ(r)", "pair function φ(r) (eV)", "embedding F(ρ) (eV)"]
    if tables.is_angular:
        names += ["dipole u(r)", "quadrupole w(r)"]
    n_rows = (len(names) + 1) // 2
    figure = make_subplots(rows=n_rows, cols=2, subplot_titles=names, vertical_spacing=0.16, horizontal_spacing=0.1)
    distances = np.arange(tables.pair.shape[1]) * tables.dr_ang
    shown = distances >= _SHORTEST_ANG
    typical = potential.model.embedding.typical_densities()
    densities = np.arange(tables.embedding.shape[1]) * tables.drho
    dense = densities <= 2.0 * max(typical)
    for k, symbol in enumerate(tables.elements):
        _line(figure, (1, 1), distances[shown], tables.density[k][shown], symbol, k)
        _line(figure, (2, 1), densities[dense], tables.embedding[k][dense], symbol, k)
        figure.add_vline(typical[k], line={"dash": "dot", "color": SERIES[k % len(SERIES)]}, row=2, col=1)
    for k, (a, b) in enumerate(type_pairs(len(tables.elements))):
        pair = f"{tables.elements[a]}-{tables.elements[b]}"
        values = tables.pair[k][shown]
        _line(figure, (1, 2), distances[shown], values, pair, k)
        if tables.dipole is not None and tables.quadrupole is not None:
            _line(figure, (2, 2), distances[shown], tables.dipole[k][shown], pair, k)
            _line(figure, (3, 1), distances[shown], tables.quadrupole[k][shown], pair, k)
    deepest = float(tables.pair[:, shown].min())
    figure.update_yaxes(range=[1.3 * min(deepest, -0.1), 3.0 * max(-deepest, 0.1)], row=1, col=2)
    figure.update_xaxes(title_text="r (Å)")
    figure.update_xaxes(title_text="ρ", row=2, col=1)
    note = f'<p class="note">{html.escape(_functions_note(tables))}</p>'
    return Section("Functions", plot(figure, name="functions", height=330 * n_rows) + note)


def _functions_note(tables: EamTables) -> str:
    return (
        f"Tables reach to {tables.cutoff_ang:g} Å and to a density of {tables.rho_max:.4g}. Dotted lines mark a "
        "density near that of each element's crystal."
    )


def _line(figure: go.Figure, place: tuple[int, int], x: np.ndarray, y: np.ndarray, name: str, k: int) -> None:
    row, column = place
    step = max(1, len(x) // 400)
    trace = go.Scatter(
        x=x[::step],
        y=y[::step],
        name=name,
        mode="lines",
        line={"color": SERIES[k % len(SERIES)]},
        legendgroup=name,
        showlegend=not any(other.name == name for other in figure.data),
    )
    figure.add_trace(trace, row=row, col=column)


def _range(spec: PotentialSpec) -> Section | None:
    found = spec.facts.get("valid_range")
    if not found:
        return None
    low, high = found["volume_ang3_per_atom"]
    rows = [
        ["volume per atom", f"{low:.3f} to {high:.3f} Å³"],
        ["shortest distance", f"{found['shortest_distance_ang']:.3f} Å"],
        *(
            [f"fraction of {html.escape(symbol)}", f"{least:.3f} to {most:.3f}"]
            for symbol, (least, most) in found["fractions"].items()
        ),
        ["structures, atoms", f"{found['n_structures']:,}, {found['n_atoms']:,}"],
    ]
    note = paragraph("What the structures it learnt from span. Beyond, nothing is known about its errors.")
    return Section("Valid range", note + table(["quantity", "range"], rows))


def _data(spec: PotentialSpec) -> Section | None:
    data = spec.facts.get("data")
    if not data:
        return None
    rows = [
        [
            html.escape(str(file["name"])),
            f"{file['n_frames']:,}",
            f"{file['n_rows']:,}",
            f"<code>{file['digest']}</code>",
        ]
        for file in data["files"]
    ]
    body = table(["file", "used", "rows", "hash"], rows, numeric=(1, 2))
    if spec.reference_energies_ev:
        energies = ", ".join(f"{symbol} {energy:.6g}" for symbol, energy in spec.reference_energies_ev.items())
        body += paragraph(f"Reference energies taken from the labels (eV per atom): {energies}.")
    else:
        body += paragraph("Energies are those of the labels; no reference energies were taken off.")
    body += "".join(f'<p class="note">{html.escape(text)}</p>' for text in data.get("warnings", ()))
    return Section("Data", body)


def _training(training: Mapping[str, Any]) -> Section | None:
    history = training.get("history")
    if not history:
        return None
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    cpu = [row.get("cpu_s", 0.0) for row in history]
    for key, name, colour, is_second in (
        ("validation_energy_mae_mev", "energy MAE (meV/atom)", SERIES[0], False),
        ("validation_force_mae", "force MAE (eV/Å)", SERIES[1], True),
    ):
        values = [row.get(key) for row in history]
        line = go.Scatter(x=cpu, y=values, name=name, mode="lines+markers", line={"color": colour}, marker={"size": 4})
        figure.add_trace(line, secondary_y=is_second)
    figure.update_xaxes(title_text="CPU time (s)")
    figure.update_yaxes(title_text="energy MAE (meV/atom)", type="log", secondary_y=False)
    figure.update_yaxes(title_text="force MAE (eV/Å)", type="log", secondary_y=True, showgrid=False, color=MUTED)
    figure.update_yaxes(tickformat=".3~g", nticks=6, minor={"ticks": ""})
    stop = str(training["stop_reason"]).replace("_", " ")
    note = paragraph(f"{training['n_steps']:,} steps, {training['cpu_s']:.0f} CPU seconds; it ended by: {stop}.")
    return Section("Training", note + plot(figure, name="training"))


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
