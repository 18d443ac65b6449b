"""The models that generators learned in the course of a campaign, and what was proposed with each."""

from __future__ import annotations

import html

import numpy as np

from ..events import GeneratorTrained
from ..texts import duration_text, number_text, value_text
from .page import Section, paragraph, table
from .record import CampaignRecord


def generator_models(record: CampaignRecord) -> Section | None:
    """A row for each training; nothing where no generator was trained."""
    if not record.trainings:
        return None
    header = ["generator", "labels", "took", "loss", "evaluated", f"mean {record.unit}", f"best {record.unit}", "model"]
    rows = []
    for event in record.trainings:
        name, n_train = html.escape(event.generator), number_text(event.n_train)
        if not isinstance(event, GeneratorTrained):
            first_line = event.failure.message.partition("\n")[0]
            reason = html.escape(f"{event.failure.kind}, {event.action}: {first_line}")
            rows.append([name, n_train, "", "", "", "", "", reason])
            continue
        mine = [
            e
            for e in record.evaluations
            if e.candidate.lineage.generator == event.generator
            and e.candidate.lineage.facts.get("n_learnt") == event.n_train
        ]
        values = np.array([record.value(e) for e in mine if e.label is not None])
        best = values.max if record.objective.direction == "maximize" else values.min
        loss = event.figures.get("loss")
        rows.append(
            [
                name,
                n_train,
                duration_text(event.wall_s),
                "–" if loss is None else f"{loss:.3g}",
                number_text(len(mine)),
                value_text(float(values.mean())) if len(values) else "–",
                value_text(float(best())) if len(values) else "–",
                html.escape(event.model),
            ]
        )
    intro = "Trainings in order of their end, and what was proposed with each model; files are in models/."
    return Section("Models of generators", paragraph(intro) + table(header, rows, numeric=range(1, 7)))
