"""Short-range order of the winners: Warren-Cowley parameters as heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ...generators.base import Evaluation
from ...structures.order import pairs, warren_cowley_of_atoms
from .page import Section, paragraph, plot
from .record import CampaignRecord
from .style import DIVERGING

_N_WINNERS = 10
_N_SHELLS = 4


def short_range_order(record: CampaignRecord) -> Section | None:
    """The best structure's parameters, and the mean over the best ones of its phase; nothing for a pure element."""
    winners = record.best(_N_WINNERS)
    if not winners or len(record.elements) < 2:
        return None
    phase = winners[0].candidate.phase
    alike = [w for w in winners if w.candidate.phase == phase]
    parameters = np.array([_parameters(record, winner) for winner in alike])
    names = ["–".join((record.elements[a], record.elements[b])) for a, b in pairs(len(record.elements))]
    limit = max(0.1, float(np.abs(parameters).max()))
    phase_name = phase.upper()
    panels = [
        _heat_map(f"best structure, {phase_name}", parameters[0], names, limit, "order-best"),
        _heat_map(
            f"mean of the best {len(alike)} in {phase_name}", parameters.mean(axis=0), names, limit, "order-mean"
        ),
    ]
    intro = (
        "Warren–Cowley parameters of the structures before relaxation. Negative (red): the two elements are neighbours "
        "more often than in a random alloy of that composition; positive (blue): less often; 0: random, or an "
        "element is absent."
    )
    return Section("Short-range order", paragraph(intro) + f'<div class="columns">{"".join(panels)}</div>')


def _parameters(record: CampaignRecord, winner: Evaluation) -> np.ndarray:
    candidate = winner.candidate
    return warren_cowley_of_atoms(candidate.atoms, candidate.phase, _N_SHELLS, record.elements)


def _heat_map(title: str, parameters: np.ndarray, names: Sequence[str], limit: float, name: str) -> str:
    """``parameters``: ``[n_shells, n_pairs]``."""
    shells = [f"shell {k + 1}" for k in range(len(parameters))]
    values = parameters.T
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=shells,
            y=list(names),
            zmin=-limit,
            zmax=limit,
            colorscale=DIVERGING,
            text=[[f"{v:+.2f}" if abs(v) >= 0.005 else "0" for v in row] for row in values],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}: %{z:+.3f}<extra></extra>",
            xgap=2,
            ygap=2,
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_layout(title={"text": title, "font": {"size": 14}, "x": 0.0, "xanchor": "left"})
    figure.update_yaxes(autorange="reversed")
    return plot(figure, name=name, height=110 + 36 * max(4, len(names)))
