"""Curves of a validation: energy and volume, migration, phonons, coexistence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...oracles.validation.coexistence import CoexistenceRun
from ...oracles.validation.equation_of_state import EnergyVolumeCurve
from ...oracles.validation.melting import MeltingPoint
from ...oracles.validation.phonons import Phonons
from ...oracles.validation.vacancy_migration import VacancyMigration
from .page import plot
from .style import ACCENT, MUTED, SERIES

_OUTCOME_COLOURS = {"melted": SERIES[1], "solidified": SERIES[0], "coexisting": SERIES[2]}


def energy_volume_figure(curve: EnergyVolumeCurve, others: Sequence[tuple[str, EnergyVolumeCurve]], name: str) -> str:
    """Energy above the minimum against volume, with the fit; curves of other potentials beside."""
    figure = go.Figure()
    volumes = np.array(curve.volumes_ang3_per_atom)
    energies = np.array(curve.energies_ev_per_atom) - curve.energy_ev_per_atom
    fine = np.linspace(volumes.min(), volumes.max(), 200)
    figure.add_trace(
        go.Scatter(
            x=fine,
            y=curve.fitted(fine) - curve.energy_ev_per_atom,
            mode="lines",
            line={"color": MUTED, "dash": "dot"},
            name="Birch-Murnaghan, fitted near the minimum",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=volumes,
            y=energies,
            mode="lines+markers",
            line={"color": ACCENT},
            marker={"size": 5},
            name="this potential",
        )
    )
    for (label, other), colour in zip(others, SERIES[1:], strict=False):
        above = np.array(other.energies_ev_per_atom) - other.energy_ev_per_atom
        figure.add_trace(
            go.Scatter(x=other.volumes_ang3_per_atom, y=above, mode="lines", line={"color": colour}, name=label)
        )
    figure.update_xaxes(title="volume (Å³ per atom)")
    figure.update_yaxes(title="energy above the minimum (eV per atom)")
    return plot(figure, name=name)


def migration_figure(hop: VacancyMigration, name: str) -> str:
    """Energy along the path of a vacancy's hop."""
    figure = go.Figure(
        go.Scatter(
            x=hop.path_ang,
            y=hop.energies_ev,
            mode="lines+markers",
            line={"color": ACCENT, "shape": "spline"},
            showlegend=False,
        )
    )
    figure.update_xaxes(title="along the path (Å)")
    figure.update_yaxes(title="energy above the start (eV)", rangemode="tozero")
    return plot(figure, name=name, height=320)


def dispersion_figure(found: Phonons, name: str) -> str:
    """Dispersion beside the density of states; imaginary frequencies are below zero."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, column_widths=[0.78, 0.22], horizontal_spacing=0.02)
    ticks: dict[float, str] = {}
    for segment in found.segments:
        distances = np.array(segment.distances_per_ang)
        for branch in np.array(segment.frequencies_thz).T:
            figure.add_trace(
                go.Scatter(
                    x=distances,
                    y=branch,
                    mode="lines",
                    line={"color": ACCENT, "width": 1.6},
                    showlegend=False,
                    hovertemplate="%{y:.3f} THz<extra></extra>",
                ),
                row=1,
                col=1,
            )
        for distance, label in zip((distances[0], distances[-1]), segment.labels, strict=True):
            shown = "Γ" if label == "G" else label
            known = ticks.get(float(distance))
            ticks[float(distance)] = shown if known in (None, shown) else f"{known}|{shown}"
    figure.add_trace(
        go.Scatter(
            x=found.dos_per_thz,
            y=found.dos_frequencies_thz,
            mode="lines",
            line={"color": SERIES[1]},
            fill="tozerox",
            showlegend=False,
        ),
        row=1,
        col=2,
    )
    for distance in ticks:
        figure.add_vline(x=distance, line={"color": MUTED, "width": 0.6}, row=1, col=1)
    figure.add_hline(y=0.0, line={"color": MUTED, "width": 0.8, "dash": "dot"})
    figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()), showgrid=False, row=1, col=1)
    figure.update_xaxes(title="states per THz", row=1, col=2)
    figure.update_yaxes(title="frequency (THz)", row=1, col=1)
    return plot(figure, name=name, height=440)


def coexistence_figures(point: MeltingPoint, name: str) -> str:
    """Share of the crystal against time at each temperature, and the interface's speed against temperature."""
    traces = go.Figure()
    for run in sorted(point.runs, key=lambda run: run.temperature_k):
        traces.add_trace(_trace(run))
    traces.update_xaxes(title="time (ps)")
    traces.update_yaxes(title="share of crystal", range=[-0.05, 1.1])
    traces.update_layout(legend={"orientation": "v", "x": 1.02, "y": 1.0, "yanchor": "top"})
    body = plot(traces, name=name, height=400)
    known = sorted((run for run in point.runs if run.velocity_m_s is not None), key=lambda run: run.temperature_k)
    if not known:
        return body
    speeds = go.Figure(
        go.Scatter(
            x=[run.temperature_k for run in known],
            y=[run.velocity_m_s for run in known],
            error_y={"array": [run.velocity_error_m_s for run in known], "color": MUTED},
            mode="markers",
            marker={"size": 9, "color": [_OUTCOME_COLOURS[run.outcome or "coexisting"] for run in known]},
            showlegend=False,
        )
    )
    speeds.add_hline(y=0.0, line={"color": MUTED, "dash": "dot"})
    speeds.add_vrect(
        x0=point.solidified_at_k, x1=point.melted_at_k, fillcolor=SERIES[2], opacity=0.12, line_width=0, layer="below"
    )
    speeds.update_xaxes(title="temperature (K)")
    speeds.update_yaxes(title="interface speed (m/s)")
    return body + plot(speeds, name=f"{name}-speed", height=320)


def _trace(run: CoexistenceRun) -> go.Scatter:
    colour = _OUTCOME_COLOURS[run.outcome or "coexisting"]
    is_immediate = not run.times_ps
    return go.Scatter(
        x=[0.0] if is_immediate else run.times_ps,
        y=[0.0] if is_immediate else run.crystal_fractions,
        mode="markers" if is_immediate else "lines",
        line={"color": colour},
        marker={"color": colour},
        name=f"{run.temperature_k:.0f} K, {run.outcome}" + (" at once" if is_immediate else ""),
    )
