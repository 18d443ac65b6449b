"""Liquids of a validation: structure, motion and energies beside the reference potential's, with their errors."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...oracles.validation.liquid_dynamics import ComparedCurve, ComparedValue, LiquidDynamics, Quantity
from ...oracles.validation.record import Entry
from ...structures.whole_file import write_whole
from ..texts import axis_label, unit_of
from .page import plot, table
from .style import ACCENT, MUTED, SERIES, translucent

_AXES: dict[Quantity, tuple[str, str]] = {
    "rdf": ("r (Å)", "g(r)"),
    "vacf": ("t (ps)", "⟨v(0)·v(t)⟩ / ⟨v²⟩"),
    "vdos": ("frequency (THz)", "states per THz"),
    "msd": ("t (ps)", "mean square displacement (Å²)"),
}
_TITLES: dict[Quantity, str] = {
    "rdf": "Partial radial distribution functions",
    "vacf": "Velocity autocorrelation",
    "vdos": "Its spectrum, the vibrational density of states",
    "msd": "Mean square displacements",
}
_BAND_ERRORS = 2.0
_REFERENCE = SERIES[1]


def liquid_details(result: LiquidDynamics, label: str, name: str) -> str:
    """HTML of one liquid: figures with errors, agreement of curves, curves, energies.

    Args:
        label: of the potential.
        name: unique within the page.
    """
    parts = [_titled("Molecular dynamics", _numbers(result, label), _volume_note(result))]
    if result.reference_label:
        parts.append(_titled("Agreement of the curves", _agreements(result), _agreement_note()))
    for quantity, title in _TITLES.items():
        note = "Bands are two standard errors wide on either side." if quantity == "rdf" else ""
        parts.append(_titled(title, _curves(result, quantity, label, f"{name}-{quantity}"), note))
    parts.append(_titled("Total energy at constant energy", _energies(result, f"{name}-nve"), ""))
    return "".join(parts)


def liquid_label(name: str) -> str:
    """A value's name for people: ``self_diffusion_Al_ang2_ps`` becomes ``self diffusion Al (Å²/ps)``."""
    for suffix, unit in (("ang2_ps", "Å²/ps"), ("ev_per_atom_ps", "eV/atom/ps"), ("g_cm3", "g/cm³")):
        if name.endswith(f"_{suffix}"):
            return f"{name[: -len(suffix) - 1].replace('_', ' ')} ({unit})".replace("nve drift", "drift of the energy")
    return axis_label(name, unit_of(name))


def write_liquid_curves(entries: Sequence[Entry], path: Path) -> bool:
    """Write all curves of all liquids as one table, CSV; return whether there were any.

    Raises:
        OSError: the file cannot be written.
    """
    rows = [
        (entry.crystal, curve.quantity, curve.name, *point)
        for entry in entries
        if isinstance(result := entry.read_result(), LiquidDynamics)
        for curve in result.curves
        for point in zip(
            curve.x,
            curve.mean,
            curve.error,
            curve.reference or [""] * len(curve.x),
            curve.reference_error or [""] * len(curve.x),
            strict=True,
        )
    ]

    def fill(scratch: Path) -> None:
        with scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("melt", "quantity", "species", "x", "mean", "error", "reference", "reference_error"))
            writer.writerows(rows)

    if rows:
        write_whole(path, fill)
    return bool(rows)


def _titled(title: str, body: str, note: str) -> str:
    remark = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h3>{html.escape(title)}</h3>{body}{remark}"


def _volume_note(result: LiquidDynamics) -> str:
    whose = f"{result.reference_label}'s" if result.reference_label else "the potential's own"
    return (
        f"{result.n_atoms} atoms. Structure and motion at {result.volume_ang3_per_atom:.3f} Å³ per atom, {whose} "
        "volume at the pressure asked for. Errors are standard errors of means over blocks, with the correlation of "
        "neighbouring blocks."
    )


def _agreement_note() -> str:
    return (
        "Deviations are in standard errors of the difference. Two samples of the same liquid stay below the limit "
        "everywhere with a probability of 95 % (95 % of points are within two errors). The integrated difference is "
        "that of absolute values, relative to the reference; the noise is what the errors alone make of it."
    )


def _numbers(result: LiquidDynamics, label: str) -> str:
    rows = [
        [html.escape(liquid_label(found.name)), _with_error(found.value, found.error), *_beside(found)]
        for found in result.numbers
    ]
    header = ["", html.escape(label)]
    if result.reference_label:
        header += [html.escape(result.reference_label), "difference", "in standard errors"]
    return table(header, rows, numeric=range(1, len(header)))


