"""The campaign in a few figures."""

from __future__ import annotations

import html

from ase import Atoms

from ..texts import composition_counts, duration_text, number_text, value_text
from .page import Section
from .record import CampaignRecord


def overview(record: CampaignRecord) -> Section:
    """Best value, evaluations, failures, time."""
    figures = [_best_figure(record), _evaluations_figure(record), _failures_figure(record), *_time_figures(record)]
    blocks = "".join(
        f'<div class="{"first" if index == 0 else ""}"><strong>{value}</strong><span>{what}</span>'
        f"<small>{remark}</small></div>"
        for index, (value, what, remark) in enumerate(figures)
    )
    return Section("Overview", f'<div class="figures">{blocks}</div>')


def composition_html(record: CampaignRecord, atoms: Atoms) -> str:
    """Counts of atoms with subscripts."""
    return "".join(f"{e}<sub>{n}</sub>" for e, n in composition_counts(atoms, record.elements))


def lead(record: CampaignRecord) -> str:
    """One sentence below the title."""
    system = "–".join(record.elements)
    goal = f"{record.objective.direction} the {html.escape(record.property_label)}"
    return f"{html.escape(system)}: {goal}. {html.escape(record.ending[:1].upper() + record.ending[1:])}."


def _best_figure(record: CampaignRecord) -> tuple[str, str, str]:
    best = record.best(1)
    if not best:
        return "–", f"best {html.escape(record.property_label)}", "no label yet"
    number = list(record.evaluations).index(best[0]) + 1
    where = (
        f"{best[0].candidate.phase.upper()} {composition_html(record, best[0].candidate.atoms)}, evaluation {number}"
    )
    return value_text(record.value(best[0])), f"best {html.escape(record.property_label)}", where


def _evaluations_figure(record: CampaignRecord) -> tuple[str, str, str]:
    n = len(record.evaluations)
    budget = f"of {number_text(record.n_budget)}" if record.n_budget else ""
    per_hour = f"{number_text(3600.0 * n / record.elapsed_s)} per hour" if record.elapsed_s > 0 else ""
    return number_text(n), f"evaluations {budget}".strip(), per_hour


def _failures_figure(record: CampaignRecord) -> tuple[str, str, str]:
    n = len(record.evaluations)
    n_failed = n - len(record.labelled)
    return number_text(n_failed), "failed", f"{100.0 * n_failed / n:.1f} % of all" if n else ""


def _time_figures(record: CampaignRecord) -> list[tuple[str, str, str]]:
    busy_s = sum(span.ended_at - span.started_at for span in record.spans)
    workers = f"{record.n_workers} worker" + ("s" if record.n_workers != 1 else "")
    share = f", {100.0 * busy_s / (record.elapsed_s * record.n_workers):.0f} % busy" if record.elapsed_s > 0 else ""
    per_label = record.cpu_s / len(record.labelled) if record.labelled else 0.0
    return [
        (duration_text(record.elapsed_s), "wall time", workers + share),
        (duration_text(record.cpu_s), "CPU time of labels", f"{per_label:.3g} s per label"),
    ]
