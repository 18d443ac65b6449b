"""The best structures: in three dimensions, in a table, and as files to take away."""

from __future__ import annotations

import base64
import html
from io import BytesIO, StringIO

import ase.io
import numpy as np
import plotly.graph_objects as go
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from vesin import NeighborList

from ...generators.base import Evaluation
from ..texts import value_text
from .overview import composition_html
from .page import Section, paragraph, plot, table
from .record import CampaignRecord

_N_TABLE = 20
_N_VIEWS = 5
_SPHERE_SHARE = 0.27
"""Share of a bond's length that lies within the sphere of either atom, as drawn."""
_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


def best_structures(record: CampaignRecord) -> Section | None:
    """A view that turns, a table with downloads; nothing before the first label."""
    winners = record.best(_N_TABLE)
    if not winners:
        return None
    view = plot(_view(record, winners[:_N_VIEWS]), name="structures", height=560)
    intro = "Relaxed structures. Drag to turn, scroll to zoom; the menu chooses among the best."
    together = [labelled_atoms(record, winner) for winner in winners]
    everything = _link(together, "best.extxyz", "extxyz", "all of them, extended XYZ")
    return Section(
        "Best structures",
        paragraph(intro) + view + _table(record, winners) + f'<p class="files">Download: {everything}</p>',
    )


def labelled_atoms(record: CampaignRecord, evaluation: Evaluation) -> Atoms:
    """The structure that the label belongs to, with its scalar values in ``info``."""
    label = evaluation.label
    if label is None:
        raise ValueError(f"evaluation {evaluation.request_id} has no label")
    atoms = label.atoms.copy()
    atoms.calc = None
    atoms.info = {
        "request_id": evaluation.request_id,
        "phase": evaluation.candidate.phase,
        **{name: float(value) for name, value in label.values.items() if np.ndim(value) == 0},
        "oracle_fingerprint": label.fingerprint,
    }
    return atoms


def _table(record: CampaignRecord, winners: list[Evaluation]) -> str:
    position = {e.request_id: i + 1 for i, e in enumerate(record.evaluations)}
    rows = []
    for rank, winner in enumerate(winners, start=1):
        atoms = labelled_atoms(record, winner)
        stem = f"{rank:02d}-{winner.request_id}"
        files = " ".join(
            (
                _link(atoms, f"{stem}.cif", "cif", "CIF"),
                _link(atoms[np.argsort(atoms.numbers, kind="stable")], f"{stem}.POSCAR", "vasp", "POSCAR"),
                _link(atoms, f"{stem}.extxyz", "extxyz", "XYZ"),
            )
        )
        rows.append(
            [
                str(rank),
                value_text(record.value(winner)),
                winner.candidate.phase.upper(),
                composition_html(record, winner.candidate.atoms),
                str(position[winner.request_id]),
                html.escape(f"{winner.candidate.lineage.generator}, {winner.candidate.lineage.move}"),
                f'<span class="files">{files}</span>',
            ]
        )
    header = ["", html.escape(record.property_label), "phase", "atoms", "evaluation", "made by", "files"]
    return table(header, rows, numeric=(1, 4))


def _link(atoms: Atoms | list[Atoms], name: str, file_format: str, text: str) -> str:
    """A download whose content is in the page itself."""
    encoded = base64.b64encode(_written(atoms, file_format)).decode("ascii")
    return f'<a download="{html.escape(name)}" href="data:text/plain;base64,{encoded}">{html.escape(text)}</a>'


def _written(atoms: Atoms | list[Atoms], file_format: str) -> bytes:
    if file_format == "cif":  # ASE writes this one format to a binary file
        binary = BytesIO()
        ase.io.write(binary, atoms, format=file_format)
        return binary.getvalue()
    text = StringIO()
    ase.io.write(text, atoms, format=file_format)
    return text.getvalue().encode()


def _view(record: CampaignRecord, winners: list[Evaluation]) -> go.Figure:
    figure = go.Figure()
    visible: list[list[bool]] = []
    owner: list[int] = []
    for index, winner in enumerate(winners):
        traces = _traces(winner.label.atoms) if winner.label is not None else []
        for trace in traces:
            trace.visible = index == 0
            figure.add_trace(trace)
            owner.append(index)
    visible = [[o == index for o in owner] for index in range(len(winners))]
    buttons = [
        {
            "label": f"{rank + 1}: {value_text(record.value(winner))} {record.unit}".strip(),
            "method": "update",
            "args": [{"visible": visible[rank]}],
        }
        for rank, winner in enumerate(winners)
    ]
    hidden = {"visible": False, "showbackground": False}
    figure.update_layout(
        scene={
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "data",
            "camera": {"eye": {"x": 1.15, "y": 0.72, "z": 0.42}, "projection": {"type": "orthographic"}},
        },
        updatemenus=[{"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.0, "showactive": True}],
    )
    return figure


def _traces(atoms: Atoms) -> list[go.Scatter3d]:
    """Cell, bonds between nearest neighbours, and one set of spheres an element."""
    wrapped = atoms.copy()
    wrapped.wrap(eps=1e-3)
    positions = wrapped.positions
    corners = _CORNERS @ wrapped.cell.array
    first, second = _bonds(wrapped)
    traces = [
        _segments(corners[[a for a, _ in _EDGES]], corners[[b for _, b in _EDGES]], "#9aa8b5", 2.0),
        _segments(*_between(positions[first], positions[second]), "#c3ccd5", 3.0),
    ]
    for number in sorted(set(wrapped.numbers.tolist())):
        members = np.flatnonzero(wrapped.numbers == number)
        symbol = wrapped.symbols[members[0]]
        red, green, blue = (int(255 * c) for c in jmol_colors[number])
        traces.append(
            go.Scatter3d(
                x=positions[members, 0],
                y=positions[members, 1],
                z=positions[members, 2],
                mode="markers",
                name=f"{symbol} ({len(members)})",
                marker={
                    "size": 11.0 * float(covalent_radii[number]),
                    "color": f"rgb({red},{green},{blue})",
                    "line": {"width": 1, "color": "rgba(27,39,51,.55)"},
                },
                hovertemplate=f"{symbol} %{{text}}<br>%{{x:.3f}}, %{{y:.3f}}, %{{z:.3f}} Å<extra></extra>",
                text=[str(m) for m in members],
            )
        )
    return traces


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of nearest neighbours that do not cross the cell's faces."""
    # behind the first shell of FCC (1.12) and BCC (1.09), in units of the cube root of the volume per atom
    cutoff = 1.25 * (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    neighbours = NeighborList(cutoff=float(cutoff), full_list=False)
    i, j, shift = neighbours.compute(points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijS")
    is_inside = (shift == 0).all(axis=1)
    return i[is_inside].astype(int), j[is_inside].astype(int)


def _between(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each bond: spheres are drawn as discs, which a line from centre to centre would cross."""
    return starts + _SPHERE_SHARE * (ends - starts), ends - _SPHERE_SHARE * (ends - starts)


def _segments(starts: np.ndarray, ends: np.ndarray, colour: str, width: float) -> go.Scatter3d:
    """Lines from ``starts`` to ``ends`` ``[n, 3]``, as one trace with gaps."""
    points = np.full((3 * len(starts), 3), np.nan)
    points[0::3], points[1::3] = starts, ends
    return go.Scatter3d(
        x=points[:, 0],
        y=points[:, 1],
        z=points[:, 2],
        mode="lines",
        line={"color": colour, "width": width},
        hoverinfo="skip",
        showlegend=False,
    )