def _beside(found: ComparedValue) -> list[str]:
    if found.reference is None or found.reference_error is None:
        return []
    difference = found.value - found.reference
    is_about_zero = "drift" in found.name or found.name.endswith("_gpa")
    shown = f"{difference:+.2g}" if is_about_zero else f"{100.0 * difference / abs(found.reference):+.2f} %"
    return [_with_error(found.reference, found.reference_error), shown, f"{found.deviation_errors:.1f}"]


def _with_error(value: float, error: float) -> str:
    if error <= 0.0:
        return f"{value:.4g}"
    if max(abs(value), error) < 1e-3:
        return f"{value:.1e} ± {error:.0e}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _agreements(result: LiquidDynamics) -> str:
    rows = []
    for curve in result.curves:
        found = curve.agreement
        if found is None:
            continue
        rows.append(
            [
                html.escape(f"{_AXES[curve.quantity][1]}, {curve.name}"),
                f"{found.max_deviation_errors:.1f}",
                f"{found.limit_errors:.1f}",
                "yes" if found.overlaps else "<b>no</b>",
                f"{100.0 * found.share_within_two_errors:.0f} %",
                f"{100.0 * found.integrated_difference:.2f} %",
                f"{100.0 * found.integrated_noise:.2f} %",
            ]
        )
    header = ["", "largest deviation", "limit", "overlap", "within two errors", "integrated difference", "noise"]
    return table(header, rows, numeric=range(1, len(header)))


def _curves(result: LiquidDynamics, quantity: Quantity, label: str, name: str) -> str:
    curves = [curve for curve in result.curves if curve.quantity == quantity]
    n_columns = min(3, len(curves))
    n_rows = ceil(len(curves) / n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        subplot_titles=[curve.name for curve in curves],
        vertical_spacing=0.16 if n_rows > 1 else 0.0,
        horizontal_spacing=0.06,
    )
    for k, curve in enumerate(curves):
        place = {"row": k // n_columns + 1, "col": k % n_columns + 1}
        if curve.reference is not None and curve.reference_error is not None:
            _add(figure, curve, curve.reference, curve.reference_error, result.reference_label, _REFERENCE, k, place)
        _add(figure, curve, curve.mean, curve.error, label, ACCENT, k, place)
        figure.update_xaxes(title=_AXES[quantity][0] if place["row"] == n_rows else "", **place)
        if place["col"] == 1:
            figure.update_yaxes(title=_AXES[quantity][1], **place)
    # titles inside, off the curves; the legend is above
    figure.update_annotations(yshift=-20, xshift=-70 if quantity == "msd" else 70)
    return plot(figure, name=name, height=300 if n_rows == 1 else 260 * n_rows)


def _add(
    figure: go.Figure,
    curve: ComparedCurve,
    mean: Sequence[float],
    error: Sequence[float],
    label: str,
    colour: str,
    number: int,
    place: dict[str, int],
) -> None:
    """A curve and its band; one entry in the legend for all of a potential's."""
    x, y, width = np.array(curve.x), np.array(mean), _BAND_ERRORS * np.array(error)
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([y + width, (y - width)[::-1]]),
            fill="toself",
            fillcolor=translucent(colour, 0.22),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        ),
        **place,
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": 1.6, "dash": "dot" if colour == _REFERENCE else "solid"},
            name=label,
            legendgroup=label,
            showlegend=number == 0,
        ),
        **place,
    )


def _energies(result: LiquidDynamics, name: str) -> str:
    figure = go.Figure()
    seen: set[str] = set()
    for trace in result.energies:
        is_reference = bool(result.reference_label) and trace.label == result.reference_label
        figure.add_trace(
            go.Scatter(
                x=trace.times_ps,
                y=1e6 * np.array(trace.energies_ev_per_atom),
                mode="lines",
                line={"color": _REFERENCE if is_reference else ACCENT, "width": 1.2},
                name=trace.label,
                legendgroup=trace.label,
                showlegend=trace.label not in seen,
                hovertemplate=f"run {trace.run}: %{{y:.2f}} µeV<extra></extra>",
            )
        )
        seen.add(trace.label)
    figure.add_hline(y=0.0, line={"color": MUTED, "dash": "dot", "width": 0.8})
    figure.update_xaxes(title="t (ps)")
    figure.update_yaxes(title="above the start (µeV per atom)")
    return plot(figure, name=name, height=320)
